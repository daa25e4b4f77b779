"""What classes are called: readable, raw, or as a file says; and what a run was tuned with, found again."""

from pathlib import Path

import pytest

from ga2clip.data.class_names import described_as_named, kind_of_names, named, named_as_tuned
from ga2clip.data.manifest import Clip, Manifest
from ga2clip.data.protocols import make_task
from ga2clip.errors import UserError
from ga2clip.settings import DataSettings

RAW = ("Archery", "BalanceBeam", "YoYo", "Pushing [something], twice")
READABLE = ("archery", "gymnastics on a balance beam", "playing with a yo-yo", "pushing something, twice")


def manifest(raw: tuple[str, ...] = RAW) -> Manifest:
    clips = [
        Clip(f"{number}_{split}.mp4", name, split, 8, 0.8)
        for number, name in enumerate(READABLE)
        for split in ("train", "test")
    ]
    clips.append(Clip("anchor.mp4", None, "anchor", 8, 0.8))
    return Manifest("ucf101", Path("data"), READABLE, READABLE[:2], tuple(clips), {}, raw)


def write(folder: Path, *lines: str) -> str:
    path = folder / "names.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def as_tuned(*tuned: str, class_names: str = "readable", sure: bool = False) -> Manifest:
    return named_as_tuned(manifest(), class_names, tuned, sure=sure)


def test_readable_and_raw_names_label_the_same_clips() -> None:
    assert named(manifest(), "readable") == manifest()
    raw = named(manifest(), "raw")
    assert (raw.classes, raw.base_classes) == (RAW, RAW[:2])
    assert {clip.path[0]: clip.label for clip in raw.clips} == dict(zip("0123a", [*RAW, None], strict=True))
    task = make_task(raw, DataSettings(shots=0), 1)
    assert [part.classes for part in task.evals] == [RAW[:2], RAW[2:]]


def test_a_manifest_of_an_earlier_version_has_no_raw_names() -> None:
    assert named(manifest(raw=()), "readable").classes == READABLE
    with pytest.raises(UserError, match="no raw class names") as caught:
        named(manifest(raw=()), "raw")
    assert "ga2clip prepare --dataset ucf101" in str(caught.value.hint)


def test_a_file_names_classes_in_their_order_or_by_raw_label(tmp_path: Path) -> None:
    names = ("shooting arrows", "beam", "toy on a string", "shoving, again")
    assert named(manifest(), write(tmp_path, *names)).classes == names
    pairs = (
        "YoYo, toy on a string",
        '"Pushing [something], twice","shoving, again"',
        "BalanceBeam,beam",
        "Archery,shooting arrows",
    )
    assert named(manifest(), write(tmp_path, *pairs)).classes == names
    assert named(manifest(), write(tmp_path, *READABLE)).classes == READABLE


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("a", "b", "c"), "holds 3 names, ucf101 has 4"),
        ((READABLE[1], READABLE[0], *READABLE[2:]), "not in the order .* name 1, .* is its class 2"),
        (("Archery,a", "BalanceBeam,b", "YoYo,c"), r"no line for the class 'Pushing"),
        (("Archery,a", "BalanceBeam,b", "YoYo,c", "d"), "no line for the class"),
        (("Archery,a", "Archery,b", "YoYo,c", "BalanceBeam,d"), "no line for the class"),
    ],
)
def test_a_file_that_leaves_doubt_is_refused(lines: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        named(manifest(), write(tmp_path, *lines))


def test_a_kind_that_is_no_file_is_refused() -> None:
    with pytest.raises(UserError, match="no class names 'rwa'") as caught:
        named(manifest(), "rwa")
    assert "readable, raw" in str(caught.value.hint)


@pytest.mark.parametrize("tuned", [RAW, RAW[:2], ("YoYo",)])
def test_raw_names_of_a_run_are_found_again(tuned: tuple[str, ...]) -> None:
    assert as_tuned(*tuned).classes == RAW
    assert as_tuned(*tuned, class_names="raw", sure=True).classes == RAW


def test_the_words_of_raw_labels_keep_the_runs_spelling() -> None:
    tuned = ("Archery", "Balance_Beam", "Yo Yo")
    assert as_tuned(*tuned).classes == (*tuned, RAW[3])
    assert as_tuned(*READABLE[:2]).classes == READABLE


def test_other_spellings_are_matched_when_they_are_all_there() -> None:
    tuned = ("archery!", "Balance-Beam", "yo-yo", "pushing something twice")
    assert as_tuned(*tuned).classes == tuned
    with pytest.raises(UserError, match="was tuned on"):
        as_tuned(*tuned[:2])


def test_names_of_no_kind_are_refused_with_what_to_add() -> None:
    with pytest.raises(
        UserError, match=r"tuned on 'juggling', which is not a class name of ucf101 in data"
    ) as caught:
        as_tuned("Archery", "juggling")
    assert "--class-names FILE" in str(caught.value.hint)


def test_a_run_of_our_own_goes_on_when_its_dataset_has_changed(caplog: pytest.LogCaptureFixture) -> None:
    assert as_tuned("Archery", "Juggling", class_names="raw", sure=True).classes == RAW
    assert "no class 'Juggling'" in caplog.text


def test_kinds_of_names_are_told_by_the_declared_ones() -> None:
    assert kind_of_names("ucf101", ["Archery", "BalanceBeam"]) == "raw"
    assert kind_of_names("ucf101", ["archery", "gymnastics on a balance beam"]) == "readable"
    assert kind_of_names("hmdb51", ["brush_hair"]) == "raw"
    assert kind_of_names("kinetics400", ["cart-wheel", "Tai Chi"]) == "readable"


def test_descriptions_belong_to_a_class_by_any_of_its_names() -> None:
    """Published lists have raw labels as words, such as CuPL's "Balance Beam", which is no readable name of ours."""
    table = {"Balance Beam": ("a",), "playing with a yo yo": ("b",), "archery": (), "unknown": ("c",)}
    for names in (manifest(), named(manifest(), "raw")):
        found = described_as_named(table, names, READABLE)
        assert list(found.items()) == [
            (names.classes[1], ("a",)),
            (names.classes[2], ("b",)),
            (names.classes[0], ()),
            ("unknown", ("c",)),
        ]
    with pytest.raises(UserError, match="the class 'playing with a yo-yo' twice, also as 'YoYo'"):
        described_as_named(table | {"YoYo": ("d",)}, manifest(), READABLE)
