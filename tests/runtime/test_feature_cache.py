"""Remembered features of class names: kept apart by all that reaches them, checked before use, listed and deleted."""

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from ga2clip.errors import UserError
from ga2clip.runtime import BundleCard, Predictor, open_bundle
from ga2clip.runtime.bundle import Bundle
from ga2clip.runtime.card import TEXT_ENCODER
from ga2clip.runtime.feature_cache import FeatureCache, cache_folder, check_cache, clear_cache
from ga2clip.runtime.text import ClassEncoder, origin

NAMES = ["running", "jumping"]
BUILTIN = Path(str(resources.files("ga2clip.assets"))) / "tiny" / "bundle"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("GA2CLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "text"


@pytest.fixture
def encode(bundle: Path) -> Callable[..., np.ndarray]:
    """A function that encodes names with a bundle, remembering them unless told otherwise."""

    def run(path: Path = bundle, *, cache: bool = True, **question: object) -> np.ndarray:
        with Predictor(path, provider="cpu", threads=1, cache=cache) as predictor:
            return predictor.encode_classes(NAMES, **question)

    return run


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(ClassEncoder, "_run", lambda self, texts: pytest.fail("was cached"))


def cache_of(bundle: Path) -> FeatureCache:
    card = open_bundle(bundle).card
    return FeatureCache(origin(card, "cpu"), card.embedding)


def change(path: Path, sql: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(sql, values)
    connection.close()


def test_no_text_encoder_is_opened_for_names_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = Bundle.engine

    def engine(self: Bundle, name: str, *args: object, **options: object) -> object:
        opened.append(name)
        return original(self, name, *args, **options)

    monkeypatch.setattr(Bundle, "engine", engine)
    for expected in (1, 0):  # the built-in bundle also says which words it has never seen
        opened.clear()
        with Predictor(BUILTIN, provider="cpu", threads=1) as predictor:
            predictor.scorer(["riding a bike", "juggling a sword"])
        assert opened.count(TEXT_ENCODER) == expected


def test_in_int8_the_features_of_a_name_do_not_depend_on_the_names_asked_with_it() -> None:
    names = ["balancing a ball", "juggling a sword", "waving"]
    with Predictor(BUILTIN, provider="cpu", threads=1, cache=False) as predictor:
        assert predictor.model.bundle.card.precision == "int8"
        together = predictor.encode_classes(names, template="{} x")
        alone = [predictor.encode_classes([name], template="{} x")[0] for name in names]
    np.testing.assert_array_equal(together, alone)


def test_names_are_encoded_once_for_each_template(encode, no_encoder) -> None:
    computed = encode()
    other = encode(template="not {}")
    assert np.abs(other - computed).max() > 1e-3
    no_encoder()
    np.testing.assert_array_equal(encode(), computed)
    np.testing.assert_array_equal(encode(template="not {}"), other)


@pytest.mark.parametrize(("key", "value"), [("prompt_tokens", 3), ("placeholder", 5), ("context", 70)])
def test_a_bundle_cannot_change_what_another_one_reads(bundle, encode, tmp_path, key, value) -> None:
    """The copy differs in one number of its card; its features must not become the honest bundle's."""
    honest = encode(cache=False)
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    card = json.loads((copy / "bundle.json").read_text())
    assert card["text"][key] != value
    card["text"][key] = value
    (copy / "bundle.json").write_text(json.dumps(card))
    encode(copy)
    np.testing.assert_array_equal(encode(), honest)
    assert len(check_cache()) == 2


def test_a_copy_whose_weights_alone_were_changed_computes_nothing_and_remembers_nothing(
    bundle, encode, tmp_path
) -> None:
    """Its card, and so its key, is that of the honest bundle."""
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    encoder = copy / "text_encoder.onnx"
    encoder.write_bytes(encoder.read_bytes()[:-1] + b"\0")
    assert cache_of(copy).path == cache_of(bundle).path
    with pytest.raises(UserError, match=r"text_encoder\.onnx is damaged"):
        encode(copy)
    assert check_cache() == []


def changed_cards(card: BundleCard) -> dict[str, tuple[BundleCard, str]]:
    last = {
        name: entry.model_copy(update={"sha256": entry.sha256[:-1] + "fe"[entry.sha256[-1] == "f"]})
        for name, entry in card.files.items()
    }
    changed = {
        f"last digit of {name}": card.model_copy(update={"files": {**card.files, name: entry}})
        for name, entry in last.items()
    }
    beside = {**card.files, "weights.bin": card.files["probe.npz"]}
    changed["weights beside the graph"] = card.model_copy(update={"files": beside})
    return {what: (other, "cpu") for what, other in changed.items()} | {"provider": (card, "cuda")}


def test_everything_that_reaches_a_feature_is_in_the_key(bundle) -> None:
    card = open_bundle(bundle).card
    keys = {what: FeatureCache(origin(*other), 32).path for what, other in changed_cards(card).items()}
    keys["itself"] = FeatureCache(origin(card, "cpu"), 32).path
    assert len(set(keys.values())) == len(keys) == 2 + len(card.files) + 1
    assert all(len(path.stem) == 64 for path in keys.values())


def test_a_cache_that_another_process_has_just_made_is_used(bundle, encode, caplog) -> None:
    path = cache_of(bundle).path
    path.parent.mkdir(parents=True)
    path.touch()
    encode()
    assert cache_of(bundle).get(["running."]).keys() == {"running."}
    assert not caplog.records


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("UPDATE features SET feature = ?", (b"\x00\x00\xc0\x7f" * 32,)),  # NaN
        ("UPDATE features SET feature = ?", (np.eye(32, dtype=np.float32)[0].tobytes(),)),  # of length 1
        ("UPDATE features SET feature = (SELECT feature FROM features LIMIT 1)", ()),  # another text's
        ("UPDATE features SET feature = ?", (b"short",)),
        ("UPDATE features SET feature = ?, hash = NULL", ("text",)),
    ],
)
def test_a_feature_that_is_not_what_was_written_is_computed_again(
    bundle, encode, caplog, sql, values
) -> None:
    right = encode()
    change(cache_of(bundle).path, sql, *values)
    assert re.match(r"\d+ features?: ", str(check_cache()[0].fault))
    np.testing.assert_array_equal(encode(), right)
    assert "damaged" in caplog.text
    assert check_cache()[0].fault is None


