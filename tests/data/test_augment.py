import numpy as np
import pytest
import torch

from ga2clip.data.augment import _turn_hue, augment_clip, random_box
from ga2clip.data.mix import mix_clips
from ga2clip.settings import AugmentSettings

OFF = AugmentSettings(scale_min=1, flip=0, grey=0, colour=0)


def still(frames: int = 3) -> np.ndarray:
    """The same picture at every time."""
    picture = np.random.default_rng(0).integers(0, 256, (1, 40, 60, 3)).astype(np.uint8)
    return np.repeat(picture, frames, axis=0)


@pytest.mark.parametrize(
    "settings",
    [
        OFF,
        OFF.model_copy(update={"scale_min": 0.3}),
        OFF.model_copy(update={"flip": 1.0}),
        OFF.model_copy(update={"grey": 1.0}),
        OFF.model_copy(update={"colour": 1.0}),
    ],
)
def test_every_change_is_the_same_for_all_frames_and_seeded(settings: AugmentSettings) -> None:
    changed = augment_clip(still(), 24, settings, flip=True, rng=np.random.default_rng(3))
    again = augment_clip(still(), 24, settings, flip=True, rng=np.random.default_rng(3))
    assert changed.shape == (3, 24, 24, 3)
    assert changed.dtype == np.uint8
    assert (changed == changed[:1]).all()
    assert (changed == again).all()


def test_each_switch_does_what_it_says() -> None:
    def run(**update: float) -> np.ndarray:
        settings = OFF.model_copy(update=update)
        return augment_clip(still(), 24, settings, flip=True, rng=np.random.default_rng(3))

    plain = run()
    assert (run(flip=1.0) == plain[:, :, ::-1]).all()
    grey = run(grey=1.0)
    assert (grey == grey[..., :1]).all()
    assert (plain != plain[..., :1]).any()
    assert not np.array_equal(run(colour=1.0), plain)
    assert not np.array_equal(run(scale_min=0.5), plain)


def test_colour_is_a_probability() -> None:
    """With 0.3 about three clips of ten change, and grey values only in brightness and contrast."""
    settings = OFF.model_copy(update={"colour": 0.3})
    grey = np.full((1, 24, 24, 3), 100, dtype=np.uint8)
    seen = [
        augment_clip(grey, 24, settings, flip=False, rng=np.random.default_rng(s))[0, 0, 0]
        for s in range(400)
    ]
    changed = [value for value in seen if tuple(value) != (100, 100, 100)]
    assert 90 < len(changed) < 150
    assert all(value[0] == value[1] == value[2] and 60 <= value[0] <= 140 for value in changed)


def test_hue_turns_red_towards_its_neighbours_and_keeps_brightness() -> None:
    red = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    red[..., 0] = 200
    yellow = _turn_hue(red, 1 / 6)[0, 0, 0]
    magenta = _turn_hue(red, -1 / 6)[0, 0, 0]
    assert (yellow.tolist(), magenta.tolist()) == ([200, 200, 0], [200, 0, 200])


def test_no_flip_where_left_and_right_matter() -> None:
    settings = OFF.model_copy(update={"flip": 1.0})
    kept = augment_clip(still(), 24, settings, flip=False, rng=np.random.default_rng(3))
    plain = augment_clip(still(), 24, OFF, flip=True, rng=np.random.default_rng(3))
    assert (kept == plain).all()


def test_boxes_lie_inside_and_have_the_promised_area() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(500):
        left, top, right, bottom = random_box((40, 60), 0.3, rng)
        assert 0 <= left < right <= 60
        assert 0 <= top < bottom <= 40
        assert 3 / 4 - 1e-6 <= (right - left) / (bottom - top) <= 4 / 3 + 1e-6
        shares.append((right - left) * (bottom - top) / (40 * 60))
    assert 0.3 <= min(shares) < 0.35
    assert max(shares) > 0.8
    assert random_box((40, 60), 1, rng) == (10, 0, 50, 40)
    assert random_box((40, 400), 0.9, rng) == (180, 0, 220, 40)  # nothing so large fits


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    video = torch.rand(5, 2, 3, 8, 8)
    return video, torch.tensor([0, 1, 2, 2, -1])


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_mixed_targets_fit_the_pixels_and_anchors_stay(mixup: float, cutmix: float) -> None:
    video, labels = batch()
    settings = AugmentSettings(mixup=mixup, cutmix=cutmix)
    for seed in range(6):
        mixed, targets = mix_clips(video, labels, 4, settings, np.random.default_rng(seed))
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))
        assert torch.equal(mixed[4], video[4])
        assert targets.shape == (4, 4)
        # Pictures of class c are filled with c, so the mean of a mixed one must be the mean of its targets.
        filled = labels.clamp(min=0).float()[:, None, None, None, None].expand_as(video).clone()
        mixed, targets = mix_clips(filled, labels, 4, settings, np.random.default_rng(seed))
        torch.testing.assert_close(mixed[:4].mean(dim=(1, 2, 3, 4)), targets @ torch.arange(4.0))


def test_mixing_off_gives_hard_targets() -> None:
    video, labels = batch()
    mixed, targets = mix_clips(video, labels, 3, AugmentSettings(), np.random.default_rng(0))
    assert torch.equal(mixed, video)
    assert torch.equal(targets, torch.eye(3)[[0, 1, 2, 2]])
