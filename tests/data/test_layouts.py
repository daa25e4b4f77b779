import json
from pathlib import Path

import pytest

from ga2clip.data.listing import scan
from ga2clip.errors import UserError
from ga2clip.registry import DATASETS
from ga2clip.video import find_videos


def roles(listing: object) -> dict[str, list[str]]:
    """Splits of every clip by file name."""
    return {e.path.rpartition("/")[2]: [e.split, *e.other_splits] for e in listing.entries}  # type: ignore[attr-defined]


def test_ucf101(ucf101: Path) -> None:
    listing = scan(DATASETS["ucf101"], ucf101)
    assert listing.classes == ("applying eye makeup", "playing with a yo-yo")
    assert listing.missing == ("ApplyEyeMakeup/v_ApplyEyeMakeup_g04_c01.avi",)
    assert roles(listing)["v_YoYo_g02_c01.avi"] == ["train", "test", "train"]
    assert {entry.group for entry in listing.entries} == {"01", "02", "03", "04"}


def test_hmdb51(hmdb51: Path) -> None:
    listing = scan(DATASETS["hmdb51"], hmdb51)
    assert listing.classes == ("brushing hair", "waving a hand")
    assert len(listing.missing) == 1
    assert roles(listing)["#a [x] & b;3_wave_u_nm_np1_ba_goo_0.avi"] == ["unused", "train", "train"]


def test_ssv2(ssv2: Path) -> None:
    listing = scan(DATASETS["ssv2"], ssv2)
    assert listing.classes == ("holding something", "pushing something from left to right")
    assert listing.test_split == "val"
    assert listing.missing == ("999.webm",)
    assert [entry.split for entry in listing.entries] == ["train"] * 4 + ["val"] * 2
    assert not DATASETS["ssv2"].flip


def test_kinetics_nested_and_flat_with_any_spelling_of_times(kinetics400: Path) -> None:
    listing = scan(DATASETS["kinetics400"], kinetics400)
    assert listing.classes == ("abseiling", "air drumming")
    assert {e.path: (e.label, e.split) for e in listing.entries} == {
        "train/abseiling/-aA_1_000003_000013.mp4": ("abseiling", "train"),
        "train/abseiling/bb_b2_0_10.mp4": ("abseiling", "train"),
        "train/air_drumming/cc3_000007_000017.mp4": ("air drumming", "train"),
        "val/ee5_000005_000015.mp4": ("abseiling", "val"),
        "val/ff6_000006_000016.mp4": ("air drumming", "val"),
    }
    assert listing.missing == ("train/dd4_000001_000011.mp4",)


def test_folder_is_split_by_the_seed_and_says_so(folder: Path) -> None:
    first = scan(DATASETS["folder"], folder, seed=1)
    assert first.classes == ("jump rope", "doing yoga")
    assert first.rule == "25% of each class drawn for testing with seed 1"
    assert first.entries == scan(DATASETS["folder"], folder, seed=1).entries
    for label in first.classes:
        assert sorted(e.split for e in first.entries if e.label == label) == [
            "test",
            "train",
            "train",
            "train",
        ]
    drawn = {
        seed: tuple(e.path for e in scan(DATASETS["folder"], folder, seed=seed).entries if e.split == "test")
        for seed in range(8)
    }
    assert len(set(drawn.values())) > 1


def test_folder_with_splits_inside(tmp_path: Path) -> None:
    for place in (
        "train/run/a.mp4",
        "train/run/deep/b.mp4",
        "val/run/c.mp4",
        "train/sit/d.MKV",
        "val/readme.txt",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    listing = scan(DATASETS["folder"], tmp_path)
    assert [(e.path, e.label, e.split) for e in listing.entries] == [
        ("train/run/a.mp4", "run", "train"),
        ("train/run/deep/b.mp4", "run", "train"),
        ("train/sit/d.MKV", "sit", "train"),
        ("val/run/c.mp4", "run", "val"),
    ]
    assert listing.test_split == "val"


def test_csv(csv: Path) -> None:
    listing = scan(DATASETS["csv"], csv, list_file=csv.parent / "list.csv")
    assert listing.classes == ("jumping a rope", "yoga")
    assert listing.missing == ("none.mp4",)
    assert sorted(e.split for e in listing.entries) == ["test"] * 4 + ["train"] * 4


@pytest.mark.parametrize("line", ["a.mp4", "a.mp4,", "a.mp4,run,tset", "a.mp4,run,train,more"])
def test_csv_lines_that_are_wrong_are_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "list.csv").write_text(f"b.mp4,run\n{line}\n")
    with pytest.raises(UserError, match="line 2"):
        scan(DATASETS["csv"], tmp_path, list_file=tmp_path / "list.csv")
    with pytest.raises(UserError, match="needs a list"):
        scan(DATASETS["csv"], tmp_path)


