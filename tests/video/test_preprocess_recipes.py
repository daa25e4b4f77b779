"""Every recipe of open_clip's `preprocess_cfg`, against its own transform."""

import itertools

import numpy as np
import pytest
from PIL import Image

from ga2clip.errors import UserError
from ga2clip.video import Preprocess, SamplingRule, sample_frames, write_video

SIZES = [(240, 320), (321, 239), (180, 320), (256, 256), (50, 66), (225, 224), (97, 1000), (3, 7), (1, 40)]
MODES = ("shortest", "squash", "longest")


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (1, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("mode", "filter_"), list(itertools.product(MODES, ("bicubic", "bilinear"))))
@pytest.mark.parametrize("side", [24, 225, 384])
def test_equals_open_clip(mode: str, filter_: str, side: int) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    mean, std = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)
    recipe = Preprocess(side, mean, std, mode, filter_, fill=114)
    theirs = image_transform_v2(
        PreprocessCfg(side, "RGB", mean, std, filter_, mode, fill_color=114), is_train=False
    )
    for size in SIZES:
        frames = image(*size)
        if mode == "longest" and min(size) * side < max(size):
            continue  # open_clip's transform fails where a side would vanish: see below
        ours = recipe.frames(frames)
        assert ours.shape == (1, side, side, 3)
        expected = theirs(Image.fromarray(frames[0])).numpy()
        np.testing.assert_allclose(recipe.normalise(ours)[0], expected, atol=1e-6, err_msg=str(size))
        np.testing.assert_array_equal(recipe.frames(ours), ours)  # prepared frames stay as they are


def test_a_side_that_would_vanish_keeps_a_pixel() -> None:
    prepared = Preprocess(8, resize_mode="longest", fill=7).frames(np.full((1, 1, 200, 3), 200, np.uint8))
    np.testing.assert_array_equal(prepared[0, :, 0, 0], [7, 7, 7, 200, 7, 7, 7, 7])


@pytest.mark.parametrize("mode", MODES)
def test_a_decoded_clip_is_resized_once(mode: str, tmp_path) -> None:
    path = tmp_path / "wide.mp4"
    write_video(path, np.repeat(image(48, 96), 4, axis=0), fps=4)
    recipe = Preprocess(32, resize_mode=mode)
    whole = sample_frames(path, SamplingRule(2)).frames
    np.testing.assert_array_equal(
        recipe.frames(sample_frames(path, SamplingRule(2), size=recipe).frames), recipe.frames(whole)
    )


def test_json_round_trip_and_what_runs_of_plain_clips_stored() -> None:
    recipe = Preprocess(384, (0.5,) * 3, (0.5,) * 3, "longest", "bilinear", 255)
    assert Preprocess.from_json(recipe.to_json()) == recipe
    assert set(Preprocess(224).to_json()) == {"size", "mean", "std"}


@pytest.mark.parametrize(
    "bad",
    [
        {"resize_mode": "stretch"},
        {"resize_mode": []},
        {"interpolation": "nearest"},
        {"fill": 256},
        {"fill": 0.5},
    ],
)
def test_unknown_recipes_are_refused(bad: dict) -> None:
    with pytest.raises(UserError, match=f"preprocessing: '{next(iter(bad))}' must be"):
        Preprocess.from_json({**Preprocess(224).to_json(), **bad})
