"""The settings tree: what is refused, how overrides are read, and that a file repeats a tree."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from ga2clip.errors import UserError
from ga2clip.settings import Settings
from ga2clip.settings_reading import merge, parse_overrides

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_overrides_are_toml_values_or_text() -> None:
    pairs = [
        "training.lr=0.5",
        'anchors.negatives=["a", "b"]',
        "method.text_init=a video of",
        "data.cache=false",
    ]
    assert parse_overrides(pairs) == {
        "training": {"lr": 0.5},
        "anchors": {"negatives": ["a", "b"]},
        "method": {"text_init": "a video of"},
        "data": {"cache": False},
    }
    assert parse_overrides(["parts.lora.rank=4"]) == {"parts": {"lora": {"rank": 4}}}


@pytest.mark.parametrize("pair", ["lr=1", "training.lr", "training.lr.x=1", "parts.lora=1", "=1"])
def test_what_is_no_override_is_refused(pair: str) -> None:
    with pytest.raises(UserError, match="is not a setting"):
        parse_overrides([pair])


@pytest.mark.parametrize(
    ("tree", "message", "hint"),
    [
        ({"trainin": {}}, "unknown setting 'trainin'", "did you mean 'training'"),
        ({"training": {"epoch": 1}}, "unknown setting 'training.epoch'", "did you mean 'epochs'"),
        ({"loss": {"kgcop": 1.0}}, "unknown setting 'loss.kgcop'", "did you mean 'kgcoop'"),
        ({"loss": {"anchor": 1.0}}, "unknown setting 'loss.anchor'", "valid"),
        ({"parts": {"no_such_part": {}}}, "unknown setting 'parts.no_such_part'", "valid"),
    ],
)
def test_unknown_settings_get_the_nearest(tree: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"mine.toml: {message}") as caught:
        Settings.from_dict(tree, "mine.toml")
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    "tree",
    [
        {"training": {"lr": -1}},
        {"loss": {"kgcoop": -1}},
        {"loss": {"kgcoop": "much"}},
        {"data": {"frames": 0}},
        {"training": {"betas": [8.9, 0.9]}},
        {"training": {"lr": math.inf}},
        {"training": {"seed": -1}},
        {"training": {"seed": 2**32}},
        {"training": {"epochs": 2**70}},
        {"method": {"text_length": 10**9}},
        {"loss": {"kgcoop": math.inf}},
    ],
)
def test_values_out_of_range_name_their_setting(tree: dict[str, dict[str, Any]]) -> None:
    section, values = next(iter(tree.items()))
    with pytest.raises(UserError, match=rf"setting '{section}\.{next(iter(values))}'"):
        Settings.from_dict(tree, "mine.toml")


def test_a_file_repeats_the_tree(tmp_path: Path) -> None:
    tree = {"loss": {"kgcoop": 8.0, "label_smoothing": 0.1}, "training": {"betas": [0.9, 0.98]}}
    settings = Settings.from_dict(tree, "test")
    text = settings.to_toml()
    (tmp_path / "settings.toml").write_text(text)
    assert Settings.read(tmp_path / "settings.toml") == settings
    assert tomllib.loads(text)["loss"] == {"label_smoothing": 0.1, "kgcoop": 8.0}


def test_terms_and_their_weights() -> None:
    loss = Settings.from_dict({"loss": {"kgcoop": 8.0, "scenario": 0}}, "test").loss
    assert loss.terms() == ("kgcoop",)
    assert (loss.weight("kgcoop"), loss.weight("scenario"), loss.weight("text_consistency")) == (
        8.0,
        0.0,
        0.0,
    )


def test_merge_lays_tables_over_tables() -> None:
    below = {"a": {"x": 1, "y": 2}, "b": 3}
    assert merge(below, {"a": {"y": 5}, "c": 4}) == {"a": {"x": 1, "y": 5}, "b": 3, "c": 4}
    assert below == {"a": {"x": 1, "y": 2}, "b": 3}