def test_a_feature_of_another_length_is_not_believed_even_where_its_hash_is_right(bundle) -> None:
    cache = cache_of(bundle)
    cache.put({"long": np.full(32, 2, np.float32), "right": np.eye(32, dtype=np.float32)[3]})
    assert cache.get(["long", "right"]).keys() == {"right"}


def test_the_file_of_another_bundle_is_not_believed(bundle, encode, caplog) -> None:
    right = encode()
    path = cache_of(bundle).path
    stranger = FeatureCache({"files": "others", "embedding": 32}, 32)
    stranger.put({"running.": np.eye(32, dtype=np.float32)[0]})
    stranger.path.replace(path)
    np.testing.assert_array_equal(encode(), right)
    assert "written for another bundle" in caplog.text
    assert "its name is not the hash" in str(check_cache()[0].fault)


def test_a_file_that_is_no_database_is_reported_once(bundle, encode, caplog) -> None:
    right = encode()
    cache_of(bundle).path.write_bytes(b"this is no database at all, but long enough to look at" * 50)
    np.testing.assert_array_equal(encode(), right)
    assert len(caplog.records) == 1
    assert "cannot be used" in caplog.text
    assert "cannot be read" in str(check_cache()[0].fault)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_no_error(encode, tmp_path) -> None:
    tmp_path.chmod(0o500)
    assert encode().shape == (2, 32)


def test_checked_and_cleared(bundle, encode, folder) -> None:
    assert check_cache() == []
    assert clear_cache() == (0, 0)
    encode()
    old = folder / "0123456789abcdef01234567-01234567.sqlite"
    change(old, "CREATE TABLE features (text TEXT PRIMARY KEY, feature BLOB)")
    (folder / "notes.txt").write_text("mine")
    found = {file.path.name: file for file in check_cache()}
    assert found[cache_of(bundle).path.name].features == 2
    assert found[cache_of(bundle).path.name].fault is None
    assert "older version" in str(found[old.name].fault)
    assert clear_cache() == (2, sum(file.bytes for file in found.values()))
    assert [path.name for path in cache_folder().iterdir()] == ["notes.txt"]
