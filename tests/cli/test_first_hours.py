"""What a newcomer types first: without torch, without names, without a network, with a typing error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ga2clip.run_files import read_settings
from tests.small_training import write_dataset

HEAVY = (
    "torch",
    "torchvision",
    "open_clip",
    "safetensors",
    "onnx",
    "onnxscript",
    "matplotlib",
    "scipy",
    "jinja2",
)
SMALL = ("--shots", "1", "--epochs", "1", "--frames", "2", "--method", "vpt", "--backbone", "tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("first")
    write_dataset(place / "data/stickfigures")
    return place


@pytest.fixture(scope="module")
def run(folder: Path, invoke) -> Path:
    code, _, err = invoke(folder, ["train", *SMALL, "--out", "runs/deep/one"])
    assert code == 0, err
    return folder / "runs/deep/one"


def test_the_base_install_alone_answers(process, clip: Path) -> None:
    code, out, err = process("predict", clip, "--classes", "kicking a ball, riding a bike", without=HEAVY)
    assert code == 0, err
    assert "kicking a ball" in out
    assert "riding a bike" in out
    assert "drawn world" in err
    assert "zero-shot on tiny (int8)" in err


def test_what_needs_no_model_needs_no_torch(process, run: Path) -> None:
    code, out, err = process("info", run, without=HEAVY)
    assert (code, err) == (0, "")
    assert "vpt on tiny" in out
    code, out, err = process("methods", without=HEAVY)
    assert (code, err) == (0, "")
    assert "promptsrc" in out
    assert process("methods", "promptsrc", without=HEAVY).code == 0
    assert process("settings", without=HEAVY).code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "training.lrr=1"), "did you mean 'lr'"),
        (("--method", "vtp"), "did you mean 'vpt'"),
        (("--dataset", "stickfigure"), "did you mean 'stickfigures'"),
        (("--set", "loss.scenari=1"), "did you mean 'scenario'"),
        (("--recipe", "nothing"), "unknown recipe"),
    ],
)
def test_a_typing_error_is_found_before_torch_is_loaded(process, words: tuple[str, ...], said: str) -> None:
    code, _, err = process("train", *words, without=("torch",))
    assert code == 1
    assert said in err


def test_a_sweep_is_read_before_torch_is_loaded() -> None:
    """Asked of the modules: scipy, which the tables need, does not load beside a missing torch."""
    code = "import sys; from ga2clip.experiments import jobs, sweep, tables; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_eval_and_export_take_the_newest_run(
    folder: Path, run: Path, invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = invoke(folder, ["eval"])
    assert code == 0, err
    assert "run: runs/deep/one" in err
    assert out.startswith("runs/deep/one: vpt on tiny")
    unfinished = folder / "runs/later"
    unfinished.mkdir()
    (unfinished / "settings.toml").write_text("")
    monkeypatch.setattr("ga2clip_export.export.export_run", lambda run, *_, **__: run / "bundle")
    code, out, err = invoke(folder, ["export"])
    assert code == 0, err
    assert "run: runs/deep/one" in err
    assert out.strip() == "runs/deep/one/bundle"


def test_without_a_run_the_commands_say_so(ga2clip) -> None:
    for command in ("eval", "export", "report"):
        code, out, err = ga2clip(command)
        assert (code, out) == (1, "")
        assert "no finished run in" in err
        assert "ga2clip train" in err


def test_tiny_alone_means_its_built_in_weights(run: Path) -> None:
    backbone = read_settings(run).backbone
    assert (backbone.name, backbone.pretrained) == ("tiny", "builtin")


def test_class_names_may_be_given_with_commas(ga2clip, clip: Path, empty: Path) -> None:
    code, out, _ = ga2clip("predict", clip, "--classes", "kicking a ball,riding a bike")
    assert code == 0
    assert len(out.splitlines()) == 3
    (empty / "a,b").write_text("one\ntwo\n")
    code, out, err = ga2clip("predict", clip, "--classes", "a,b")
    assert (code, out) == (1, "")
    assert "is a list of names and a file in this folder" in err
    assert "one" in ga2clip("predict", clip, "--classes", "./a,b").out
    assert "no file 'juggling'" in ga2clip("predict", clip, "--classes", "juggling").err
    assert "no file 'my,labels.txt'" in ga2clip("predict", clip, "--classes", "my,labels.txt").err
    assert "empty" in ga2clip("predict", clip, "--classes", "a,,b").err


@pytest.mark.slow
def test_a_backbone_is_exported_without_a_dataset_and_a_run(
    ga2clip, process, clip: Path, empty: Path
) -> None:
    words = ("export", "--backbone", "tiny", "--classes", "kicking a ball,riding a bike", "--frames", "2")
    code, out, err = ga2clip(*words, "--out", "zs", "--clip", clip)
    assert code == 0, err
    assert out == "zs\n"
    answer = process("predict", clip, without=HEAVY)
    assert "model: zero-shot on tiny (fp32), zs" in answer.err
    assert len(answer.out.splitlines()) == 3
    assert ga2clip(*words).code == 2  # --out is missing
    assert ga2clip("export", "runs/x", *words[1:], "--out", "y").code == 2
    assert ga2clip("export", "runs/x", "--pretrained", "openai").code == 2


@pytest.mark.slow
def test_weights_that_say_what_they_are_become_a_bundle_without_a_name(
    ga2clip, clip: Path, clip_file: Path, empty: Path
) -> None:
    """The config beside them says it; a tag does not. Frames may have another size than in their training."""
    words = ("--classes", "kicking a ball,riding a bike", "--frames", "2", "--clip", clip, "--out", "zs")
    code, _, err = ga2clip("export", "--pretrained", clip_file, "--image-size", "48", *words)
    assert code == 0, err
    card = json.loads((empty / "zs" / "bundle.json").read_text(encoding="utf-8"))
    assert (card["preprocess"]["size"], card["sampling"]["frames"]) == (48, 2)
    code, _, err = ga2clip("export", "--pretrained", "openai", *words)
    assert (code, "needs the name of an architecture" in err) == (1, True)
    assert ga2clip("export", "--image-size", "48").code == 2


def test_without_a_network_it_ends_soon_and_says_what_works(clip: Path, tmp_path: Path) -> None:
    """An address at which nobody listens is a network that is not there, wherever this test runs."""
    away = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub"), "no_proxy": "*"}
    words = ["predict", str(clip), "--model", "ViT-B-32:openai", "--classes", "a b,c d"]
    script = "import ga2clip.model.load_backbone, time; start = time.time()\n"
    script += "import atexit, sys; atexit.register(lambda: print('seconds', time.time() - start))\n"
    script += "from ga2clip_cli.__main__ import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", script, *words],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | away,
    )
    assert ended.returncode == 1
    assert "could not get the weights 'openai' of ViT-B-32: no answer from http://127.0.0.1:9" in ended.stderr
    assert "--backbone tiny" in ended.stderr
    assert float(ended.stdout.split()[-1]) < 30


def test_a_dry_run_warns_of_what_the_training_warns_of(folder: Path, invoke) -> None:
    words = ["train", "--method", "ga2", "--epochs", "1", "--shots", "1", "--frames", "2", "--dry-run"]
    code, _, err = invoke(folder, words)
    assert code == 0
    assert "the mapping layer starts from random values" in err


@pytest.mark.parametrize(("typed", "offered"), [("ga2clip ev", "eval"), ("ga2clip train --me", "--method")])
def test_the_shell_completes(monkeypatch: pytest.MonkeyPatch, typed: str, offered: str) -> None:
    """As bash asks: the words so far and the place of the last one, in the environment."""
    monkeypatch.setenv("_GA2CLIP_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
    script = "import sys; sys.argv[0] = 'ga2clip'; from ga2clip_cli.__main__ import main; main()"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.stdout.split() == [offered], ended.stderr
