"""Pieces of one recording go to one side: by sub-folder, column or pattern; and names that suggest pieces."""

from collections import defaultdict
from pathlib import Path

import pytest

from ga2clip.data.declaration import Entry, Listing
from ga2clip.data.groups import grouped, suggestion
from ga2clip.data.listing import scan
from ga2clip.data.prepare import _notes
from ga2clip.errors import UserError
from ga2clip.registry import DATASETS


def touch(root: Path, *places: str) -> Path:
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).touch()
    return root


def sides(listing: Listing) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for entry in listing.entries:
        found[entry.group].add(entry.split)
    return found


def whole(listing: Listing) -> bool:
    return all(len(splits) == 1 for group, splits in sides(listing).items() if group)


PIECES = [f"{label}/rec{n}_part{p}.mp4" for label in ("run", "sit") for n in range(4) for p in range(3)]


def test_a_pattern_keeps_recordings_together_across_classes(tmp_path: Path) -> None:
    touch(tmp_path, *PIECES)
    divided = scan(DATASETS["folder"], tmp_path, seed=1)
    assert set(sides(divided)) == {""}
    for seed in range(6):
        listing = scan(DATASETS["folder"], tmp_path, seed=seed, group_pattern=r"(.+)_part\d+")
        assert set(sides(listing)) == {"rec0", "rec1", "rec2", "rec3"}
        assert whole(listing)
        assert {entry.label for entry in listing.entries if entry.split == "test"} == {"run", "sit"}


def test_a_pattern_that_matches_nothing_or_is_none_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, *PIECES, "run/other.mp4")
    with pytest.raises(UserError, match="matches no file name"):
        scan(DATASETS["folder"], tmp_path, group_pattern="cam")
    with pytest.raises(UserError, match="no regular expression"):
        scan(DATASETS["folder"], tmp_path, group_pattern="(")
    some = scan(DATASETS["folder"], tmp_path, group_pattern=r"rec(\d)")
    assert "--group-pattern matches no part of 1 file names" in " ".join(some.notes)


def test_official_datasets_take_no_pattern(ucf101: Path) -> None:
    with pytest.raises(UserError, match="'ucf101' has its own splits"):
        scan(DATASETS["ucf101"], ucf101, group_pattern="g(..)")


def test_folders_inside_a_class_are_recordings(tmp_path: Path) -> None:
    touch(
        tmp_path, *(f"{label}/day{n}/{p}.mp4" for label in ("run", "sit") for n in range(4) for p in range(3))
    )
    listing = scan(DATASETS["folder"], tmp_path)
    assert set(sides(listing)) == {"day0", "day1", "day2", "day3"}
    assert whole(listing)
    assert listing.notes == ("clips of one sub-folder stay together: 4 groups",)


