"""Once a clip is for training or testing it stays so, whatever comes, goes or is renamed."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from ga2clip.data import prepare as prepare_module
from ga2clip.data.declaration import Entry
from ga2clip.data.draw import Candidate, draw_test, hold_out
from ga2clip.data.lineage import Seen, fingerprint
from ga2clip.data.manifest import Clip, Manifest
from ga2clip.data.prepare import PrepareReport, prepare
from ga2clip.errors import UserError


@pytest.fixture(autouse=True)
def few_anchors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_module, "_ANCHORS", 0)


def run(root: Path, **options: object) -> PrepareReport:
    return prepare("folder", root, workers=1, **options)  # type: ignore[arg-type]


def fill(root: Path, make_video, label: str, numbers: range, seed: int) -> None:
    for number in numbers:
        make_video(root / label / f"{number}.mp4", seed=seed + number, frames=3)


@pytest.fixture
def mine(tmp_path: Path, make_video) -> Path:
    """Two classes of 8 clips, all different."""
    root = tmp_path / "mine"
    fill(root, make_video, "run", range(8), 100)
    fill(root, make_video, "sit", range(8), 200)
    return root


def splits(report: PrepareReport) -> dict[str, str]:
    return {clip.path: clip.split for clip in report.manifest.clips}


def test_what_is_added_moves_nothing_and_is_said(mine: Path, make_video) -> None:
    first = run(mine)
    assert Counter(splits(first).values()) == {"train": 12, "test": 4}
    assert first.changes.came == ()
    fill(mine, make_video, "a new class", range(8), 300)
    fill(mine, make_video, "run", range(8, 16), 108)
    again = run(mine)
    now = splits(again)
    assert {path: now[path] for path in splits(first)} == splits(first)
    assert Counter(clip.label for clip in again.manifest.clips if clip.split == "test") == {
        "a new class": 2,
        "run": 4,
        "sit": 2,
    }
    assert (len(again.changes.came), again.changes.went, again.changes.moved) == (16, (), ())
    assert "came                16 since" in again.table()
    assert "came,a new class/0.mp4,\"train, 'a new class'\"" in (mine / "prepare_report.csv").read_text()


def test_clips_of_another_name_place_or_class_keep_their_part(mine: Path) -> None:
    first = splits(run(mine))
    (mine / "run").rename(mine / "zz running")
    for path in (mine / "zz running").iterdir():
        path.rename(path.with_name(f"renamed {path.name}"))
    held_out = next(path for path, split in first.items() if path.startswith("sit") and split == "test")
    (mine / held_out).unlink()
    again = run(mine)
    for path, split in first.items():
        if path.startswith("run/"):
            assert splits(again)[f"zz running/renamed {path.removeprefix('run/')}"] == split
    assert Counter(splits(again).values()) == {"train": 12, "test": 3}
    assert again.changes.went == ((held_out, "test, 'sit'"),)
    assert again.changes.came == ()
    assert {what for _, what in again.changes.moved} == {"from 'run' to 'zz running'"}


def test_a_copy_without_the_manifest_is_divided_alike_whatever_other_classes_it_has(
    mine: Path, tmp_path: Path
) -> None:
    first = splits(run(mine))
    copy = tmp_path / "copy"
    shutil.copytree(mine / "sit", copy / "sit")
    assert splits(run(copy)) == {path: split for path, split in first.items() if path.startswith("sit")}


def test_another_seed_draws_again_and_says_what_moved(mine: Path) -> None:
    first = run(mine)
    again = run(mine, seed=1)
    moved = {path for path in splits(first) if splits(first)[path] != splits(again)[path]}
    assert {path for path, _ in again.changes.moved} == moved != set()
    assert "  moved" in again.table()
    assert run(mine, seed=1).changes.moved == ()


def test_an_old_manifest_is_read_and_its_splits_are_kept(mine: Path) -> None:
    """Schema 1 had no spans and drew at random; here every clip that would be tested now was trained on."""
    first = splits(run(mine))
    file = mine / "manifest.json"
    tree = json.loads(file.read_text())
    swapped = {"train": "test", "test": "train"}
    tree["schema"], tree["columns"] = 1, tree["columns"][:10]
    tree["clips"] = [[*row[:2], swapped[row[2]], *row[3:10]] for row in tree["clips"]]
    del tree["meta"]["seed"]
    file.write_text(json.dumps(tree))
    assert Manifest.read(mine).clips[0].span is None
    assert splits(run(mine)) == {path: swapped[split] for path, split in first.items()}


def test_a_folder_prepared_as_another_dataset_is_refused_before_any_work(mine: Path) -> None:
    run(mine)
    before = (mine / "manifest.json").read_bytes()
    with pytest.raises(UserError, match="is prepared as 'folder', not as 'stickfigures'") as caught:
        prepare("stickfigures", mine)
    assert "--dataset folder" in str(caught.value.hint)
    assert (mine / "manifest.json").read_bytes() == before
    assert not (mine / "videos").exists()


def test_a_damaged_manifest_is_made_again(mine: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = splits(run(mine))
    (mine / "manifest.json").write_text("{")
    assert splits(run(mine)) == first
    assert "splits that were drawn are drawn again" in caplog.text


def test_units_are_held_out_whole_and_never_all_of_a_class() -> None:
    sizes = {"a": 5, "b": 1, "c": 1, "d": 1}
    several = [Candidate(unit, "run", None) for unit, size in sizes.items() for _ in range(size)]
    for seed in range(20):
        held = hold_out(several, 0.25, seed)
        assert 1 <= sum(sizes[unit] for unit, out in held.items() if out) <= 2  # 8 clips, a quarter
        assert not held["a"]
    large = [Candidate(unit, "run") for unit in "aabbbcc"]
    assert [unit for unit, out in hold_out(large, 0.25, 0).items() if out] in (["a"], ["c"])
    assert hold_out([Candidate("a", "run")] * 9, 0.25, 0) == {"a": False}
    assert hold_out([Candidate("a", "run")], 0.25, 0) == {"a": False}
    pair = [Candidate("a", "run"), Candidate("b", "run")]
    assert sum(hold_out(pair, 0.9, 0).values()) == 1  # though both would be no more than the share, rounded
    # What is decided stays, and nothing else is added while it is enough.
    decided = [Candidate("a", "run", True), *[Candidate(unit, "run") for unit in "bcd"]]
    assert hold_out(decided, 0.25, 0) == {"a": True, "b": False, "c": False, "d": False}


def test_a_group_that_was_divided_before_is_drawn_again_whole() -> None:
    entries = [Entry(f"{n}.mp4", "run", "", group=f"g{n // 2}", drawn=True) for n in range(8)]
    before = {"0.mp4": "train", "1.mp4": "test", "2.mp4": "train", "3.mp4": "train"}
    drawn = draw_test(entries, 0, before)
    by_group = {entry.group: entry.split for entry in drawn}
    assert all(by_group[entry.group] == entry.split for entry in drawn)
    assert by_group["g1"] == "train"
    assert Counter(entry.split for entry in drawn) == {"train": 6, "test": 2}


def test_the_fingerprint_is_of_the_content_not_the_place(mine: Path, tmp_path: Path) -> None:
    one = run(mine).manifest
    moved = tmp_path / "elsewhere"
    mine.rename(moved)
    assert fingerprint(Manifest.read(moved)) == fingerprint(one)
    (moved / "run" / "0.mp4").unlink()
    assert fingerprint(run(moved).manifest) != fingerprint(one)


def test_overlapping_spans_of_one_file_are_seen_and_touching_ones_are_not() -> None:
    def span(start: float, end: float, sha256: str = "ab" * 32) -> Clip:
        return Clip("long.mp4", "run", "test", 10, 1.0, sha256, span=(start, end))

    seen = Seen([span(2, 4).identity])
    assert span(3.9, 5) in seen
    assert span(4, 5) not in seen
    assert span(2, 4, "cd" * 32) not in seen
    assert Clip("copy.mp4", "run", "test", 10, 1.0, "ab" * 32) in seen  # the whole file


def test_seed_and_pattern_need_not_be_typed_again(tmp_path: Path, make_video) -> None:
    """A piece that comes later goes where its recording is, though its name does not show that it is one."""
    root = tmp_path / "mine"
    for number, name in enumerate(f"{letter}{piece}" for letter in "abcdefgh" for piece in "xy"):
        make_video(root / ("run" if name[0] < "e" else "sit") / f"{name}.mp4", seed=number, frames=3)
    first = run(root, seed=5, group_pattern="^.")
    make_video(root / "run" / "az.mp4", seed=90, frames=3)
    make_video(root / "run" / "bz.mp4", seed=91, frames=3)
    make_video(root / "run" / "cz.mp4", seed=92, frames=3)
    make_video(root / "run" / "dz.mp4", seed=93, frames=3)
    again = run(root)
    assert (len(again.changes.came), again.changes.moved) == (4, ())
    assert again.notes == ("--group-pattern '^.', as before",)
    now = splits(again)
    assert {path: now[path] for path in splits(first)} == splits(first)
    assert {now[f"run/{letter}z.mp4"] == now[f"run/{letter}x.mp4"] for letter in "abcd"} == {True}
    assert {"train", "test"} == {now[f"run/{letter}z.mp4"] for letter in "abcd"}
    assert again.manifest.meta["seed"] == 5
    assert run(root, group_pattern="").notes == ()
    assert {clip.group for clip in run(root).manifest.clips} == {""}


def test_generated_clips_take_no_pattern(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'stickfigures' has its own splits"):
        prepare("stickfigures", tmp_path / "data", group_pattern="(.+)_")
    assert not (tmp_path / "data").exists()
