"""A prepared dataset of a few tiny real videos, and settings that train on it in a second."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CLASSES = ("waving a flag", "kicking a ball", "riding a bike", "rowing a boat")
BASE = CLASSES[:2]


def write_dataset(root: Path, *, per_class: int = 6, anchors: int = 3) -> None:
    """Class k is a bright square in corner k; anchor clips are noise."""
    from ga2clip.data.manifest import Clip, Manifest
    from ga2clip.video import write_video

    rng = np.random.default_rng(0)
    clips = []
    for number, name in enumerate(CLASSES):
        for index in range(per_class):
            frames = rng.integers(0, 60, (6, 32, 32, 3), dtype=np.uint8)
            top, left = 16 * (number // 2), 16 * (number % 2)
            frames[:, top : top + 16, left : left + 16, number % 3] += 150
            path = f"{number}_{index}.mp4"
            write_video(root / path, frames, 10)
            clips.append(Clip(path, name, "train" if index < per_class - 2 else "test", 6, 0.6))
    for index in range(anchors):
        write_video(root / f"anchor_{index}.mp4", rng.integers(0, 255, (6, 32, 32, 3), dtype=np.uint8), 10)
        clips.append(Clip(f"anchor_{index}.mp4", None, "anchor", 6, 0.6))
    Manifest("stickfigures", root, CLASSES, BASE, tuple(clips), {}).write()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of the prepared dataset; not to be changed."""
    root = tmp_path_factory.mktemp("dataset")
    write_dataset(root)
    return root


@pytest.fixture(scope="session")
def settings(dataset: Path, clip_file: Path) -> Callable[..., Any]:
    """Settings of a small GA2 training; keyword sections are laid over them: settings(training={"lr": 1})."""
    from ga2clip.model.methods import method_settings
    from ga2clip.settings import Settings
    from ga2clip.settings_reading import merge

    def make(name: str = "ga2", **sections: dict[str, Any]) -> Settings:
        tree = merge(
            method_settings(name),
            {
                "data": {"root": str(dataset), "shots": 4, "frames": 2},
                "backbone": {"pretrained": str(clip_file)},
                "augment": {"scale_min": 1.0, "flip": 0.0},
                "training": {"epochs": 2, "batch_size": 4, "warmup_epochs": 0.5, "lr": 0.01},
            },
        )
        if tree["method"].get("coupling"):
            tree = merge(tree, {"method": {"hard_prompts": "a hard prompt about people"}})
        for section in ("text_length", "vision_length"):
            if tree["method"].get(section) is None:
                tree["method"][section] = 4
        return Settings().updated(merge(tree, sections), "test")

    return make


@pytest.fixture
def fewer_clips(tmp_path: Path) -> Path:
    """The root of a dataset like `dataset` with 2 training clips per class instead of 4."""
    write_dataset(tmp_path / "fewer", per_class=4)
    return tmp_path / "fewer"


@pytest.fixture(autouse=True, scope="module")
def no_curves() -> Iterator[None]:
    """Drawing takes longer than these trainings. A patch of its own, which a test's `monkeypatch.undo()` leaves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ga2clip.training.job.draw_curves", lambda _: None)
        yield
