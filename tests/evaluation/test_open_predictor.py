"""Which model a name stands for, where it computes, and what is said when there is none."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ga2clip.errors import UserError
from ga2clip.evaluation.open_predictor import newest_bundle, open_predictor
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.run import write_run
from ga2clip.runtime.bundle_model import BundleModel


def card(folder: Path, when: float) -> str:
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_text("{}")
    os.utime(folder / "bundle.json", (when, when))
    return str(folder)


def test_the_newest_bundle_is_not_a_hidden_one(tmp_path, monkeypatch) -> None:
    """A killed export leaves `.bundle.123`; hidden folders above count as hidden too."""
    assert newest_bundle(tmp_path) is None
    card(tmp_path / ".bundle.123", 9)
    card(tmp_path / "runs/ga2/.bundle.7", 8)
    card(tmp_path / ".cache/bundle", 7)
    assert newest_bundle(tmp_path) is None
    card(tmp_path / "runs/ga2/bundle", 2)
    newer = card(tmp_path / "other", 3)
    card(tmp_path / "a/b/c/d", 6)  # four levels down
    assert newest_bundle(tmp_path) == newer
    hidden_place = tmp_path / ".home"
    found = card(hidden_place / "bundle", 1)
    assert newest_bundle(hidden_place) == found
    monkeypatch.chdir(hidden_place)
    assert newest_bundle(Path()) == "bundle"


def test_without_a_name_tiny_is_taken_and_named(tmp_path, monkeypatch, caplog, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        caplog.at_level(logging.INFO, "ga2clip"),
        open_predictor(classes=["running", "sleeping"], device="cpu") as predictor,
    ):
        assert predictor.name.startswith("zero-shot on tiny (int8), ")
        assert predictor.classes == ("running", "sleeping")
    assert "no bundle in this folder" in caplog.text
    assert "drawn world" in caplog.text
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere/bundle", "nothing at nowhere/bundle"),
        (".", "neither a bundle nor a run at ."),
        ("tiny", "zero-shot has no classes of its own"),
    ],
)
def test_names_of_nothing(tmp_path, monkeypatch, name, message) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        open_predictor(name)
    assert message in caught.value.message


def test_weights_may_be_read_under_the_name_of_published_ones(tmp_path, monkeypatch) -> None:
    """`NAME/TAG:FILE` is a backbone although it has a slash; folders with one are still paths."""
    monkeypatch.chdir(tmp_path)
    for words in (
        "ViT-B-16/dfn2b:weights.pt",
        "ViT-B-16/dfn2b:./sub/weights.pt",
        f"ViT-B-16:{tmp_path}/x.pt",
    ):
        with pytest.raises(UserError, match=f"no weights file at .*{Path(words.partition(':')[2]).name}"):
            open_predictor(words, classes=["a"])
    for path in ("runs/ga2", "../runs/ga2:0", "/runs/ga2:0", "runs/a/b:0"):
        with pytest.raises(UserError, match=f"nothing at {path}"):
            open_predictor(path, classes=["a"])


def test_a_backbone_that_nobody_knows_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown backbone 'ViT-B-17'") as caught:
        open_predictor("ViT-B-17", classes=["a"])
    assert "ViT-B-16" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("asked", "obtained"),
    [
        ({}, "auto"),
        ({"device": "cpu"}, "cpu"),
        ({"device": "cuda:1"}, "cuda:1"),
        ({"provider": "openvino", "device": "cpu"}, "openvino"),
        ({"provider": "tensorrt", "device": "cuda"}, "tensorrt"),
        ({"provider": "cpu", "device": "cpu"}, "cpu"),
    ],
)
def test_the_device_of_a_bundle_is_its_provider(bundle, monkeypatch, asked, obtained) -> None:
    taken = []
    real = BundleModel.__init__

    def note(self, path, *, provider, **rest):
        taken.append(provider)
        real(self, path, provider="cpu", **rest)
        self.provider = provider

    monkeypatch.setattr(BundleModel, "__init__", note)
    with open_predictor(bundle, cache=False, **asked):
        assert taken == [obtained]


def test_where_to_compute_is_said_once(bundle, model: VideoCLIP, tmp_path) -> None:
    run = write_run(tmp_path / "run", model.settings, model)
    with pytest.raises(UserError, match="provider 'cpu' and device 'cuda' exclude each other"):
        open_predictor(bundle, provider="cpu", device="cuda")
    with pytest.raises(UserError, match="'tensorrt' and device 'cuda:1' exclude each other"):
        open_predictor(bundle, provider="tensorrt", device="cuda:1")  # its engine has no number of a device
    for option in ("provider", "device"):
        with open_predictor(run, **{option: "cpu"}) as predictor:
            assert predictor.provider == "torch on cpu"
    with pytest.raises(UserError, match="provider 'openvino' needs a bundle"):
        open_predictor(run, provider="openvino")
    for either in (run, bundle):
        for name in ("gpu", "openvino", "cuda:one"):
            with pytest.raises(UserError, match=f"unknown device '{name}'"):
                open_predictor(either, device=name)
    with pytest.raises(UserError, match="threads must be 0 or more"):
        open_predictor(run, device="cpu", threads=-1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_a_device_that_is_not_there_is_refused_and_a_provider_replaced(
    bundle, model: VideoCLIP, tmp_path, caplog, device: str
) -> None:
    run = write_run(tmp_path / "run", model.settings, model)
    with pytest.raises(UserError, match="no GPU"):
        open_predictor(run, device=device)
    with pytest.raises(UserError, match=f"ONNX Runtime cannot compute on '{device}' here: it offers 'cpu'"):
        open_predictor(bundle, device=device)
    with open_predictor(bundle, provider=device, cache=False) as predictor:
        assert predictor.provider == "cpu"
    assert f"asked for the provider '{device}', got 'cpu'" in caplog.text


def test_a_bundle_needs_no_torch_and_nothing_is_printed(bundle, clip_path, tmp_path) -> None:
    """Also where the GPU provider fails, of which ONNX Runtime would tell on stdout."""
    script = (
        "import sys, json; sys.modules['torch'] = None\n"
        "from ga2clip.evaluation.open_predictor import open_predictor\n"
        "for provider in ('tensorrt', 'cuda', 'auto'):\n"
        "    with open_predictor(sys.argv[1], provider=provider, threads=1) as predictor:\n"
        "        answer = predictor.predict(sys.argv[2], ['running', 'sleeping'])\n"
        "print(json.dumps(dict(answer.predictions)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(bundle), str(clip_path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"GA2CLIP_CACHE": str(tmp_path)},
    )
    assert json.loads(done.stdout).keys() == {"running", "sleeping"}
