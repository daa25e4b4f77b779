"""How the pixels of a weights file are normalised: who says it, what is assumed, and what is refused."""

from pathlib import Path

import pytest

from ga2clip.video import Preprocess
from ga2clip.video.preprocess import CLIP_MEAN
from tests import layouts
from tests.model.weights_files import INCEPTION, NAME, config, load, refusal, write_config


def test_assumed_pixel_values_are_said(
    beside: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = "nothing says how the pixels of"
    write_config(beside, {"model_cfg": config()})
    assert load(beside / "clip.safetensors").preprocess.mean == CLIP_MEAN
    load(beside / "clip.safetensors")
    assert caplog.text.count(said) == 1  # an export, for one, may load the same weights again
    (tmp_path / "hub").mkdir()
    layouts.transformers_folder(tmp_path / "hub", layouts.make_clip(layouts.PLAIN, True), config(True))
    caplog.clear()
    load(tmp_path / "hub")
    assert said in caplog.text
    write_config(beside, {"model_cfg": config(), "preprocess_cfg": {"mean": INCEPTION, "std": INCEPTION}})
    caplog.clear()
    load(beside / "clip.safetensors")
    assert not caplog.text


@pytest.mark.parametrize(
    ("quick_gelu", "heads", "refused"),
    [(True, {}, True), (False, {}, True), (True, {"head_width": 32}, False)],
)
def test_pixels_are_not_assumed_where_published_weights_of_the_architecture_have_others(
    quick_gelu: bool, heads: dict[str, int], refused: bool, beside: Path, published: None
) -> None:
    """The tag `quick` has other pixel values, `squash` another resizing; neither has heads of 32."""
    write_config(beside, {"model_cfg": config(quick_gelu, **heads)})
    file = beside / "clip.safetensors"
    if not refused:
        load(file)
        return
    text = refusal(file)
    tag = f"{NAME}/{'quick' if quick_gelu else 'squash'}"
    assert f"{tag} are not normalised as CLIP is" in text
    assert f"--backbone {tag}" in text
    assert "preprocess_cfg" in text
    # The name is a word: open_clip reads a file under it with CLIP's values.
    assert load(file, name=NAME).preprocess.mean == CLIP_MEAN
    stated = {"mean": INCEPTION, "std": INCEPTION}
    write_config(beside, {"model_cfg": config(quick_gelu), "preprocess_cfg": stated})
    assert load(file).preprocess.mean == INCEPTION


def test_pixels_of_open_clips_config(beside: Path) -> None:
    pixels = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "size": [32, 32]}
    write_config(beside, {"model_cfg": config(), "preprocess_cfg": pixels})
    preprocess = load(beside / "clip.safetensors").preprocess
    assert (preprocess.mean, preprocess.std, preprocess.size) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 32)


def test_pixels_of_transformers_processor(tmp_path: Path) -> None:
    layouts.transformers_folder(tmp_path, layouts.make_clip(layouts.PLAIN, True), config(True))
    processor = {
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 32, "width": 32},
        "resample": 3,
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.4, 0.5, 0.6],
    }
    write_config(tmp_path, processor, "preprocessor_config.json")
    assert load(tmp_path).preprocess == Preprocess(32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    squashed = {**processor, "size": {"height": 32, "width": 32}, "resample": 2}
    write_config(tmp_path, squashed, "preprocessor_config.json")
    stated = load(tmp_path).preprocess
    assert (stated.resize_mode, stated.interpolation) == ("squash", "bilinear")
    for changed, said in (
        ({"resample": 0}, "'interpolation' must be one of bicubic, bilinear"),
        ({"crop_size": 24}, "resizes to 32 and crops to 24"),
        ({"do_normalize": False}, "do_normalize is false"),
        ({"size": [3]}, "preprocessor_config.json"),
    ):
        write_config(tmp_path, {**processor, **changed}, "preprocessor_config.json")
        assert said in refusal(tmp_path)