def test_a_clip_with_several_labels_or_roles_is_left_out_whatever_the_dataset(
    csv: Path, kinetics400: Path, ssv2: Path
) -> None:
    lines = ["JumpRope/1.mp4,run,train", "JumpRope/1.mp4,sit,train", "JumpRope/0.mp4,run,train"]
    more = ["./JumpRope/0.mp4,run,train", "JumpRope/3.mp4,run,test", "JumpRope/3.mp4,run,train"]
    (csv.parent / "list.csv").write_text("\n".join([*lines, *more]))
    listing = scan(DATASETS["csv"], csv, list_file=csv.parent / "list.csv")
    assert [entry.path for entry in listing.entries] == ["JumpRope/0.mp4"]
    assert listing.contradictory == (
        ("JumpRope/1.mp4", "labels: run, sit"),
        ("JumpRope/3.mp4", "listed for test and train"),
    )
    annotations = kinetics400 / "annotations" / "train.csv"
    annotations.write_text(annotations.read_text() + "air drumming,bb_b2,0,10,train\n")
    listing = scan(DATASETS["kinetics400"], kinetics400)
    assert listing.contradictory == (("train/abseiling/bb_b2_0_10.mp4", "labels: abseiling, air drumming"),)
    assert len(listing.entries) == 4
    annotations = ssv2 / "something-something-v2-train.json"
    clips = json.loads(annotations.read_text())
    annotations.write_text(json.dumps([*clips, {**clips[0], "template": clips[1]["template"]}]))
    assert [path for path, _ in scan(DATASETS["ssv2"], ssv2).contradictory] == [
        "20bn-something-something-v2/100.webm"
    ]


@pytest.mark.parametrize("separator", ["\t", ";", ", "])
def test_lists_with_tabs_semicolons_and_quotes(csv: Path, separator: str) -> None:
    (csv / "a, b").mkdir()
    (csv / "JumpRope" / "0.mp4").rename(csv / "a, b" / "take 1, 0.mp4")
    lines = [f'"a, b/take 1, 0.mp4"{separator}jump, high', f"JumpRope/1.mp4{separator}run"]
    if separator == ", ":
        lines[0] = lines[0].replace("jump, high", '"jump, high"')
    (csv.parent / "list.csv").write_text("\n".join(lines))
    listing = scan(DATASETS["csv"], csv, list_file=csv.parent / "list.csv")
    assert {(e.path, e.label) for e in listing.entries} == {
        ("a, b/take 1, 0.mp4", "jump, high"),
        ("JumpRope/1.mp4", "run"),
    }


def test_numbers_for_labels_are_refused(csv: Path) -> None:
    (csv.parent / "list.csv").write_text("JumpRope/0.mp4,0\nJumpRope/1.mp4,1\n")
    with pytest.raises(UserError, match="numbers for labels") as caught:
        scan(DATASETS["csv"], csv, list_file=csv.parent / "list.csv")
    assert "--labels" in str(caught.value.hint)


def test_kinetics_downloads_with_two_suffixes(kinetics400: Path) -> None:
    before = scan(DATASETS["kinetics400"], kinetics400)
    for number, clip in enumerate(find_videos(kinetics400)):
        clip.rename(clip.with_name(f"{clip.name}{('.webm', '.mkv')[number % 2]}"))
    after = scan(DATASETS["kinetics400"], kinetics400)
    assert [(e.label, e.split) for e in after.entries] == [(e.label, e.split) for e in before.entries]
    assert after.missing == before.missing


def test_kinetics_with_times_that_are_none_is_refused(kinetics400: Path) -> None:
    (kinetics400 / "annotations" / "val.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nabseiling,ee5,soon,15,validate\n"
    )
    with pytest.raises(UserError, match=r"val.csv, line 2"):
        scan(DATASETS["kinetics400"], kinetics400)


@pytest.mark.parametrize("name", [name for name in DATASETS.names() if DATASETS[name].read])
def test_without_the_data_it_says_where_to_get_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "list.csv").write_text("a.mp4,run\n")
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError) as caught:
            scan(DATASETS[name], root, list_file=tmp_path / "list.csv")
        assert caught.value.hint == DATASETS[name].get_it


def test_unknown_dataset_gets_the_nearest_name() -> None:
    with pytest.raises(UserError) as caught:
        DATASETS["ufc101"]
    assert "did you mean 'ucf101'" in str(caught.value.hint)


def test_videos_are_found_through_links_but_not_forever(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.mp4").touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / ".ga2clip").mkdir()
    (tmp_path / ".ga2clip" / "2.mp4").touch()
    assert find_videos(tmp_path) == [tmp_path / "a" / "1.mp4"]
