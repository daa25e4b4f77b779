"""A run is tuned on readable or raw names, and is evaluated with the same kind, on whatever dataset."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ga2clip.data.manifest import Manifest
from ga2clip.errors import UserError
from ga2clip.evaluation.evaluate import evaluate_run
from ga2clip.run import load_run
from ga2clip.settings import Settings
from ga2clip.training import train

Make = Callable[..., Settings]
RAW = ("WavingFlag", "KickBall", "BikeRiding", "RowBoat")


@pytest.fixture
def root(dataset: Path, tmp_path: Path) -> Path:
    """The dataset with its raw names."""
    folder = tmp_path / "data"
    folder.mkdir()
    for file in dataset.iterdir():
        (folder / file.name).symlink_to(file)
    made = Manifest.read(dataset)
    (folder / "manifest.json").unlink()
    replace(made, root=folder, raw_names=RAW).write()
    return folder


def tune(settings: Make, root: Path, out: Path, class_names: str) -> Path:
    """A run of the frozen model: what it is called is all that matters here."""
    data = {"root": str(root), "class_names": class_names}
    return train.train(settings("zero-shot", data=data), out, device="cpu", progress=False)


def names(run: Path, **where: object) -> dict[str, tuple[str, ...]]:
    report = evaluate_run(run, device="cpu", progress=False, **where)  # type: ignore[arg-type]
    return {part.name: part.classes for part in report.sets}


def test_a_run_says_its_names_and_is_tested_with_them(settings: Make, root: Path, tmp_path: Path) -> None:
    run = tune(settings, root, tmp_path / "raw", "raw")
    assert load_run(run).classes == RAW[:2]
    assert load_run(run).settings.data.class_names == "raw"
    assert names(run) == {"base": RAW[:2], "novel": RAW[2:]}
    assert load_run(run).task().evals[1].classes == RAW[2:]
    readable = Manifest.read(root).classes
    assert names(run, class_names="readable") == {"base": readable[:2], "novel": readable[2:]}
    assert names(tune(settings, root, tmp_path / "readable", "readable"))["novel"] == readable[2:]


def test_another_dataset_has_the_same_kind_of_names(settings: Make, root: Path, tmp_path: Path) -> None:
    run = tune(settings, root, tmp_path / "raw", "raw")
    other = replace(Manifest.read(root), dataset="ucf101", raw_names=tuple(f"{name}2" for name in RAW))
    other.write()
    assert names(run, dataset="ucf101", root=root) == {"test": other.raw_names}


def test_a_file_of_names_belongs_to_its_dataset(settings: Make, root: Path, tmp_path: Path) -> None:
    file = tmp_path / "names.csv"
    file.write_text("".join(f"{raw},the {number}th\n" for number, raw in enumerate(reversed(RAW))))
    run = tune(settings, root, tmp_path / "run", str(file))
    assert load_run(run).classes == ("the 3th", "the 2th")
    assert names(run)["novel"] == ("the 1th", "the 0th")
    file.write_text(file.read_text().replace("3th", "third"))
    with pytest.raises(UserError, match="tuned on 'the 3th'"):
        names(run)
    made = Manifest.read(root)
    replace(made, dataset="ucf101").write()
    assert names(run, dataset="ucf101", root=root) == {"test": made.classes}
