"""Several seeds: how they are written, and that done work is not done again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ga2clip.data.manifest import Manifest
from ga2clip.errors import UserError
from ga2clip.experiments import seeds
from ga2clip.experiments.seeds import parse_seeds, train_seeds
from ga2clip.run_files import write_settings
from ga2clip.settings import Settings
from ga2clip.training import train as training
from tests.small_training import dataset as dataset
from tests.small_training import fewer_clips as fewer_clips
from tests.small_training import settings as settings


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1..5", (1, 2, 3, 4, 5)), ("3", (3,)), ("7,1", (7, 1)), ("1..2, 9", (1, 2, 9)), ("0..0", (0,))],
)
def test_seeds_are_written_as_ranges_and_lists(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_seeds(text) == numbers


@pytest.mark.parametrize(
    "text", ["", "a", "1-5", "5..1", "1..", "-1", "1.5", "1,,2", "1,1", "1..3,2", "0..99999999", "²"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_seeds(text)


def test_every_seed_has_a_run_of_its_own_and_is_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int, bool]] = []

    def train(settings: Settings, folder: Path, *, resume: bool = False, **_: Any) -> Path:
        calls.append((folder.name, settings.training.seed, resume))
        folder.mkdir(parents=True, exist_ok=True)
        write_settings(folder, settings)
        return folder

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(seeds, "is_finished", lambda folder: folder.name == "seed-1")
    wanted = Settings()
    assert train_seeds(wanted, tmp_path, (1, 2)) == [tmp_path / "seed-1", tmp_path / "seed-2"]
    train_seeds(wanted, tmp_path, (1, 2, 3))
    assert calls == [("seed-1", 1, False), ("seed-2", 2, False), ("seed-2", 2, True), ("seed-3", 3, False)]
    other = wanted.updated({"training": {"lr": 0.5}}, "the test")
    with pytest.raises(UserError, match=r"seed-3 holds another training: training\.lr differs"):
        train_seeds(other, tmp_path, (4, 3))
    assert len(calls) == 4


def test_a_finished_run_of_other_clips_is_refused_and_not_taken_for_done(
    settings: Callable[..., Settings], fewer_clips: Path, tmp_path: Path
) -> None:
    """As after labels were corrected and `prepare` typed again."""
    wanted = settings("vpt", data={"root": str(fewer_clips)}, training={"epochs": 1})
    (run,) = train_seeds(wanted, tmp_path / "runs", (1,), progress=False)
    before = (run / "prompts.safetensors").read_bytes()
    train_seeds(wanted, tmp_path / "runs", (1,), progress=False)
    manifest = Manifest.read(fewer_clips)
    moved = replace(manifest.clips[0], label="kicking a ball", sha256="0" * 64)
    replace(manifest, clips=(moved, *manifest.clips[1:])).write()
    with pytest.raises(
        UserError, match=r"is not what .*seed-1 was trained on: 1 training clip came and 1 went"
    ):
        train_seeds(wanted, tmp_path / "runs", (1, 2), progress=False)
    assert (run / "prompts.safetensors").read_bytes() == before
    assert not (tmp_path / "runs/seed-2").exists()
