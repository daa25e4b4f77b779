"""From a folder as its owners hand it out to batches, with a broken clip in each; and interrupted on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ga2clip.data import cache, check
from ga2clip.data import prepare as prepare_module
from ga2clip.data.cache import FrameStore
from ga2clip.data.declaration import Size
from ga2clip.data.loader import eval_batches, train_batches
from ga2clip.data.manifest import Manifest
from ga2clip.data.prepare import PrepareReport, prepare
from ga2clip.data.protocols import make_task
from ga2clip.errors import UserError
from ga2clip.settings import Settings
from ga2clip.video import Preprocess, read_frames

PREPROCESS = Preprocess(24, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))

# dataset: (clips on disk, missing, protocol's test clips)
EXPECTED = {
    "ucf101": (7, 1, 2),
    "hmdb51": (7, 1, 2),
    "ssv2": (6, 1, 2),
    "kinetics400": (5, 1, 2),
    "folder": (8, 0, 2),
    "csv": (8, 1, 4),
}


@pytest.fixture(autouse=True)
def few_anchors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_module, "_ANCHORS", 2)


def run(name: str, root: Path, **options: object) -> PrepareReport:
    list_file = root.parent / "list.csv" if name == "csv" else None
    return prepare(name, root, workers=1, list_file=list_file, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", EXPECTED)
def test_each_layout_goes_from_prepare_to_batches(name: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(name)
    report = run(name, root, cache=name == "ucf101")
    on_disk, missing, tested = EXPECTED[name]
    assert (report.checked, len(report.missing), len(report.broken)) == (on_disk, missing, 1)
    assert Manifest.read(root) == report.manifest
    tree = {
        "data": {"dataset": name, "root": str(root), "protocol": "few-shot", "shots": 1, "frames": 2},
        "training": {"batch_size": 2},
        "anchors": {"weight": 1.0, "per_step": 1},
    }
    settings = Settings.from_dict(tree, "test")
    task = make_task(report.manifest, settings.data, 1, settings.anchors)
    [batch] = train_batches(task, settings, PREPROCESS, epoch=0)
    assert sorted(batch.labels.tolist()) == [-1, 0, 1]
    evals = task.evals[0]
    answered = list(eval_batches(evals.clips, evals.classes, settings, PREPROCESS))
    seen = sum(len(batch.ids) + len(batch.broken) for batch in answered)
    assert seen == len(evals.clips) == tested


def test_the_report_names_what_is_wrong(ucf101: Path) -> None:
    twin = ucf101 / "UCF-101/YoYo"
    (twin / "v_YoYo_g01_c01.avi").write_bytes((twin / "v_YoYo_g02_c01.avi").read_bytes())
    (twin / "v_YoYo_g03_c01.avi").write_bytes(b"RIFF, but nothing else")
    report = run("ucf101", ucf101)
    lines = (ucf101 / "prepare_report.csv").read_text().splitlines()
    assert lines[0] == "status,clip,reason"
    assert "missing,ApplyEyeMakeup/v_ApplyEyeMakeup_g04_c01.avi,no file" in lines
    assert any(line.startswith("broken,UCF-101/YoYo/v_YoYo_g03_c01.avi,") for line in lines)
    assert "duplicate,UCF-101/YoYo/v_YoYo_g01_c01.avi,same as UCF-101/YoYo/v_YoYo_g02_c01.avi" in lines
    for word in ("missing", "broken", "duplicates", "prepare_report.csv"):
        assert word in report.table()


def test_any_name_that_the_system_allows(folder: Path, make_video) -> None:
    names = [os.fsdecode(b"not utf-8 \xff.mp4"), "a:b%03d#?.mp4", "-dash.mp4", "line\nbreak.mp4"]
    for number, name in enumerate(names):
        make_video(folder / "JumpRope" / name, seed=number)
    (folder / "doing_yoga" / os.fsdecode(b"broken \xfe.mp4")).write_bytes(b"x")
    report = run("folder", folder, cache=True)
    frames = {clip.path: clip.frames for clip in Manifest.read(folder).clips}
    assert [frames[f"JumpRope/{name}"] for name in names] == [10] * 4
    assert len(report.broken) == 2
    assert report.cached == len(report.manifest.clips) - 2
    assert "broken \\udcfe.mp4" in (folder / "prepare_report.csv").read_text("utf-8")


def test_what_was_checked_is_not_decoded_again_unless_it_changed(folder: Path) -> None:
    run("folder", folder)
    journal = folder / ".ga2clip" / "checked.jsonl"
    first = journal.read_text()
    told: list[tuple[str, int, int]] = []
    run("folder", folder, progress=lambda *event: told.append(event))
    assert journal.read_text() == first
    assert ("checking", 8, 8) in told
    repaired = folder / "JumpRope" / "2.mp4"
    repaired.write_bytes((folder / "JumpRope" / "1.mp4").read_bytes())
    assert run("folder", folder).broken == ()
    assert journal.read_text().count("\n") == first.count("\n") + 1


def test_broken_clips_are_decoded_again_on_request(
    folder: Path, make_video, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "time_limit", lambda _: 1e-9)
    with pytest.raises(UserError, match=r"none of the 8 clips .* took longer than"):
        run("folder", folder)
    monkeypatch.undo()
    monkeypatch.setattr(prepare_module, "_ANCHORS", 2)
    with pytest.raises(UserError, match="took longer than"):
        run("folder", folder)
    assert len(run("folder", folder, recheck=True).broken) == 1
    journal = (folder / ".ga2clip" / "checked.jsonl").read_text()
    run("folder", folder, recheck=True)
    again = (folder / ".ga2clip" / "checked.jsonl").read_text().removeprefix(journal)
    assert [json.loads(line)["path"] for line in again.splitlines()] == ["JumpRope/2.mp4"]


def test_a_folder_that_may_not_be_written_to_is_said_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != folder)
    with pytest.raises(UserError, match="cannot write the manifest into") as caught:
        run("folder", folder)
    assert "ln -s" in str(caught.value.hint)
    assert not (folder / ".ga2clip").exists()


def test_a_half_written_journal_line_loses_one_clip(folder: Path) -> None:
    run("folder", folder)
    journal = folder / ".ga2clip" / "checked.jsonl"
    text = journal.read_text()
    journal.write_text(text[:-40])
    report = run("folder", folder)
    assert (report.checked, len(report.broken)) == (8, 1)
    assert len(journal.read_text().splitlines()) == 9  # 7 whole ones, the half one, and one more


def test_killed_and_started_again_nothing_is_lost_or_done_twice(tmp_path: Path, make_video) -> None:
    root = tmp_path / "many"
    for number in range(60):
        make_video(root / "run" / f"{number}.mp4", seed=number % 3, frames=40)
    code = (
        "import sys; from pathlib import Path; from ga2clip.data import prepare as p; p._ANCHORS = 0\n"
        "p.prepare('folder', Path(sys.argv[1]), workers=1)"
    )
    journal = root / ".ga2clip" / "checked.jsonl"
    process = subprocess.Popen([sys.executable, "-c", code, str(root)])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not journal.exists() or journal.read_text().count("\n") < 5):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = journal.read_text().count("\n")
    assert 5 <= done < 60
    assert not (root / "manifest.json").exists()
    assert run("folder", root).checked == 60
    paths = [json.loads(line)["path"] for line in journal.read_text().splitlines()]
    assert len(paths) == len(set(paths)) == 60


@pytest.mark.slow
def test_killed_while_it_caches_and_started_again_at_once(
    tmp_path: Path, make_video, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "CLIPS_PER_SHARD", 6)
    root = tmp_path / "killed"
    for number in range(12):
        make_video(root / "run" / f"{number:02d}.mp4", seed=number % 3, frames=40)
    code = (
        "import sys; from pathlib import Path; from ga2clip.data import cache, prepare as p\n"
        "p._ANCHORS = 2; cache.CLIPS_PER_SHARD = 6\n"
        "p.prepare('folder', Path(sys.argv[1]), workers=1, cache=True)"
    )
    folder = root / ".ga2clip" / "frames"
    for wanted in (".frames-*", "frames-*.json"):
        process = subprocess.Popen([sys.executable, "-c", code, str(root)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None and not list(folder.glob(wanted)):
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert Manifest.read(root).classes == ("run",)
    # Workers of the killed run end at their next clip; what they leave never counts.
    report = run("folder", root, cache=True)
    assert report.cached == 14
    store = FrameStore.find(root)
    assert store is not None
    for clip in report.manifest.clips:
        frames, _ = read_frames(root / clip.path, [3])
        assert np.abs(store.read(clip, [3]).astype(int) - frames).mean() < 4
    assert {path.suffix for path in folder.iterdir()} == {".json", ".tar"}


def test_two_at_once_are_refused(folder: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from ga2clip.errors import UserError\n"
        "from ga2clip.lock import locked\n"
        "with locked(Path(sys.argv[1]), UserError('busy')):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    lock = folder / ".ga2clip" / "lock"
    process = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match="another process is preparing"):
        run("folder", folder, cache=True)
    process.kill()
    process.communicate()
    assert run("folder", folder, cache=True).cached > 0


def test_clips_with_several_labels_are_in_the_report_and_the_rule(csv: Path) -> None:
    (csv / "doing_yoga" / "1.mp4").write_bytes((csv / "JumpRope" / "0.mp4").read_bytes())
    lines = (csv.parent / "list.csv").read_text() + "JumpRope/1.mp4,yoga,train\n"
    (csv.parent / "list.csv").write_text(lines)
    report = run("csv", csv)
    assert (
        'contradictory,JumpRope/1.mp4,"labels: jumping a rope, yoga"'
        in (csv / "prepare_report.csv").read_text()
    )
    assert report.duplicates == (("JumpRope/0.mp4", "doing_yoga/1.mp4, which is 'yoga'"),)
    assert "contradictory        1" in report.table()
    task = make_task(report.manifest, Settings().data.model_copy(update={"protocol": "full"}), 1)
    assert "(1 clip with several labels left out)" in task.rule


def test_interrupted_by_ctrl_c_it_ends_quietly_and_leaves_no_process(tmp_path: Path, make_video) -> None:
    root = tmp_path / "many"
    for number in range(60):
        make_video(root / "run" / f"{number}.mp4", seed=number % 3, frames=40)
    code = (
        "import sys; from pathlib import Path; from ga2clip.data.prepare import prepare\n"
        "try: prepare('folder', Path(sys.argv[1]), workers=1)\n"
        "except KeyboardInterrupt: sys.exit(130)"
    )
    journal = root / ".ga2clip" / "checked.jsonl"
    process = subprocess.Popen([sys.executable, "-c", code, str(root)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not journal.exists() or journal.read_text().count("\n") < 5):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == b""


def test_generated_datasets_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    size = Size(train_per_class=0, test_per_class=0, irrelevant=3)
    first = prepare("stickfigures-other", tmp_path / "a", workers=1, size=size)
    again = prepare("stickfigures-other", tmp_path / "b", workers=1, size=size)
    other = prepare("stickfigures-other", tmp_path / "c", workers=1, size=size, seed=1)
    assert first.manifest.clips == again.manifest.clips
    assert first.manifest.meta["pixels_sha256"] == again.manifest.meta["pixels_sha256"]
    assert first.manifest.meta["pixels_sha256"] != other.manifest.meta["pixels_sha256"]


def test_a_generated_dataset_has_the_sizes_it_was_asked_for(tmp_path: Path) -> None:
    size = Size(train_per_class=1, test_per_class=1, irrelevant=2)
    report = prepare("stickfigures-other", tmp_path, workers=1, size=size)
    assert report.cached == len(report.manifest.clips) == 16 * 2 + 2
    task = make_task(report.manifest, Settings().data.model_copy(update={"protocol": "full"}), 1)
    assert len(task.train) == len(task.evals[0].clips) == len(task.classes) == 16


def test_a_folder_without_any_picture_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    for name in ("run", "sit"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.mp4").write_text("text")
    with pytest.raises(UserError, match="none of the 2 clips"):
        run("folder", tmp_path)
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize("dataset", ["folder", "stickfigures"])
def test_a_negative_seed_is_refused_before_anything_is_written(tmp_path: Path, dataset: str) -> None:
    with pytest.raises(UserError, match="a seed must be 0 or more, got -1"):
        prepare(dataset, tmp_path / "data", seed=-1, workers=1)
    assert not (tmp_path / "data").exists()


def test_torch_is_not_needed() -> None:
    code = "import sys; import ga2clip.data.prepare, ga2clip.data.reader; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
