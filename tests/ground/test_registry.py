"""Names come from files, from entry points and from calls; nothing is imported before it is asked for."""

import subprocess
import sys

import pytest

from ga2clip.errors import UserError
from ga2clip.registry import BACKBONES, DATASETS, PARTS, TERMS, Registry


def test_files_are_names_and_names_are_registered() -> None:
    assert set(TERMS.names()) >= {
        "anchor",
        "cross_entropy",
        "image_consistency",
        "kgcoop",
        "logit_consistency",
        "scenario",
        "text_consistency",
    }
    assert set(PARTS.names()) >= {"coupling", "inter_modal", "linear_probe", "text_prompt", "vision_prompt"}
    assert {"ucf101", "stickfigures-other", "folder"} <= set(DATASETS.names())
    for registry in (TERMS, PARTS, DATASETS, BACKBONES):
        assert all(registry[name] is not None for name in registry.names())


def test_names_are_known_without_torch() -> None:
    code = (
        "import sys; from ga2clip.registry import PARTS, TERMS;"
        "print(sorted(PARTS.names())[0], 'kgcoop' in TERMS, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["coupling", "True", "False"]


def test_a_second_thing_of_one_name_is_refused() -> None:
    registry = Registry("thing", "ga2clip.model.terms", "ga2clip.no_such_group")
    registry.register("new")(first := object())
    assert registry["new"] is first
    with pytest.raises(UserError, match="the thing 'new' is registered twice"):
        registry.register("new")(object())


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown loss term 'kgcop'") as caught:
        TERMS["kgcop"]
    assert "did you mean 'kgcoop'" in (caught.value.hint or "")


def test_a_file_that_does_not_register_its_name_is_named() -> None:
    registry = Registry("thing", "ga2clip.model.terms", "ga2clip.no_such_group")
    with pytest.raises(UserError, match="importing it does not register that name"):
        registry["kgcoop"]
