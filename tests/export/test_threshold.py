"""The threshold of "none of these"."""

from types import SimpleNamespace

import numpy as np

from ga2clip.runtime.scoring import rejection_margin
from ga2clip_export.threshold import fit_threshold


def on_the_circle(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def setting(angles: np.ndarray) -> SimpleNamespace:
    """One class at angle 0, one negative at a right angle: the margin falls from 1 to −1 on the way."""
    return SimpleNamespace(
        video_features=on_the_circle(angles),
        bank=np.float32([[1, 0]]),
        negatives=np.float32([[0, 1]]),
    )


def test_with_anchors_the_cut_separates_what_can_be_separated() -> None:
    found = fit_threshold(setting(np.linspace(0, 0.7, 20)), on_the_circle(np.linspace(0.9, 1.5, 15)))
    assert found.kept == found.rejected == 1.0
    assert np.cos(0.9) - np.sin(0.9) < found.threshold < np.cos(0.7) - np.sin(0.7)


def test_a_few_hopeless_clips_do_not_drag_the_cut_down() -> None:
    angles = np.concatenate([np.linspace(0, 0.7, 18), [1.55, 1.56]])  # two clips that look like nothing
    found = fit_threshold(setting(angles), on_the_circle(np.linspace(0.9, 1.5, 15)))
    assert found.rejected == 1.0
    assert found.kept == 0.9


def test_without_anchors_one_in_twenty_is_given_up() -> None:
    clips = setting(np.random.default_rng(0).uniform(0, 1, 200))
    found = fit_threshold(clips, None)
    margins = rejection_margin(clips.video_features, clips.bank, clips.negatives)
    assert abs((margins >= found.threshold).mean() - 0.95) < 0.01
    assert found.rejected is None
