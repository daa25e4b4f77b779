"""Lists and label CSVs as ViFi-CLIP and GA2-CLIP share them."""

from dataclasses import replace
from pathlib import Path

import pytest

from ga2clip.data.manifest import Clip, Manifest
from ga2clip.data.protocols import make_task
from ga2clip.data.splits import read_label_names
from ga2clip.errors import UserError
from ga2clip.label_files import read_clip_list
from ga2clip.settings import DataSettings


def manifest(root: Path) -> Manifest:
    clips = [
        Clip(f"UCF-101/{raw}/v_{raw}_g0{number}_c01.avi", name, split, 10, 1.0)
        for raw, name in (
            ("ApplyEyeMakeup", "applying eye makeup"),
            ("YoYo", "yo yo"),
            ("TaiChi", "practising tai chi"),
        )
        for number, split in ((1, "train"), (2, "train"), (3, "test"))
    ]
    return Manifest("ucf101", root, ("applying eye makeup", "yo yo", "practising tai chi"), (), tuple(clips))


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_base_and_novel_lists_with_their_own_ids(tmp_path: Path) -> None:
    data = DataSettings(
        protocol="base-to-novel",
        split_file=write(tmp_path / "fs.txt", "v_yoyo_g01_c01.avi 0\nv_TaiChi_g02_c01.avi 1\n"),
        test_split_file=write(tmp_path / "base.txt", "v_YoYo_g03_c01.avi 0\nv_TaiChi_g03_c01.avi 1\n")
        + ","
        + write(tmp_path / "novel.txt", "v_ApplyEyeMakeup_g03_c01.avi 0\n"),
        labels=write(tmp_path / "base.csv", "id,name\n0,YoYo\n1,TaiChi\n")
        + ","
        + write(tmp_path / "novel.csv", "id,name\n0,ApplyEyeMakeup\n"),
    )
    task = make_task(manifest(tmp_path), data, 1)
    # Names with the same letters get the manifest's spelling, others the CSV's words.
    assert task.classes == ("yo yo", "tai chi")
    assert [clip.label for clip in task.train] == ["yo yo", "tai chi"]
    base, novel = task.evals
    assert (novel.classes, len(novel.clips)) == (("apply eye makeup",), 1)
    assert [clip.label for clip in base.clips] == ["yo yo", "tai chi"]
    assert "lists fs.txt, base.txt, novel.txt" in task.rule


def test_without_csv_and_test_list_the_manifest_names_and_tests(tmp_path: Path) -> None:
    listed = "UCF-101/YoYo/v_YoYo_g01_c01.avi 7\nUCF-101/TaiChi/v_TaiChi_g01_c01.avi 3\n"
    data = DataSettings(protocol="few-shot", shots=1, split_file=write(tmp_path / "train.txt", listed))
    task = make_task(manifest(tmp_path), data, 1)
    assert {clip.label for clip in task.train} == {"yo yo", "practising tai chi"}
    assert len(task.evals[0].clips) == 2


def test_labels_alone_choose_classes_for_zero_shot(tmp_path: Path) -> None:
    data = DataSettings(
        protocol="zero-shot",
        test_split_file=write(tmp_path / "val.txt", "v_YoYo_g03_c01.avi 1\n"),
        labels=write(tmp_path / "names.csv", "id,name\n0,eating cake\n1,yo-yo\n"),
    )
    task = make_task(manifest(tmp_path), data, 1)
    assert task.evals[0].classes == ("eating cake", "yo yo")
    assert [clip.label for clip in task.evals[0].clips] == ["yo yo"]


def test_listed_clips_that_are_not_there_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed = "v_YoYo_g01_c01.avi 0\nv_YoYo_g99_c01.avi 0\nv_TaiChi_g01_c01.avi 1\n"
    data = DataSettings(protocol="few-shot", split_file=write(tmp_path / "train.txt", listed))
    task = make_task(manifest(tmp_path), data, 1)
    assert "train.txt (1 of 3 clips not there)" in task.rule
    assert "1 of 3 clips not there, such as v_YoYo_g99_c01.avi" in caplog.text


