"""Folders as people really have them: converted and renamed clips, leftovers of other systems, half a copy."""

import json
import os
from pathlib import Path

import pytest

from ga2clip.data.declaration import Listing
from ga2clip.data.listing import scan
from ga2clip.errors import UserError
from ga2clip.registry import DATASETS
from ga2clip.video import find_videos


def touch(root: Path, *places: str) -> Path:
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).touch()
    return root


def scan_again(name: str, root: Path, **options: object) -> Listing:
    return scan(DATASETS[name], root, **options)  # type: ignore[arg-type]


def test_hidden_files_and_folders_are_no_clips(tmp_path: Path) -> None:
    touch(tmp_path, "run/1.mp4", "run/._1.mp4", ".Trash-0/old.mp4", "run/.1.mp4.Xq3", "run/2.mp4.part")
    assert find_videos(tmp_path) == [tmp_path / "run" / "1.mp4"]
    assert scan_again("folder", tmp_path).classes == ("run",)


@pytest.mark.parametrize("name", ["ucf101", "hmdb51"])
def test_converted_and_upper_case_clips_are_the_listed_ones(
    name: str, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue(name)
    before = scan_again(name, root)
    clips = find_videos(root)
    for number, clip in enumerate(clips):
        clip.rename(clip.with_suffix(".mp4" if number % 2 else ".AVI"))
    after = scan_again(name, root)
    assert after.missing == before.missing
    assert [(e.label, e.split) for e in after.entries] == [(e.label, e.split) for e in before.entries]
    assert {Path(e.path).suffix for e in after.entries} == {".AVI", ".mp4"}


def test_of_a_clip_and_its_conversion_the_listed_one_counts(ucf101: Path) -> None:
    before = scan_again("ucf101", ucf101)
    for clip in find_videos(ucf101):
        copy = ucf101 / "A converted" / clip.parent.name / f"{clip.stem}.mp4"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(b"")
    assert scan_again("ucf101", ucf101) == before


def test_lists_with_a_mark_at_their_beginning_lose_no_clip(ucf101: Path, ssv2: Path) -> None:
    before = scan_again("ucf101", ucf101), scan_again("ssv2", ssv2)
    for file in [*ucf101.glob("*/*list0*.txt"), *ssv2.glob("*.json")]:
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert (scan_again("ucf101", ucf101), scan_again("ssv2", ssv2)) == before


def test_files_of_macos_beside_the_lists_are_not_taken_for_them(
    hmdb51: Path, ssv2: Path, kinetics400: Path
) -> None:
    roots = {"hmdb51": hmdb51, "ssv2": ssv2, "kinetics400": kinetics400}
    before = {name: scan_again(name, root) for name, root in roots.items()}
    for root in roots.values():
        for file in [*root.rglob("*.txt"), *root.rglob("*.json"), *root.rglob("*.csv")]:
            file.with_name(f"._{file.name}").write_bytes(b"\0\5\26\7\xff")
    assert {name: scan_again(name, root) for name, root in roots.items()} == before


def test_a_cut_list_of_hmdb51_is_named(hmdb51: Path) -> None:
    file = hmdb51 / "testTrainMulti_7030_splits" / "wave_test_split2.txt"
    file.write_text(file.read_text()[:-4])
    with pytest.raises(UserError, match=r"wave_test_split2.txt: expected lines"):
        scan_again("hmdb51", hmdb51)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train", {"id": "1"}, "not a list of clips"),
        ("train", [{"id": "1", "label": "x"}], "not a list of clips"),
        ("train", [{"id": "100", "template": "Eating [something]"}], "'eating something' is not among"),
        ("labels", ["Holding something"], "does not number the labels"),
    ],
)
def test_lists_of_something_else_are_refused(ssv2: Path, file: str, content: object, message: str) -> None:
    (ssv2 / f"something-something-v2-{file}.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        scan_again("ssv2", ssv2)


def test_other_csvs_beside_those_of_kinetics_do_not_matter(kinetics400: Path) -> None:
    before = scan_again("kinetics400", kinetics400)
    (kinetics400 / "notes.csv").write_bytes("größe,länge\n1,2\n".encode("latin-1"))
    (kinetics400 / "excel.csv").write_bytes("label,youtube_id\n".encode("utf-16"))
    (kinetics400 / "one cell.csv").write_text("x" * 200_000)
    (kinetics400 / "folder.csv").mkdir()
    assert scan_again("kinetics400", kinetics400) == before


def test_split_folders_have_many_spellings(tmp_path: Path) -> None:
    touch(tmp_path, "Train/run/1.mp4", "Validation/run/2.mp4", "TEST/run/3.mp4", "Train/loose.mp4")
    listing = scan_again("folder", tmp_path)
    assert listing.classes == ("run",)
    assert [entry.split for entry in listing.entries] == ["test", "train", "val"]


def test_a_train_folder_alone_is_not_a_class(tmp_path: Path) -> None:
    touch(tmp_path, "train/run/1.mp4", "train/sit/2.mp4")
    with pytest.raises(UserError, match="holds only train") as caught:
        scan_again("folder", tmp_path)
    assert "test/" in str(caught.value.hint)
    touch(tmp_path, "plane/3.mp4")  # among other classes it is one
    assert scan_again("folder", tmp_path).classes == ("plane", "train")


def test_clips_outside_of_class_folders_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "run/1.mp4", "intro.mp4")
    assert len(scan_again("folder", tmp_path).entries) == 1
    assert "1 video in no class folder, left out, such as intro.mp4" in caplog.text


def test_a_class_folder_that_is_no_text_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "sit/1.mp4", os.fsdecode(b"r\xfcn") + "/1.mp4")
    with pytest.raises(UserError, match=r"is not Unicode text: 'r\\udcfcn'"):
        scan_again("folder", tmp_path)
    for name in ("प्रतीक्षा करना", "走る 🏃‍♀️", "#1: 50 % {off}"):
        touch(tmp_path / "odd", f"{name}/1.mp4")
    assert len(scan_again("folder", tmp_path / "odd").classes) == 3


def test_lists_written_on_windows(csv: Path) -> None:
    before = scan_again("csv", csv, list_file=csv.parent / "list.csv")
    text = (csv.parent / "list.csv").read_text()
    text = text.replace("/", "\\").replace(",train", ", Training").replace("\n", "\r\n")
    (csv.parent / "list.csv").write_text("\ufeff" + text, encoding="utf-8", newline="")
    assert scan_again("csv", csv, list_file=csv.parent / "list.csv") == before


def test_links_to_data_on_a_medium_that_is_only_read(ucf101: Path, tmp_path: Path) -> None:
    before = scan_again("ucf101", ucf101)
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("UCF-101", "ucfTrainTestlist"):
        (mine / name).symlink_to(ucf101 / name)
    assert scan_again("ucf101", mine) == before