def test_one_folder_in_every_class_says_nothing(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{label}/videos/{p}.mp4" for label in ("run", "sit") for p in range(8)))
    listing = scan(DATASETS["folder"], tmp_path)
    assert set(sides(listing)) == {""}
    assert sum(entry.split == "test" for entry in listing.entries) == 4


def test_a_column_keeps_recordings_together(tmp_path: Path) -> None:
    names = [f"{n:02d}.mp4" for n in range(16)]
    touch(tmp_path, *names)
    lines = [f"{name};{'run' if n % 2 else 'sit'};r{n // 4}" for n, name in enumerate(names)]
    (tmp_path / "list.csv").write_text("\n".join(["path;label;group", *lines]))
    listing = scan(DATASETS["csv"], tmp_path, list_file=tmp_path / "list.csv")
    assert {group: len(splits) for group, splits in sides(listing).items()} == dict.fromkeys(
        ("r0", "r1", "r2", "r3"), 1
    )
    assert sum(entry.split == "test" for entry in listing.entries) == 4


def entries(*names: str) -> list[Entry]:
    """Clips `class/name`, every other one for testing."""
    return [
        Entry(name, name.partition("/")[0], "test" if index % 2 else "train")
        for index, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        ([f"walk/rec{n}part{p}.mp4" for n in (1, 2) for p in (1, 2, 3)], r"(.+)part\d+"),
        ([f"walk/walk_0{n}_part{p}.mp4" for n in (1, 2) for p in (1, 2, 3)], r"(.+)_part\d+"),
        (["walk/a long talk-Scene-001.mp4", "walk/a long talk-Scene-002.mp4", *"xyz"], r"(.+)\-Scene-\d+"),
        ([f"walk/cam{n}_{p:04d}.mp4" for n in (1, 2) for p in range(4)], r"(.+)_\d+"),
        ([f"{c}/v_{c}_g0{n}_c0{p}.avi" for c in ("A", "B") for n in (1, 2) for p in (1, 2, 3)], r"(.+)_c\d+"),
        ([f"{c}/cam{n}_{p}.mp4" for c in ("a", "b") for n in (1, 2) for p in (3, 4)], r"(.+)_\d+"),
    ],
)
def test_names_of_pieces_are_noticed_and_the_pattern_mends_it(names: list[str], pattern: str) -> None:
    made = entries(*names)
    said = suggestion(made, "test")
    assert f"--group-pattern '{pattern}'" in said
    named, without = grouped(made, pattern)
    assert without == names.count("x") + names.count("y") + names.count("z")
    assert suggestion(named, "test") == ""


@pytest.mark.parametrize(
    "names",
    [
        [f"{c}/{n}.mp4" for c in ("a", "b") for n in range(8)],
        [f"{c}/{c}_{n:03d}.mp4" for c in ("walk", "run") for n in range(8)],
        [f"lap{c}/lap{c}_{n:02d}.mp4" for c in (1, 2) for n in range(8)],
        [f"{c}/clip_{n:03d}.mp4" for c in ("walk", "run") for n in range(8)],
        [f"walk/VID_20240501_1{n}2{n}11.mp4" for n in range(8)],
        [f"walk/IMG_{n:04d}.MOV" for n in range(1200, 1210)],
        [f"walk/GX01{n:04d}.MP4" for n in range(8)],
        [f"walk/{name}_0000{n}1_0000{n}9.mp4" for n, name in enumerate(("-aX_1b", "q0r", "8Zz", "w_w"))],
        [f"walk/take{n}.mp4" for n in range(8)],
        [f"walk/person{n:02d}_walking_d{d}_uncomp.avi" for n in range(4) for d in (1, 2)],
        [f"walk/{word}.mp4" for word in ("party", "apart", "chunky", "department 3")],
        [f"walk/{word}{n}.mp4" for word in ("headshot", "sept ", "jump shot ", "bodypart") for n in (1, 2)],
    ],
)
def test_ordinary_names_are_no_alarm(names: list[str]) -> None:
    assert suggestion(entries(*names), "test") == ""


def test_recordings_that_are_not_divided_are_no_alarm() -> None:
    made = [Entry(f"run/rec{n}_part{p}.mp4", "run", "train" if n else "test") for n in (0, 1) for p in (1, 2)]
    assert suggestion(made, "test") == ""


def test_lists_without_test_clips_or_with_divided_groups_are_said() -> None:
    def notes(*rows: tuple[str, str, str]) -> str:
        made = tuple(Entry(f"{n}.mp4", *row) for n, row in enumerate(rows))
        names = tuple(sorted({entry.label for entry in made}))
        return "\n".join(_notes(Listing(names, names, made, (), "", own=True)))

    assert "no clip is for testing: `eval` has nothing" in notes(("run", "train", ""), ("sit", "train", ""))
    some = notes(("run", "train", ""), ("sit", "train", ""), ("sit", "test", ""))
    assert some.startswith("1 class without a clip for testing, such as 'run'")
    assert "1 groups are both trained and tested on, as given, such as 'g'" in notes(
        ("run", "train", "g"), ("run", "test", "g")
    )
    assert notes(("run", "train", ""), ("run", "test", "")) == ""
