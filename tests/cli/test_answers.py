"""Files of answers as `ga2clip predict` writes and continues them."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import ga2clip as package
from ga2clip.errors import UserError
from ga2clip.runtime import engine


@pytest.fixture
def labels(empty: Path) -> Path:
    path = empty / "labels.txt"
    path.write_text("name\n=kicking a ball\nwaving a flag\n")
    return path


@pytest.fixture
def clips(empty: Path, clip: Path) -> Path:
    """Two clips and a file that is none, between them."""
    folder = empty / "clips"
    folder.mkdir()
    for name in ("a.mp4", "c.mp4"):
        (folder / name).write_bytes(clip.read_bytes())
    (folder / "b.mp4").write_text("no video")
    return folder


TINY = ("--model", "tiny", "--classes", "labels.txt")


def test_an_encoder_that_cannot_be_loaded_is_said_and_no_file_is_begun(
    ga2clip, clips: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = engine._load

    def refuse(path: Path, *how: Any) -> Any:
        if path.name == "video_encoder.onnx":
            raise UserError(f"ONNX Runtime cannot load {path.name}", "export it again")
        return load(path, *how)

    monkeypatch.setattr(engine, "_load", refuse)
    bundle = Path(package.__file__).parent / "assets" / "tiny" / "bundle"
    question = ("predict", "clips", "--model", str(bundle), "--classes", "labels.txt")
    for option in ([], ["--json"], ["--csv", "out.csv"]):
        code, out, err = ga2clip(*question, *option)
        assert (code, out) == (1, "")
        told = "error: ONNX Runtime cannot load video_encoder.onnx\nhint: export it again\n"
        assert err.endswith(told)
    assert not (clips.parent / "out.csv").exists()


@pytest.mark.parametrize("option", ["--csv", "--jsonl"])
def test_failures_are_said_and_counted(ga2clip, clips: Path, labels: Path, option: str) -> None:
    code, out, err = ga2clip("predict", "clips", *TINY, option, "out.file")
    assert (code, out) == (1, "")
    _, error, summary = err.splitlines()
    assert error.startswith("error: cannot read the video 'clips/b.mp4'")
    assert summary == "2 videos answered, 1 failed: out.file"
    code, out, err = ga2clip("predict", "clips", *TINY)
    assert code == 1
    assert out.count("frames of") == 2
    assert err.splitlines()[2:] == ["1 of 3 videos failed"]


def test_a_batch_cut_anywhere_ends_as_one_that_was_not(
    ga2clip, clips: Path, labels: Path, empty: Path
) -> None:
    path = empty / "out.csv"
    ga2clip("predict", "clips", *TINY, "--csv", "out.csv")
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) // 3, len(whole) // 2, len(whole) - 1, len(whole)):
        path.write_bytes(whole[:cut])
        code, _, err = ga2clip("predict", "clips", *TINY, "--resume", "out.csv")
        assert code == 1
        assert path.read_bytes() == whole
        assert "b.mp4" in err
    assert err.splitlines()[-1] == "0 videos answered, 1 failed, 2 were answered before: out.csv"
    (clips / "b.mp4").write_bytes((clips / "a.mp4").read_bytes())
    code, _, err = ga2clip("predict", "clips", *TINY, "--resume", "out.csv")
    assert code == 0
    assert err.splitlines()[-1] == "1 video answered, 0 failed, 2 were answered before: out.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    ranks = [(row["file"], row["rank"], row["count"]) for row in rows]
    assert ranks == [(f"clips/{name}.mp4", rank, "2") for name in "abc" for rank in "12"]
    assert {row["label"] for row in rows} == {"'=kicking a ball", "waving a flag"}


def test_another_question_or_a_new_batch_leaves_the_file(
    ga2clip, clips: Path, labels: Path, empty: Path
) -> None:
    path = empty / "out.jsonl"
    ga2clip("predict", "clips", *TINY, "--jsonl", "out.jsonl")
    before = path.read_bytes()
    lines = [json.loads(line) for line in before.splitlines()]
    assert all(len(line[key]) == 64 for line in lines for key in line if key.endswith("_sha256"))
    assert len({line["model_sha256"] for line in lines}) == 1
    labels.write_text("waving a flag\nrowing a boat\n")
    for words, said in (
        (("--jsonl", "out.jsonl"), "out.jsonl exists"),
        (("--csv", "out.jsonl"), "out.jsonl exists"),
        (("--resume", "out.jsonl"), "another class list"),
    ):
        code, out, err = ga2clip("predict", "clips", *TINY, *words)
        assert (code, out) == (1, "")
        assert said in err
        assert "hint: continue it with" in err
    labels.write_text("name\n=kicking a ball\nwaving a flag\n")
    code, _, err = ga2clip("predict", "clips", *TINY, "--resume", "out.jsonl", "--template", "a {}")
    assert "another template" in err
    code, _, err = ga2clip("predict", "clips", *TINY, "--resume", "out.jsonl", "--top", "1")
    assert "another --top" in err
    code, _, err = ga2clip("predict", "clips", *TINY, "--resume", "out.jsonl", "--explain")
    assert "another use of --explain" in err
    assert path.read_bytes() == before


def test_an_existing_file_is_refused_before_a_model_is_loaded(
    ga2clip, clip: Path, labels: Path, empty: Path
) -> None:
    (empty / "out.csv").write_text("precious")
    code, _, err = ga2clip("predict", clip, "--model", "nowhere", "--csv", "out.csv")
    assert (code, err.splitlines()[0]) == (1, "error: out.csv exists")
    code, _, err = ga2clip("predict", clip, "--model", "nowhere", "--timeline", "--csv", "out.csv")
    assert err.splitlines() == ["error: out.csv exists", "hint: delete it first"]
    code, _, err = ga2clip("predict", clip, "--timeline", "--render", clip)
    assert code == 2
    assert "would overwrite the input video" in err
    assert (empty / "out.csv").read_text() == "precious"


def test_json_says_what_was_asked(ga2clip, clip: Path, labels: Path) -> None:
    whole = json.loads(ga2clip("predict", clip, *TINY, "--json").out)
    assert list(whole) == [
        *(
            "model",
            "provider",
            "model_sha256",
            "classes_sha256",
            "template_sha256",
            "top",
            "results",
            "errors",
        )
    ]
    assert whole["top"] == 5
