"""Every mistake gets one or two lines that say what, where and what to do, an exit code, and leaves nothing."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def labels(empty: Path) -> Path:
    path = empty / "labels.txt"
    path.write_text("kicking a ball\nwaving a flag\n")
    return path


def short(err: str) -> bool:
    """An error and at most one hint, beside the line that names the model."""
    lines = [line for line in err.splitlines() if not line.startswith(("model:", "no bundle"))]
    return lines[0].startswith("error: ") and len(lines) <= 2


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (
            ("prepare", "--dataset", "stickfigurs"),
            "unknown dataset 'stickfigurs'",
            "did you mean 'stickfigures'",
        ),
        (("train", "--dataset", "ucf10"), "unknown dataset 'ucf10'", "did you mean 'ucf101'"),
        (("train", "--method", "ga3"), "unknown method 'ga3'", "did you mean 'ga2'"),
        (("train", "--set", "training.lrate=1"), "unknown setting 'training.lrate'", "did you mean 'lr'"),
        (("train", "--logger", "dril"), "unknown logger 'dril'", "tensorboard, wandb"),
        (("train", "--set", "lr=1"), "'lr=1' is not a setting", "--set section.key=value"),
        (("train", "--protocol", "fewshot"), "unknown protocol 'fewshot'", "did you mean 'few-shot'"),
        (("train", "--anchor-loss", "none"), "anchors.loss", ""),
        (("train", "--dataset", "stickfigures"), "not a prepared dataset", "ga2clip prepare"),
        (("train", "--resume", "nowhere"), "nowhere", "ga2clip train"),
        (("eval", "nowhere"), "no run at nowhere", "ga2clip train"),
        (("export", "nowhere"), "no run at nowhere", "ga2clip train"),
        (("info", "nowhere"), "nothing at nowhere", "ga2clip export"),
        (("prepare", "--dataset", "ucf101"), "ucf101", "UCF-101/<Class>"),
        (("reproduce", "stickfigures"), "no published GA2-CLIP figures for 'stickfigures'", "ucf101"),
        (("methods", "--backbone", "ViT-B-17"), "unknown backbone 'ViT-B-17'", "ViT-B-16"),
    ],
)
def test_names_and_places(ga2clip, left_behind, words: tuple[str, ...], message: str, hint: str) -> None:
    code, out, err = ga2clip(*words)
    assert code == 1
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert hint in err
    assert left_behind() == []


def test_missing_video(ga2clip, labels: Path) -> None:
    code, out, err = ga2clip("predict", "nowhere.mp4", "--model", "tiny", "--classes", labels)
    assert (code, out) == (1, "")
    assert "nowhere.mp4" in err


def test_unreadable_video(ga2clip, empty: Path, labels: Path) -> None:
    (empty / "text.mp4").write_text("this is no video")
    code, out, err = ga2clip("predict", "text.mp4", "--model", "tiny", "--classes", labels)
    assert (code, out) == (1, "")
    assert "text.mp4" in err
    assert short(err)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no class name"),
        ("# only a comment\n\n", "holds no class name"),
        ("kick\nwave\nkick\n", "'kick' is on line 1 and again on line 3"),
        ("ok\n" + "very " * 80 + "long\n", "too long"),
    ],
)
def test_class_lists(ga2clip, clip: Path, labels: Path, text: str, message: str) -> None:
    labels.write_text(text)
    code, out, err = ga2clip("predict", clip, "--model", "tiny", "--classes", labels)
    assert (code, out) == (1, "")
    assert message in err
    assert short(err)


def test_class_list_that_is_not_there_or_not_text(ga2clip, empty: Path, clip: Path) -> None:
    assert "cannot read class list" in ga2clip("predict", clip, "--classes", "nowhere.txt").err
    (empty / "bytes.txt").write_bytes(b"\xff\xfe\xfa")
    assert "not UTF-8" in ga2clip("predict", clip, "--classes", "bytes.txt").err


def test_zero_shot_asks_for_classes(ga2clip, clip: Path) -> None:
    code, _, err = ga2clip("predict", clip)
    assert code == 1
    assert "no bundle in this folder" in err
    assert "--classes FILE" in err


def test_model_that_is_nothing(ga2clip, empty: Path, clip: Path, labels: Path) -> None:
    (empty / "folder").mkdir()
    for model, found in (
        ("folder", "neither a bundle nor a run at folder"),
        ("no/such", "nothing at no/such"),
    ):
        code, _, err = ga2clip("predict", clip, "--model", model, "--classes", labels)
        assert code == 1
        assert found in err
    code, _, err = ga2clip("predict", clip, "--model", "ViT-B-61", "--classes", labels)
    assert code == 1
    assert "did you mean 'ViT-B-16'" in err


def test_no_network_for_a_model_hub(
    ga2clip, clip: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip

    from ga2clip.model import download

    monkeypatch.setattr(download, "_answers", lambda _: True)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(open_clip, "create_model", refuse)
    code, _, err = ga2clip("predict", clip, "--model", "ViT-B-16:openai", "--classes", labels)
    assert code == 1
    assert "could not get the weights 'openai' of ViT-B-16: Name or service not known" in err
    assert "--pretrained FILE" in err
    assert short(err)


@pytest.mark.parametrize(
    "words",
    [
        ("predict",),
        ("predict", "a.mp4", "--top", "0"),
        ("predict", "a.mp4", "--json", "--csv", "out.csv"),
        ("predict", "a.mp4", "b.mp4", "--timeline"),
        ("train", "--epochs", "many"),
        ("train", "--resume", "run", "--seed", "2"),
        ("trian",),
        ("eval", "run", "--no-such-option"),
        ("eval", "run", "--views", "4x2"),
    ],
)
def test_usage(ga2clip, left_behind, words: tuple[str, ...]) -> None:
    code, out, err = ga2clip(*words)
    assert (code, out) == (2, "")
    assert "Error" in err
    assert left_behind() == []


def test_missing_extra(process, clip: Path, labels: Path) -> None:
    for words in (("train",), ("eval", "run"), ("predict", clip, "--model", "tiny", "--classes", labels)):
        code, out, err = process(*words, without=("torch", "open_clip"))
        assert (code, out) == (1, "")
        assert "needs the 'train' extra" in err
        assert "pip install 'ga2clip[train]'" in err
        assert "Traceback" not in err


def test_debug_shows_the_traceback_wherever_it_stands(process) -> None:
    for words in (("--debug", "info", "nowhere"), ("info", "nowhere", "--debug")):
        code, _, err = process(*words)
        assert code == 1
        assert "Traceback" in err
        assert "error: " in err


def test_an_unexpected_error_says_how_to_report_it(ga2clip, monkeypatch: pytest.MonkeyPatch) -> None:
    from ga2clip import descriptions

    def fail(text: str) -> list[str]:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr(descriptions, "given_classes", fail)
    code, out, err = ga2clip("predict", "clip.mp4", "--classes", "labels.txt")
    assert (code, out) == (1, "")
    assert err.splitlines()[0] == "error: unexpected ZeroDivisionError: first line"
    assert "--debug" in err


def test_interrupt(empty: Path) -> None:
    """Ctrl-C while a command waits: exit code 130 and one line."""
    waits = (
        "import sys, signal, ga2clip.labels as labels\n"
        "def wait(path):\n    print('ready', flush=True)\n    signal.pause()\n"
        "labels.names_or_file = wait\n"
        "sys.argv = ['ga2clip', 'predict', 'a.mp4', '--classes', 'x']\n"
        "from ga2clip_cli.__main__ import main\nmain()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", waits], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGINT)
        try:
            _, err = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 130
    assert err.strip() == "interrupted"
