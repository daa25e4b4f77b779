"""Every setting is documented where it is declared, and the page says what the models say."""

from pathlib import Path

import pytest

from ga2clip.errors import UserError
from ga2clip.registry import PARTS, TERMS
from ga2clip.settings import WEIGHTED_ELSEWHERE, Settings
from ga2clip.settings_table import as_markdown, setting_tables

ROOT = Path(__file__).resolve().parents[2]
LINES = {line.name: line for table in setting_tables() for line in table.lines}


def test_every_setting_says_what_it_means() -> None:
    assert [name for name, line in LINES.items() if not line.meaning] == []
    tree = Settings().model_dump()
    assert {f"{section}.{key}" for section, values in tree.items() for key in values} <= LINES.keys()


def test_types_and_defaults_are_those_of_the_models() -> None:
    shown = {name: (line.type, line.default) for name, line in LINES.items()}
    assert shown["training.lr"] == ("number > 0", "0.002")
    assert shown["augment.scale_min"] == ("number > 0, ≤ 1", "0.7")
    assert shown["data.shots"] == ("whole number ≥ 0", "16")
    assert shown["data.test_crops"] == ("1 | 3", "1")
    assert shown["training.betas"] == ("list of 2 numbers", "[0.9, 0.999]")
    assert shown["backbone.quick_gelu"] == ("true | false", "not set")
    assert shown["method.coupling"][0] == '"none" | "concat" | "mapping" | "residual" | "gated"'
    assert LINES["training.lr_floor"].meaning == "Share of the rate at which the schedule ends."


def test_registered_terms_and_parts_are_listed() -> None:
    terms = {name.removeprefix("loss.") for name in LINES if name.startswith("loss.")}
    assert terms == {*TERMS.names(), "label_smoothing"} - WEIGHTED_ELSEWHERE
    (parts,) = setting_tables("parts")
    assert all(part in parts.about for part in PARTS.names())


def test_an_unknown_section_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="trainig") as caught:
        setting_tables("trainig")
    assert "training" in (caught.value.hint or "")


def test_the_page_is_what_the_models_say() -> None:
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    generated = page.partition("<!-- generated -->\n")[2]
    assert generated == as_markdown(setting_tables()), "run `make docs`"
