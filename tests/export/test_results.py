"""Results files keep what they had, whatever happens in between."""

import csv
import json
from pathlib import Path

import pytest

from ga2clip.errors import UserError
from ga2clip.predictions import Failure, Prediction
from ga2clip.runtime.results import ResultFile, expand
from ga2clip.video import VideoError, read_frames

ODD = 'clip, "one"\n\udcff.mp4'
PARTS = [
    Prediction("a.mp4", 8, 1.5, (("run, fast", 0.75), ('say "hi"', 0.25))),
    Failure("b.mp4", "b.mp4: not a video"),
    Prediction(ODD, 8, 2.0, (("sleep", 1.0),), ("lost a frame",)),
]


def write(path: Path, parts, *, resume: bool = False) -> frozenset[str]:
    with ResultFile(path, model="m", provider="cpu", resume=resume) as file:
        for part in parts:
            file.add(part)
        return file.done


def files_in(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    if path.suffix == ".jsonl":
        return [json.loads(line)["file"] for line in text.splitlines()]
    if path.suffix == ".json":
        whole = json.loads(text)
        return [record["file"] for record in (*whole["results"], *whole["errors"])]
    return list(dict.fromkeys(row["file"] for row in csv.DictReader(text.splitlines(keepends=True))))


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv"])
def test_a_batch_can_be_continued(tmp_path, suffix) -> None:
    path = tmp_path / f"out{suffix}"
    write(path, PARTS)
    assert set(files_in(path)) == {"a.mp4", "b.mp4", ODD}
    done = write(path, [Prediction("b.mp4", 8, 1.0, (("sleep", 1.0),))], resume=True)
    assert "a.mp4" in done
    assert "b.mp4" not in done  # it failed: try again
    assert len(files_in(path)) == len(set(files_in(path)))
    assert {"a.mp4", "b.mp4"} <= set(files_in(path))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_kill_at_any_byte_loses_at_most_the_last_file(tmp_path, suffix) -> None:
    path = tmp_path / f"out{suffix}"
    write(path, [PARTS[0], PARTS[0].__class__("c.mp4", 8, 1.0, PARTS[0].predictions)])
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        done = write(path, (), resume=True)
        assert done <= {"a.mp4", "c.mp4"}
        assert set(files_in(path)) == set(done)


def test_json_is_written_even_if_the_batch_breaks_off(tmp_path) -> None:
    path = tmp_path / "out.json"
    file = ResultFile(path, model="m", provider="cpu").__enter__()
    file.add(PARTS[0])
    file.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    whole = json.loads(path.read_text())
    assert whole["model"] == "m"
    assert [record["file"] for record in whole["results"]] == ["a.mp4"]
    assert whole["results"][0]["predictions"][0] == {"label": "run, fast", "probability": 0.75}


def test_what_is_not_ours_is_not_overwritten_by_resume(tmp_path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text("my notes\nmore\n")
    with pytest.raises(UserError, match="cannot continue"):
        write(path, (), resume=True)
    assert path.read_text() == "my notes\nmore\n"
    with pytest.raises(UserError, match="format"):
        write(tmp_path / "out.txt", ())


def test_folders_become_their_videos(tmp_path) -> None:
    for name in ("b/two.MP4", "a.webm", "notes.txt", "b/c/three.mkv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = expand([tmp_path, tmp_path / "a.webm", tmp_path / "missing.mp4"])
    assert [p.name for p in found] == ["a.webm", "three.mkv", "two.MP4", "missing.mp4"]


def test_a_folder_without_videos_does_not_stop_the_others(tmp_path) -> None:
    folder = tmp_path / "x.mp4"
    folder.mkdir()
    assert expand([folder, tmp_path / "a.mp4"]) == [folder, tmp_path / "a.mp4"]
    with pytest.raises(VideoError, match="directory"):
        read_frames(folder)
