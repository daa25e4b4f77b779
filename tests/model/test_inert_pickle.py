"""Checkpoints with settings pickled beside the weights: plain data is read, everything else is refused by name."""

import argparse
import builtins
import os
import pickle
import sys
import types
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ga2clip.errors import UserError
from ga2clip.model.weights import read_weights

ZIPPED = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


@pytest.fixture
def cfg_node(monkeypatch: pytest.MonkeyPatch) -> Any:
    """yacs' CfgNode as its pickle knows it: a dict with attributes."""
    module = types.ModuleType("yacs.config")
    module.CfgNode = type("CfgNode", (dict,), {"__module__": "yacs.config"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    return module.CfgNode


def save(content: Any, path: Path, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@ZIPPED
def test_a_training_scripts_settings_are_plain_data(
    cfg_node: Any, tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cfg_node({"DATA": cfg_node({"DATASET": "kinetics400"}), "BASE": [""]})
    config.__dict__.update({"__immutable__": True, "__renamed_keys__": {}, "__deprecated_keys__": set()})
    config["DATA"].__dict__["__new_allowed__"] = False
    content = {
        "model": OrderedDict(weight=torch.arange(3.0)),
        "config": config,
        "max_accuracy": np.float64(61.5),
        "epoch": np.int64(9),
        "args": argparse.Namespace(rate=0.1),
        "groups": defaultdict(list, {"a": [1]}),
        "mean": np.arange(2.0),
        "output": Path("runs/1"),
    }
    path = save(content, tmp_path / "best.pth", zipped)
    monkeypatch.delitem(sys.modules, "yacs.config")
    read = read_weights(path)
    assert torch.equal(read["model"]["weight"], torch.arange(3.0))
    assert read["config"] == {"DATA": {"DATASET": "kinetics400"}, "BASE": [""]}
    assert (read["max_accuracy"], read["epoch"], read["args"].rate) == (61.5, 9, 0.1)
    assert read["groups"] == {"a": [1]}
    assert read["output"] == "runs/1"


class Trick:
    """Pickles as a call."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call = call, arguments

    def __reduce__(self) -> Any:
        return self.call


@ZIPPED
@pytest.mark.parametrize(
    ("call", "named"),
    [
        ((os.system, "touch exploded"), "system"),
        ((builtins.eval, "open('exploded', 'w')"), "eval"),
        ((builtins.getattr, {}, "keys"), "getattr"),
        ((pickle.loads, b"N."), r"pickle\.loads"),
        ((Path.write_text, Path("exploded"), ""), "getattr|write_text"),
    ],
)
def test_whatever_could_run_code_is_refused_by_name(
    call: Any, named: str, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = save({"model": {"w": torch.zeros(1)}, "config": Trick(*call)}, tmp_path / "bad.pth", zipped)
    with pytest.raises(UserError, match=rf"bad\.pth holds \S*({named}).*could run code"):
        read_weights(path)
    assert not (tmp_path / "exploded").exists()


def test_a_known_container_does_not_smuggle_in_a_call(
    cfg_node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = cfg_node(DATA=1)
    config.__dict__["__renamed_keys__"] = Trick(os.system, "touch exploded")
    with pytest.raises(UserError, match="system"):
        read_weights(save({"config": config}, tmp_path / "bad.pth"))
    cfg_node.__reduce__ = lambda self: (cfg_node, ({"a": Trick(os.system, "touch exploded")},))
    with pytest.raises(UserError, match="system"):
        read_weights(save({"config": cfg_node()}, tmp_path / "bad.pth"))
    assert not (tmp_path / "exploded").exists()


def test_an_unknown_class_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds \S*Trick2"):
        read_weights(save({"config": Trick2()}, tmp_path / "bad.pth"))


class Trick2:
    """A class that nobody knows."""


def test_nonsense_in_a_known_class_is_an_error_not_a_crash(tmp_path: Path) -> None:
    bad = Trick(np.dtype, "O8")
    path = save({"x": Trick(np.float64(1).__reduce__()[0], bad, b"12345678")}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match=r"bad\.pth is not a readable weights file"):
        read_weights(path)
