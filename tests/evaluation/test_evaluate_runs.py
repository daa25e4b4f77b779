"""Evaluation of trained runs on real (tiny) videos: views, unreadable clips, other datasets, official splits."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ga2clip
from ga2clip.data.manifest import Manifest
from ga2clip.errors import UserError
from ga2clip.evaluation import measure
from ga2clip.evaluation.evaluate import evaluate_all, evaluate_run, evaluate_runs
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.run import load_run
from ga2clip.run_files import read_tensors, save_tensors
from ga2clip.settings import Settings
from ga2clip.training import job, train

Make = Callable[..., Settings]


@pytest.fixture
def trained(settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(job, "draw_curves", lambda _: None)
    return train.train(settings("ivlp"), tmp_path / "run", device="cpu", progress=False)


@pytest.fixture
def untuned(settings: Make, tmp_path: Path) -> Path:
    """A run of the untrained backbone."""
    return train.train(settings("zero-shot"), tmp_path / "untuned", device="cpu", progress=False)


@pytest.fixture
def copied(dataset: Path, tmp_path: Path) -> Path:
    """The dataset, to be damaged."""
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


def test_an_unreadable_clip_counts_as_wrong_and_is_named(trained: Path, copied: Path) -> None:
    whole = evaluate_run(trained, device="cpu", progress=False).to_json()
    (copied / "0_4.mp4").write_bytes(b"no video")
    damaged = evaluate_run(trained, root=copied, device="cpu", progress=False)
    tree = damaged.to_json()
    damaged.write(copied / "eval")
    with (copied / "eval/clips.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert rows["0_4.mp4"]["warnings"] == tree["errors"][0]["error"]
    assert rows["0_5.mp4"]["warnings"] == ""
    right = [int(row["correct"]) for row in rows.values() if row["set"] == "novel"]
    assert sum(right) / len(right) == tree["novel"]["top1"]
    assert float(rows["0_5.mp4"]["score_1"]) + float(rows["0_5.mp4"]["score_2"]) == pytest.approx(1, abs=2e-6)
    assert (tree["frames"], tree["seed"], tree["class_names"]) == (2, 1, "readable")
    assert tree["base"]["n"] == whole["base"]["n"]
    assert tree["base"]["top5"] == pytest.approx(1 - 1 / 4)
    assert [error["file"] for error in tree["errors"]] == ["0_4.mp4"]
    assert "1 clip could not be read" in damaged.table()


def test_views_are_averaged_and_clips_counted_once(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Size] = []
    rank = measure.rank_classes
    monkeypatch.setattr(measure, "rank_classes", lambda found: (seen.append(found.shape), rank(found))[1])
    encoded: list[int] = []
    encode = VideoCLIP.encode_video
    monkeypatch.setattr(
        VideoCLIP, "encode_video", lambda model, video: (encoded.append(len(video)), encode(model, video))[1]
    )
    report = evaluate_run(trained, views=(2, 3), device="cpu", progress=False)
    assert [part.scores.n for part in report.sets] == [4, 4]
    assert seen == [(4, 2), (4, 2)]
    assert sum(encoded) == 8 * 2 * 3
    assert report.to_json()["views"] == "2x3"
    assert report.folder == "stickfigures-base-to-novel-2x3"
    once = evaluate_run(trained, device="cpu", progress=False)
    assert (once.to_json()["views"], once.folder) == ("1x1", "stickfigures-base-to-novel")


def test_official_splits_give_mean_and_deviation(untuned: Path, trained: Path, copied: Path) -> None:
    """Split 2 tests what split 1 trains on: a run that was tuned on it is neither zero-shot nor tested there."""
    manifest = Manifest.read(copied)
    swapped = {"train": "test", "test": "train", "anchor": "anchor"}
    clips = tuple(replace(clip, other_splits=(swapped[clip.split],)) for clip in manifest.clips)
    replace(manifest, clips=clips).write()
    with pytest.raises(UserError, match="was tuned on stickfigures: its accuracy there is not zero-shot"):
        evaluate_run(trained, protocol="zero-shot", root=copied, device="cpu", progress=False)
    halves, everything = evaluate_all(trained, root=copied, device="cpu", progress=False)
    assert (halves.protocol, everything.protocol) == ("base-to-novel", "all-classes")
    assert [(part.split, part.scores.n) for part in everything.sets] == [(1, 8)]
    assert "zero-shot" not in json.dumps(everything.to_json())
    report = evaluate_run(untuned, protocol="zero-shot", root=copied, device="cpu", progress=False)
    assert [(part.split, part.scores.n) for part in report.sets] == [(1, 8), (2, 16)]
    test = report.to_json()["test"]
    assert test["top1"] == pytest.approx(sum(split["top1"] for split in test["splits"]) / 2)
    assert "±" in report.table()


def change(root: Path, **changes: object) -> Manifest:
    """Write a manifest with other values; `clips` may be a function of a clip."""
    manifest = Manifest.read(root)
    if callable(of_clip := changes.get("clips")):
        changes["clips"] = tuple(map(of_clip, manifest.clips))
    replace(manifest, **changes).write()  # type: ignore[arg-type]
    return Manifest.read(root)


def test_test_clips_that_were_trained_on_are_refused_and_named(trained: Path, copied: Path) -> None:
    change(copied, clips=lambda clip: replace(clip, split="test") if clip.path == "0_1.mp4" else clip)
    with pytest.raises(UserError, match=r"was trained on 1 of the 9 test clips, such as 0_1\.mp4") as caught:
        evaluate_run(trained, root=copied, device="cpu", progress=False)
    assert f"ga2clip train --recipe {trained}" in str(caught.value.hint)
    # What matters is the content: with another one in its place, the clip is a new one.
    change(copied, clips=lambda clip: replace(clip, sha256="0" * 64) if clip.path == "0_1.mp4" else clip)
    assert evaluate_run(trained, root=copied, device="cpu", progress=False).sets[0].scores.n == 5


def test_duplicates_that_were_there_from_the_beginning_are_only_said(
    settings: Make, copied: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change(copied, clips=lambda c: replace(c, sha256="ab" * 32) if c.path in ("0_1.mp4", "0_4.mp4") else c)
    chosen = settings("ivlp", data={"root": str(copied)})
    out = train.train(chosen, tmp_path / "run", device="cpu", progress=False)
    assert evaluate_run(out, device="cpu", progress=False).sets[0].scores.n == 4
    assert "1 of 8 test clips have the same content as training clips, such as 0_4.mp4" in caplog.text


def test_other_base_classes_than_the_runs_are_refused(trained: Path, copied: Path) -> None:
    names = Manifest.read(copied).classes
    change(copied, base_classes=(names[0], names[2]))
    with pytest.raises(UserError, match="base classes of stickfigures are not the 2 classes"):
        evaluate_run(trained, root=copied, device="cpu", progress=False)


def test_a_folder_of_other_clips_is_another_dataset(settings: Make, copied: Path, tmp_path: Path) -> None:
    """`folder` names many datasets: which one is the run's follows from the place and the clips."""
    number = iter(range(100))
    change(copied, dataset="folder", clips=lambda clip: replace(clip, sha256=f"{next(number):02x}" * 32))
    other, moved = (Path(shutil.copytree(copied, tmp_path / name)) for name in ("other", "moved"))
    change(other, clips=lambda clip: replace(clip, sha256=f"{next(number):02x}" * 32))
    data = {"root": str(copied), "dataset": "folder"}
    out = train.train(settings("ivlp", data=data), tmp_path / "run", device="cpu", progress=False)
    report = evaluate_run(out, protocol="zero-shot", root=other, device="cpu", progress=False)
    assert report.protocol == "zero-shot"
    # Each has a folder of its own below RUN/eval; the run's own data keeps its name wherever it lies.
    here = [evaluate_run(out, root=root, device="cpu", progress=False).folder for root in (copied, moved)]
    assert here == ["folder-base-to-novel"] * 2
    assert re.fullmatch(r"folder-other-[0-9a-f]{8}-zero-shot", report.folder)
    for root in (copied, moved):
        with pytest.raises(UserError, match="was tuned on folder"):
            evaluate_run(out, protocol="zero-shot", root=root, device="cpu", progress=False)


