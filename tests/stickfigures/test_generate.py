"""Generated files: they are what their records say, and are made once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import pytest

from ga2clip.data.stickfigures import OTHER_CLASSES
from ga2clip.data.stickfigures.generate import JOURNAL, VERSION, GeneratedClip, generate
from ga2clip.errors import UserError
from ga2clip.files import file_sha256

SMALL = {
    "dataset": "stickfigures-other",
    "train_per_class": 1,
    "test_per_class": 1,
    "irrelevant": 6,
    "workers": 1,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[GeneratedClip]]:
    folder = tmp_path_factory.mktemp("made")
    return folder, generate(folder, **SMALL)


def test_records_cover_every_class_and_split(made: tuple[Path, list[GeneratedClip]]) -> None:
    records = made[1]
    assert len({record.path for record in records}) == len(records) == 2 * len(OTHER_CLASSES) + 6
    for split in ("train", "test"):
        assert [r.label for r in records if r.split == split] == list(OTHER_CLASSES)
    anchors = [r for r in records if r.split == "anchor"]
    assert len(anchors) == 6
    assert all(r.label is None and r.path.startswith("irrelevant/") for r in anchors)


def test_train_and_test_never_share_an_actor(made: tuple[Path, list[GeneratedClip]]) -> None:
    actors = {s: {r.actor for r in made[1] if r.split == s} for s in ("train", "test", "anchor")}
    assert not actors["train"] & actors["test"]
    assert not actors["anchor"] & (actors["train"] | actors["test"])


def test_files_decode_to_the_recorded_frames(made: tuple[Path, list[GeneratedClip]]) -> None:
    folder, records = made
    for record in records[::7]:
        with av.open(str(folder / record.path)) as container:
            frames = list(container.decode(video=0))
            assert container.streams.video[0].codec_context.name == "h264"
        assert len(frames) == record.frames
        assert record.duration == pytest.approx(record.frames / 12)
        assert (frames[0].width, frames[0].height) == (128, 96)
        assert file_sha256(folder / record.path) == record.sha256


def test_two_processes_make_the_same_pixels(made: tuple[Path, list[GeneratedClip]], tmp_path: Path) -> None:
    few = {**SMALL, "test_per_class": 0, "irrelevant": 0, "workers": 2}
    again = generate(tmp_path, **few)
    expected = {record.path: record.pixels_sha256 for record in made[1]}
    assert [record.pixels_sha256 for record in again] == [expected[record.path] for record in again]


def test_another_seed_makes_other_clips(made: tuple[Path, list[GeneratedClip]], tmp_path: Path) -> None:
    other = generate(tmp_path, **{**SMALL, "test_per_class": 0, "irrelevant": 0}, seed=1)
    assert not {r.pixels_sha256 for r in other} & {r.pixels_sha256 for r in made[1]}
    assert not {r.actor for r in other} & {r.actor for r in made[1]}


def test_finished_files_are_kept_and_broken_ones_made_again(tmp_path: Path) -> None:
    small = {**SMALL, "test_per_class": 0, "irrelevant": 1}
    first = generate(tmp_path, **small)
    kept, broken, lost = (tmp_path / record.path for record in first[:3])
    before = kept.stat().st_mtime_ns
    broken.write_bytes(broken.read_bytes()[:100])
    lost.unlink()
    said: list[tuple[int, int]] = []
    assert generate(tmp_path, **small, progress=lambda done, total: said.append((done, total))) == first
    assert said == [(len(first) - 2, len(first)), (len(first) - 1, len(first)), (len(first), len(first))]
    assert kept.stat().st_mtime_ns == before
    assert file_sha256(broken) == first[1].sha256


def test_clips_of_an_older_drawing_are_made_again(tmp_path: Path) -> None:
    tiny = {**SMALL, "train_per_class": 0, "test_per_class": 0, "irrelevant": 2}
    generate(tmp_path, **tiny)
    journal = json.loads((tmp_path / JOURNAL).read_text())
    (tmp_path / JOURNAL).write_text(json.dumps({**journal, "version": 0}))
    said: list[int] = []
    generate(tmp_path, **tiny, progress=lambda done, _total: said.append(done))
    assert said == [0, 1, 2]


@pytest.mark.parametrize("text", ["{", "[]", f'{{"version": {VERSION}, "clips": [{{"path": 3}}]}}'])
def test_a_damaged_journal_is_made_again(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    tiny = {**SMALL, "train_per_class": 0, "test_per_class": 0, "irrelevant": 1}
    records = generate(tmp_path, **tiny)
    (tmp_path / JOURNAL).write_text(text)
    assert generate(tmp_path, **tiny) == records
    assert "generated.json is damaged" in caplog.text
    (tmp_path / JOURNAL).unlink()
    (tmp_path / JOURNAL).mkdir()
    with pytest.raises(UserError, match=JOURNAL):
        generate(tmp_path, **tiny)


@pytest.mark.parametrize("wrong", [{"dataset": "stickfigure"}, {"irrelevant": -1}, {"train_per_class": 1000}])
def test_impossible_wishes_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        generate(tmp_path, **{**SMALL, **wrong})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path, workers: int) -> None:
    in_the_way = tmp_path / "videos" / OTHER_CLASSES[0].replace(" ", "_") / "train_000.mp4"
    in_the_way.mkdir(parents=True)
    with pytest.raises(UserError, match="cannot write"):
        generate(tmp_path, **{**SMALL, "workers": workers})
    assert list(in_the_way.parent.glob(".*")) == []


def test_a_rendering_process_whose_parent_is_gone_ends_in_silence(tmp_path: Path) -> None:
    """The answer finds no reader, as after a kill of `prepare`."""
    read, write = os.pipe()
    os.close(read)
    job = {"path": "clip.mp4", "dataset": "stickfigures-other", "kind": OTHER_CLASSES[0]}
    done = subprocess.run(
        [sys.executable, "-m", "ga2clip.data.stickfigures.generate", str(tmp_path)],
        input=json.dumps({**job, "split": "train", "actor": 1}) + "\n",
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
