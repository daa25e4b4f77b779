"""Preprocessing is CLIP's own, to the bit where it is uint8."""

import json

import numpy as np
import pytest
from PIL import Image

from ga2clip.errors import UserError
from ga2clip.video import Preprocess, centre_crop, resize_short_side, three_crops
from ga2clip.video.preprocess import CLIP_MEAN, CLIP_STD


def pictures(height: int, width: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "size", [(240, 320), (321, 239), (180, 320), (256, 256), (50, 66), (225, 224), (97, 1000)]
)
@pytest.mark.parametrize("side", [72, 224])
def test_equals_the_published_preprocessing(size: tuple[int, int], side: int) -> None:
    from torchvision import transforms

    frames = pictures(*size)
    published = transforms.Compose(
        [
            transforms.Resize(side, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(side),
        ]
    )
    tensor = transforms.Compose([transforms.ToTensor(), transforms.Normalize(CLIP_MEAN, CLIP_STD)])
    recipe = Preprocess(side)
    ours = recipe.frames(frames)
    normalised = recipe.normalise(ours)
    for index, frame in enumerate(frames):
        theirs = published(Image.fromarray(frame))
        np.testing.assert_array_equal(ours[index], np.asarray(theirs))
        np.testing.assert_allclose(normalised[index], tensor(theirs).numpy(), atol=1e-6)


def test_normalise_keeps_leading_axes() -> None:
    recipe = Preprocess(8, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    frames = pictures(8, 8, 6)
    flat = recipe.normalise(frames)
    assert flat.dtype == np.float32
    assert flat.shape == (6, 3, 8, 8)
    assert flat.flags.c_contiguous
    np.testing.assert_array_equal(recipe.normalise(frames.reshape(2, 3, 8, 8, 3)).reshape(flat.shape), flat)
    np.testing.assert_array_equal(recipe.normalise(frames[0]), flat[0])
    ends = recipe.normalise(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8))
    np.testing.assert_allclose(ends[:, 0], [[-1, 1], [-1, 3], [0, 1]], atol=1e-6)


def test_crops() -> None:
    wide = pictures(8, 14, 3)
    assert three_crops(wide, 8).shape == (3, 3, 8, 8, 3)
    np.testing.assert_array_equal(
        three_crops(wide, 8), np.stack([wide[:, :, :8], wide[:, :, 3:11], wide[:, :, 6:]])
    )
    tall = wide.transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(three_crops(tall, 8), three_crops(wide, 8).transpose(0, 1, 3, 2, 4))
    np.testing.assert_array_equal(three_crops(wide, 6)[1], centre_crop(wide, 6))
    with pytest.raises(ValueError, match="cannot crop 9×9"):
        centre_crop(wide, 9)


def test_right_size_is_left_alone() -> None:
    frames = pictures(8, 14)
    assert resize_short_side(frames, 8) is frames


def test_json_round_trip() -> None:
    recipe = Preprocess(224)
    assert Preprocess.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


GOOD = Preprocess(224).to_json()


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        {**GOOD, "crop": "none"},
        {"size": 224},
        {**GOOD, "size": 0},
        {**GOOD, "size": 10**9},
        {**GOOD, "size": 224.0},
        {**GOOD, "size": True},
        {**GOOD, "mean": [0.5, 0.5]},
        {**GOOD, "mean": "0.5"},
        {**GOOD, "mean": [0.5, 0.5, None]},
        {**GOOD, "std": [1, 1, 0]},
        {**GOOD, "std": [1, 1, float("nan")]},
    ],
)
def test_hostile_json(bad: object) -> None:
    with pytest.raises(UserError, match="preprocessing"):
        Preprocess.from_json(bad)
