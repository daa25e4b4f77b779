from collections import Counter
from pathlib import Path

import pytest

from ga2clip.data.manifest import Clip, Manifest
from ga2clip.data.protocols import Task, make_task
from ga2clip.errors import UserError
from ga2clip.settings import AnchorSettings, DataSettings

COUNTS = {"archery": 6, "bowling": 9, "cycling": 6, "diving": 3, "eating": 7}


def manifest(
    root: Path = Path("/data"), counts: dict[str, int] = COUNTS, base: tuple[str, ...] = ()
) -> Manifest:
    clips = [
        Clip(f"{name}/{split}{number}.mp4", name, split, 10, 1.0)
        for name, train in counts.items()
        for split, count in (("train", train), ("test", 2))
        for number in range(count)
    ]
    clips += [Clip(f"anchor/{number}.mp4", None, "anchor", 10, 1.0) for number in range(3)]
    return Manifest("folder", root, tuple(counts), base, tuple(clips))


def task(protocol: str, shots: int = 2, seed: int = 1, made: Manifest | None = None, **data: object) -> Task:
    settings = DataSettings.model_validate({"protocol": protocol, "shots": shots, **data})
    return make_task(made or manifest(), settings, seed)


def test_few_shot_draws_k_per_class_the_same_for_the_same_seed() -> None:
    first, again, other = task("few-shot"), task("few-shot"), task("few-shot", seed=2)
    assert Counter(clip.label for clip in first.train) == dict.fromkeys(COUNTS, 2)
    assert first.train == again.train
    assert first.train != other.train
    assert "2 training clips per class drawn with seed 1" in first.rule
    assert [(e.name, len(e.clips)) for e in first.evals] == [("test", 10)]


def test_base_is_the_more_frequent_half_and_halves_are_tested_apart() -> None:
    made = task("base-to-novel")
    # Of archery and cycling, which have equally many clips, the later one is base.
    assert made.classes == ("bowling", "cycling", "eating")
    base, novel = made.evals
    assert (base.name, base.classes) == ("base", made.classes)
    assert (novel.name, novel.classes) == ("novel", ("archery", "diving"))
    assert {clip.label for clip in novel.clips} == {"archery", "diving"}
    assert {clip.label for clip in made.train} == set(made.classes)


def test_hmdb_rule_of_the_field_with_equal_counts_takes_the_last_26_as_base() -> None:
    names = [f"class {number:02d}" for number in range(51)]
    made = task("base-to-novel", made=manifest(counts=dict.fromkeys(names, 3)))
    assert made.classes == tuple(names[25:])


def test_a_declared_base_half_wins() -> None:
    made = task("base-to-novel", made=manifest(base=("archery", "diving")))
    assert made.classes == ("archery", "diving")
    assert "declared" in made.rule


def test_full_trains_on_everything_and_zero_shot_on_nothing() -> None:
    assert len(task("full").train) == sum(COUNTS.values())
    assert len(task("few-shot", shots=0).train) == sum(COUNTS.values())
    untrained = task("zero-shot")
    assert untrained.train == ()
    assert untrained.classes == untrained.evals[0].classes == tuple(COUNTS)


def test_fewer_clips_than_shots_are_all_taken_and_said(caplog: pytest.LogCaptureFixture) -> None:
    made = task("few-shot", shots=7)
    assert Counter(clip.label for clip in made.train)["diving"] == 3
    [said] = caplog.messages  # one line, however many classes
    assert said == "3 of 5 classes have fewer than 7 training clips, such as 'diving' with 3"


def test_broken_clips_are_never_trained_on_but_stay_in_the_test() -> None:
    whole = manifest()
    broken = tuple(
        Clip(clip.path, clip.label, clip.split, 0, 0.0)
        if clip.path.endswith(("train0.mp4", "test0.mp4"))
        else clip
        for clip in whole.clips
    )
    made = task("full", made=Manifest("folder", whole.root, whole.classes, (), broken))
    assert len(made.train) == sum(COUNTS.values()) - len(COUNTS)
    assert len(made.evals[0].clips) == 10


def test_classes_without_clips_are_refused() -> None:
    whole = manifest()
    with pytest.raises(UserError, match="class 'golfing' has no training clip"):
        task("few-shot", made=Manifest("folder", whole.root, (*whole.classes, "golfing"), (), whole.clips))
    clips = tuple(clip for clip in whole.clips if clip.split == "train")
    with pytest.raises(UserError, match="no test clip"):
        task("few-shot", made=Manifest("folder", whole.root, whole.classes, (), clips))


def test_validation_clips_are_tested_where_the_dataset_says_so() -> None:
    clips = (Clip("1.mp4", "a", "train", 1, 1.0), Clip("2.mp4", "a", "val", 1, 1.0))
    made = Manifest("ssv2", Path("/x"), ("a",), (), clips, {"test_split": "val", "flip": False})
    result = task("few-shot", made=made)
    assert [clip.path for clip in result.evals[0].clips] == ["2.mp4"]
    assert not result.flip


def test_anchors_are_taken_from_where_the_settings_say(tmp_path: Path) -> None:
    made, data = manifest(tmp_path), DataSettings(protocol="few-shot", shots=1)
    assert make_task(made, data, 1).anchors == ()
    assert make_task(made, data, 1, AnchorSettings(weight=0)).anchors == ()
    assert len(make_task(made, data, 1, AnchorSettings(weight=1)).anchors) == 3
    folder = tmp_path / "traffic"
    folder.mkdir()
    (folder / "b.mp4").touch()
    (folder / "notes.txt").touch()
    found = make_task(made, data, 1, AnchorSettings(weight=1, source=str(folder))).anchors
    assert [(clip.path, clip.label) for clip in found] == [("traffic/b.mp4", None)]
    with pytest.raises(UserError, match="has no clip"):
        make_task(made, data, 1, AnchorSettings(weight=1, source="unused"))
    with pytest.raises(UserError, match="not a folder"):
        make_task(made, data, 1, AnchorSettings(weight=1, source="nowhere"))