def test_classes_that_came_are_said(
    settings: Make, dataset: Path, copied: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = Manifest.read(copied).classes
    kept = [clip for clip in Manifest.read(copied).clips if clip.label != names[3]]
    change(copied, classes=names[:3], clips=tuple(kept))
    chosen = settings("ivlp", data={"root": str(copied), "protocol": "few-shot"})
    out = train.train(chosen, tmp_path / "run", device="cpu", progress=False)
    report = evaluate_run(out, root=dataset, device="cpu", progress=False)
    assert report.sets[0].classes == names
    assert f"1 class came to stickfigures since {out} was trained, such as '{names[3]}'" in caplog.text


def test_a_run_of_an_earlier_version_has_no_record_and_is_measured(trained: Path, copied: Path) -> None:
    (trained / "data.json").unlink()
    change(copied, clips=lambda clip: replace(clip, split="test") if clip.path == "0_1.mp4" else clip)
    assert evaluate_run(trained, root=copied, device="cpu", progress=False).sets[0].scores.n == 5
    (trained / "data.json").write_text("{")
    with pytest.raises(UserError, match=r"data\.json is damaged"):
        load_run(trained)


def test_other_names_are_measured_in_a_folder_of_their_own(trained: Path, tmp_path: Path) -> None:
    folders = []
    for name in ("a", "b"):
        file = tmp_path / name / "names.txt"
        file.parent.mkdir()
        file.write_text("\n".join(f"{index} {name}" for index in ("one", "two", "three", "four")))
        folders.append(evaluate_run(trained, class_names=str(file), device="cpu", progress=False).folder)
    assert len({*folders, "stickfigures-base-to-novel"}) == 3
    assert all(folder.startswith("stickfigures-base-to-novel-names-") for folder in folders)


def test_another_dataset_is_tested_zero_shot(trained: Path, dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "other"
    shutil.copytree(dataset, root)
    manifest = Manifest.read(root)
    names = {name: f"{name} slowly" for name in manifest.classes}
    clips = tuple(replace(clip, label=names[clip.label] if clip.label else None) for clip in manifest.clips)
    replace(manifest, dataset="ucf101", classes=tuple(names.values()), base_classes=(), clips=clips).write()
    report = evaluate_run(trained, dataset="ucf101", root=root, device="cpu", progress=False)
    assert report.protocol == "zero-shot"
    assert report.sets[0].classes == tuple(names.values())
    assert report.about["dataset"] == "ucf101"


def test_a_folder_that_is_no_run_names_the_runs_nearby(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run at") as caught:
        evaluate_run(tmp_path / "typo", device="cpu")
    assert str(trained) in (caught.value.hint or "")
    with pytest.raises(UserError, match="is not a run"):
        evaluate_run(tmp_path, device="cpu")


def test_a_damaged_run_is_refused(trained: Path) -> None:
    file = trained / "prompts.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged"):
        load_run(trained)
    file.write_bytes(whole)
    header, tensors = read_tensors(file)
    assert header["schema"] == "2"
    save_tensors(file, tensors, {**header, "schema": "7"})
    with pytest.raises(UserError, match="schema 7"):
        load_run(trained)


def test_a_run_that_does_not_fit_its_settings_is_refused(trained: Path) -> None:
    file = trained / "prompts.safetensors"
    header, tensors = read_tensors(file)
    del tensors[next(iter(tensors))]
    save_tensors(file, tensors, header)
    with pytest.raises(UserError, match="does not fit"):
        load_run(trained).model()


def test_evaluate_writes_what_eval_writes_where_it_is_asked_to(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "again")
    shutil.rmtree(run / "eval", ignore_errors=True)
    report = ga2clip.evaluate(run, device="cpu", progress=False)
    assert not (run / "eval").exists()
    (measured,) = evaluate_runs([run], device="cpu", progress=False)
    folder = run / "eval" / report.folder
    files = sorted(file.name for file in folder.iterdir())
    assert files == ["clips.csv", "confusion.png", "per_class.csv", "reliability.png", "report.json"]
    by_command = {file: (folder / file).read_bytes() for file in files}
    assert measured.to_json() == json.loads(by_command["report.json"]) == report.to_json()
    shutil.rmtree(folder)
    ga2clip.evaluate(run, device="cpu", progress=False, write=True)
    assert {file: (folder / file).read_bytes() for file in files} == by_command


def test_further_runs_are_compared_with_the_first_under_the_same_protocol(
    trained: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(trained, tmp_path / "other")
    one, two = evaluate_runs([trained, other], device="cpu", progress=False, write=False)
    assert one.against == {}
    assert {found["difference"] for found in two.against.values()} == {0}
    assert two.to_json()["against"]["run"] == str(trained)
    assert f"against {trained}: base +0.0 points" in two.text()
