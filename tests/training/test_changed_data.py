"""A run whose dataset has changed since: only clips that it was trained on are its training clips."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ga2clip.data.manifest import Manifest
from ga2clip.errors import UserError
from ga2clip.run import PROMPTS, load_run
from ga2clip.training.train import resume_settings
from tests.small_training import BASE, write_dataset
from tests.training.small_runs import run

pytestmark = pytest.mark.usefixtures("traced_once")

Make = Callable[..., Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The dataset with hashes, of whose training clips the first two of each class are used."""
    write_dataset(tmp_path / "data")
    manifest = Manifest.read(tmp_path / "data")
    clips = [replace(clip, sha256=hashlib.sha256(clip.path.encode()).hexdigest()) for clip in manifest.clips]
    replace(manifest, clips=tuple(clips)).write()
    return tmp_path / "data"


def without(root: Path, paths: set[str]) -> None:
    manifest = Manifest.read(root)
    replace(manifest, clips=tuple(clip for clip in manifest.clips if clip.path not in paths)).write()


@pytest.fixture
def tuned(settings: Make, root: Path, tmp_path: Path) -> Path:
    """Tuned on all training clips but the last of each class, which came later."""
    whole = (root / "manifest.json").read_bytes()
    without(root, {"0_3.mp4", "1_3.mp4"})
    path = run(settings("coop", data={"root": str(root), "shots": 0}), tmp_path / "run")
    (root / "manifest.json").write_bytes(whole)
    return path


def test_clips_that_came_later_are_no_training_clips_of_a_run(
    tuned: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = load_run(tuned).task()
    assert sorted(clip.path for clip in task.train) == [f"{c}_{k}.mp4" for c in (0, 1) for k in range(3)]
    assert "2 of the 8 training clips" in caplog.text
    assert {clip.label for part in task.evals for clip in part.clips} > set(BASE)


def test_a_dataset_without_any_of_them_is_refused(tuned: Path, root: Path) -> None:
    without(root, {f"{c}_{k}.mp4" for c in (0, 1) for k in range(3)})
    with pytest.raises(UserError, match=r"no clip that .* was trained on is for training"):
        load_run(tuned).task()


def test_export_measures_on_them_alone(tuned: Path, caplog: pytest.LogCaptureFixture) -> None:
    from ga2clip_export.export import export_run

    caplog.set_level("INFO")
    bundle = export_run(tuned, verify_accuracy=True)
    assert "measuring on 6 clips: training clips of the run" in caplog.text
    assert "6 training clips" in json.loads((bundle / "bundle.json").read_text())["reject"]["fitted_on"]


def test_other_data_is_the_reason_for_a_refused_resume(tuned: Path, root: Path) -> None:
    """Not that they make another number of updates."""
    without(root, {"0_0.mp4", "0_1.mp4", "0_2.mp4", "1_0.mp4"})
    with pytest.raises(UserError, match=r"is not what .* was trained on"):
        run(resume_settings(tuned, epochs=3), tuned, resume=True)


def test_validation_clips_of_a_training_that_updates_nothing_are_refused(
    settings: Make, root: Path, tmp_path: Path
) -> None:
    chosen = settings("zero-shot", method={"teach": True}, data={"root": str(root), "val": 0.25})
    with pytest.raises(UserError, match="this one updates nothing"):
        run(chosen, tmp_path / "none")


def test_the_same_training_writes_the_same_bytes(settings: Make, root: Path, tmp_path: Path) -> None:
    chosen = settings("coop", data={"root": str(root)}, training={"epochs": 1})
    one, other = (run(chosen, tmp_path / name) / PROMPTS for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    header = one.read_bytes()[8 : 8 + int.from_bytes(one.read_bytes()[:8], "little")]
    keys = list(json.loads(header)["__metadata__"])
    assert keys == sorted(keys)
