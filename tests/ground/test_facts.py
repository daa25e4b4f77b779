"""CLIP's numbers and the names of choices stand in one place each."""

import ast
from pathlib import Path
from typing import get_args

import pytest

from ga2clip import settings
from ga2clip.choices import PROVIDERS, is_gpu
from ga2clip.compute import precision
from ga2clip.compute.precision import autocast_dtype, precision_name
from ga2clip.labels import SCENARIO_PHRASE
from ga2clip.runtime.engine import _ORT_PROVIDERS
from ga2clip.tokenizer import CONTEXT, VOCABULARY

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("number", [CONTEXT, VOCABULARY, VOCABULARY - 1])
def test_a_number_of_clip_is_written_down_once(number: int) -> None:
    files = [path for room in ("ga2clip", "ga2clip_cli", "export") for path in (ROOT / room).rglob("*.py")]
    found = [
        path.name
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value == number
    ]
    assert set(found) <= {"tokenizer.py"}
    assert len(found) <= 1


def test_the_scenario_sentence_is_written_down_once() -> None:
    files = [
        path
        for room in ("ga2clip", "ga2clip_cli", "export", "scripts")
        for path in (ROOT / room).rglob("*.py")
    ]
    found = [path.name for path in files if SCENARIO_PHRASE in path.read_text(encoding="utf-8")]
    assert found == ["labels.py"]


def test_every_precision_of_training_has_a_dtype_that_knows_its_name() -> None:
    import torch

    for name in set(get_args(settings.Precision)) - {"auto"}:
        assert precision_name(autocast_dtype(name, torch.device("cuda"), 768)) == name


@pytest.mark.parametrize(
    ("width", "native", "wanted"), [(128, True, "fp32"), (256, True, "bf16"), (256, False, "fp32")]
)
def test_auto_takes_bf16_where_the_cpu_has_it_and_the_tower_is_wide(
    monkeypatch: pytest.MonkeyPatch, width: int, native: bool, wanted: str
) -> None:
    import torch

    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: native)
    assert precision_name(autocast_dtype("auto", torch.device("cpu"), width)) == wanted


def test_every_provider_has_an_engine() -> None:
    assert set(PROVIDERS) == {"auto", "openvino", *_ORT_PROVIDERS}
    on_gpu = {name for name, chain in _ORT_PROVIDERS.items() if "CUDAExecutionProvider" in chain}
    assert {name for name in (*PROVIDERS, "cuda:1") if is_gpu(name)} == on_gpu | {"cuda:1"}