@pytest.mark.parametrize(
    ("listed", "labels", "message"),
    [
        ("nowhere.avi 0\n", "", "none of the 1 clip"),
        ("v_YoYo_g01_c01.avi zero\n", "", "line 1"),
        ("\n", "", "empty"),
        ("v_YoYo_g01_c01.avi 5\n", "id,name\n0,YoYo\n", "no id 5"),
        ("v_YoYo_g01_c01.avi 0\n", "count,name\n0,YoYo\n", "line 1: several columns"),
        ("v_YoYo_g01_c01.avi 0\n", "id,name\n0,YoYo\n0,TaiChi\n", "id 0 occurs twice"),
        ("v_YoYo_g01_c01.avi 0\n", "id,name\n0,YoYo\n1,yo yo\n", "occurs twice"),
        ("v_YoYo_g01_c01.avi 0\n", "id,name\n0,YoYo\n1,flying\n", "'flying' is not a class"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path: Path, listed: str, labels: str, message: str) -> None:
    data = DataSettings(
        protocol="few-shot",
        split_file=write(tmp_path / "train.txt", listed),
        labels=write(tmp_path / "labels.csv", labels) if labels else "",
    )
    with pytest.raises(UserError, match=message):
        make_task(manifest(tmp_path), data, 1)


def test_the_same_file_name_in_two_folders_needs_the_folder(tmp_path: Path) -> None:
    clips = (
        Clip("run/1.mp4", "run", "train", 5, 1.0),
        Clip("sit/1.mp4", "sit", "train", 5, 1.0),
        Clip("sit/2.mp4", "sit", "test", 5, 1.0),
        Clip("run/2.mp4", "run", "test", 5, 1.0),
    )
    made = Manifest("folder", tmp_path, ("run", "sit"), (), clips)
    given = DataSettings(
        protocol="few-shot", split_file=write(tmp_path / "a.txt", "run/1.mp4 0\nsit/1.mp4,1\n")
    )
    assert len(make_task(made, given, 1).train) == 2
    with pytest.raises(UserError, match="none of the 1 clip "):
        make_task(made, given.model_copy(update={"split_file": write(tmp_path / "b.txt", "1.mp4 0\n")}), 1)


def test_paths_with_blanks_and_commas(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a folder/a clip.mp4 3\nb.mp4,4\n\n")
    assert read_clip_list(path) == [("a folder/a clip.mp4", 3), ("b.mp4", 4)]
    with pytest.raises(UserError, match="cannot read"):
        read_clip_list(tmp_path / "none.txt")
    with pytest.raises(UserError, match="cannot read"):
        read_label_names(tmp_path / "none.csv")


def listed(tmp_path: Path, train: str, labels: str = "") -> DataSettings:
    return DataSettings(
        protocol="few-shot",
        split_file=write(tmp_path / "train.txt", train),
        labels=write(tmp_path / "labels.csv", labels) if labels else "",
    )


NAMES = "id,name\n0,applying eye makeup\n1,yo yo\n2,practising tai chi\n"


def test_a_list_that_counts_from_1_is_refused_with_labels_that_count_from_0(tmp_path: Path) -> None:
    lines = ("ApplyEyeMakeup", "YoYo", "TaiChi")
    text = "".join(f"v_{name}_g01_c01.avi {number}\n" for number, name in enumerate(lines, start=1))
    with pytest.raises(UserError, match=r"train.txt counts its labels from 1, the label file from 0"):
        make_task(manifest(tmp_path), listed(tmp_path, text, NAMES), 1)
    from_1 = "1 ApplyEyeMakeup\n2 YoYo\n3 TaiChi\n"  # classInd.txt
    made = replace(manifest(tmp_path), raw_names=lines)
    data = listed(tmp_path, text, from_1).model_copy(
        update={"test_split_file": write(tmp_path / "test.txt", "v_YoYo_g03_c01.avi 2\n")}
    )
    task = make_task(made, data, 1)
    assert [(clip.path.split("/")[1], clip.label) for clip in task.train] == [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("YoYo", "yo yo"),
        ("TaiChi", "tai chi"),
    ]


@pytest.mark.parametrize("names", [NAMES, "id,name\n0,ApplyEyeMakeup\n1,YoYo\n2,TaiChi\n"])
def test_labels_that_contradict_the_folders_of_most_clips_are_refused(tmp_path: Path, names: str) -> None:
    made = replace(manifest(tmp_path), raw_names=("ApplyEyeMakeup", "YoYo", "TaiChi"))
    shifted = "v_ApplyEyeMakeup_g01_c01.avi 1\nv_YoYo_g01_c01.avi 2\nv_YoYo_g02_c01.avi 2\n"
    with pytest.raises(
        UserError, match=r"labels of 3 of 3 clips contradict ucf101: UCF-101/ApplyEyeMakeup/v_"
    ):
        make_task(made, listed(tmp_path, shifted, names), 1)


def test_a_few_labels_that_contradict_the_folders_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = (
        "v_ApplyEyeMakeup_g01_c01.avi 0\nv_YoYo_g01_c01.avi 1\nv_TaiChi_g01_c01.avi 2\nv_YoYo_g02_c01.avi 2\n"
    )
    task = make_task(manifest(tmp_path), listed(tmp_path, lines, NAMES), 1)
    assert "labels of 1 of 4 clips contradict ucf101" in caplog.text
    assert len(task.train) == 4
    # Without names a number still means one class.
    text = "v_ApplyEyeMakeup_g01_c01.avi 0\nv_YoYo_g01_c01.avi 0\nv_TaiChi_g01_c01.avi 0\n"
    with pytest.raises(UserError, match=r"2 of 3 clips contradict .* is 'yo yo' there and 0 here"):
        make_task(manifest(tmp_path), listed(tmp_path, text), 1)
    text = "v_YoYo_g01_c01.avi 0\nv_YoYo_g02_c01.avi 1\nv_TaiChi_g01_c01.avi 2\n"
    assert len(make_task(manifest(tmp_path), listed(tmp_path, text), 1).train) == 3
    assert (
        "labels of 1 of 3 clips contradict ucf101: UCF-101/YoYo/v_YoYo_g02_c01.avi is 'yo yo' there"
        in caplog.text
    )


def test_a_clip_that_is_listed_with_several_labels_is_left_out_and_counted(tmp_path: Path) -> None:
    numbered = (("YoYo_g01", 1), ("YoYo_g01", 2), ("YoYo_g02", 1), ("YoYo_g02", 1), ("TaiChi_g01", 2))
    lines = "".join(f"v_{name}_c01.avi {number}\n" for name, number in numbered)
    task = make_task(manifest(tmp_path), listed(tmp_path, lines), 1)
    assert [Path(clip.path).stem for clip in task.train] == ["v_YoYo_g02_c01", "v_TaiChi_g01_c01"]
    assert "train.txt (1 of 5 clips with several labels)" in task.rule


def test_names_of_signs_and_other_scripts_are_told_apart(tmp_path: Path) -> None:
    classes = ("🚴", "🏃", "दिन", "दान")
    clips = tuple(
        Clip(f"{split}/{number}.mp4", name, split, 5, 1.0)
        for split in ("train", "test")
        for number, name in enumerate(classes)
    )
    made = Manifest("folder", tmp_path, classes, (), clips)
    text = "".join(f"train/{n}.mp4 {n}\n" for n in range(4))
    names = "id,name\n" + "".join(f"{n},{name}\n" for n, name in enumerate(classes))
    task = make_task(made, listed(tmp_path, text, names), 1)
    assert [clip.label for clip in task.train] == list(classes)


def test_lists_of_clips_that_were_converted(tmp_path: Path) -> None:
    listed = "YoYo/v_YoYo_g01_c01.mp4 0\nv_TaiChi_g01_c01 1\n"
    data = DataSettings(protocol="few-shot", split_file=write(tmp_path / "train.txt", listed))
    task = make_task(manifest(tmp_path), data, 1)
    assert [Path(clip.path).stem for clip in task.train] == ["v_YoYo_g01_c01", "v_TaiChi_g01_c01"]
