"""Frames that do not change are encoded once, and a slow change never adds up."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import ga2clip
from ga2clip.choices import STILL
from ga2clip.errors import UserError
from ga2clip.runtime import Predictor
from ga2clip.runtime.still import StillFrames, contrast, largest_change
from ga2clip.runtime.stream import follow
from ga2clip.runtime.timeline import timeline
from ga2clip.video import write_video
from ga2clip_cli.app import app

MODEL = str(Path(ga2clip.__file__).parent / "assets" / "tiny" / "bundle")
SIDE = 20  # no multiple of the blocks


def grey(*levels: float) -> np.ndarray:
    """A frame per level, uint8 (T, SIDE, SIDE, 3); the lower half is 80 brighter: contrast 40."""
    steps = np.zeros((SIDE, SIDE, 3), int)
    steps[SIDE // 2 :] = 80
    return np.stack([steps + round(level) for level in levels]).astype(np.uint8)


class Counting:
    """An encoder whose feature of a frame is its first value."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        self.seen += frames[:, 0, 0, 0].tolist()
        return frames[:, 0, 0, :1].astype(np.float32)


def test_the_change_is_the_largest_mean_of_a_block_in_a_channel() -> None:
    rng = np.random.default_rng(0)
    frame, other = rng.integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    difference = np.abs(frame.astype(float) - other)
    blocks = [difference[y : y + 8, x : x + 8].mean((0, 1)) for y in (0, 8, 16) for x in (0, 8, 16)]
    assert largest_change(frame, other) == pytest.approx(np.max(blocks))
    corner = frame.copy()
    corner[-1, -1, 2] ^= 255  # in the smallest block: 4 × 4
    assert largest_change(frame, corner) == abs(255 - 2 * float(frame[-1, -1, 2])) / 16


def test_a_still_frame_has_the_features_of_the_last_encoded_one() -> None:
    encoder = Counting()
    still = StillFrames(encoder, 2.0)
    assert still.encode(grey(10, 11, 12, 13, 30))[:, 0].tolist() == [10, 10, 10, 13, 30]
    assert still.encode(grey(29, 28))[:, 0].tolist() == [30, 30]
    assert still.encode(grey(30, 27))[:, 0].tolist() == [30, 27]
    assert encoder.seen == [10, 13, 30, 27]
    assert still.reused == 5


def test_a_slow_change_does_not_add_up() -> None:
    levels = list(range(100, 160))
    features = StillFrames(Counting(), 2.0).encode(grey(*levels))[:, 0]
    assert np.abs(features - levels).max() == 2


def test_the_contrast_is_the_standard_deviation_of_the_brightness() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    brightness = [sum(pixel) / 3 for row in frame.tolist() for pixel in row]
    assert contrast(frame) == pytest.approx(statistics.pstdev(brightness))
    assert contrast(grey(70)[0]) == 40
    assert contrast(np.full((SIDE, SIDE, 3), (10, 120, 200), np.uint8)) == 0  # a colour is no contrast


@pytest.mark.parametrize(("step", "bound"), [(80, 2.0), (160, 2.0), (40, 1.0), (8, 0.2)])
def test_the_bound_shrinks_with_the_contrast_and_never_grows(step: int, bound: float) -> None:
    frame = np.zeros((16, 16, 3), np.uint8)
    frame[8:] = step
    for change, encoded in ((bound - 0.05, 1), (bound + 0.05, 2)):
        other = frame.copy()
        for pixel in range(round(64 * change / 4)):
            other[pixel // 8, pixel % 8] += 4
        encoder = Counting()
        StillFrames(encoder, 2.0).encode(np.stack([frame, other]))
        assert len(encoder.seen) == encoded, change


def test_without_contrast_every_change_is_encoded_and_none_is_not() -> None:
    plain = np.full((5, SIDE, SIDE, 3), 90, np.uint8)
    plain[3, 5, 5, 1] += 1
    still = StillFrames(Counting(), 1.0)
    still.encode(plain)
    assert still.reused == 2


def test_a_slow_pan_in_haze_is_encoded_and_a_still_camera_in_clear_air_is_not() -> None:
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (9, 12, 1)).repeat(8, axis=0).repeat(8, axis=1).repeat(3, axis=2)
    reused = {}
    for name, strength, pixels in (("pan", 0.06, 0.5), ("clear", 1, 0), ("haze", 0.06, 0)):
        still = StillFrames(Counting(), STILL)
        left = [
            scene[:, int(2 * pixels * number) :][:, :72] * strength + 150 * (1 - strength)
            for number in range(20)
        ]
        noise = rng.normal(0, 0.5 if strength == 1 else 0, (20, 72, 72, 3))
        still.encode((np.stack(left) + noise).clip(0, 255).round().astype(np.uint8))
        reused[name] = still.reused
    assert reused == {"pan": 0, "clear": 19, "haze": 19}


def test_a_bound_of_0_encodes_every_frame_as_it_comes() -> None:
    encoder = Counting()
    still = StillFrames(encoder, 0)
    assert still.encode(grey(1, 1, 1))[:, 0].tolist() == [1, 1, 1]
    assert (encoder.seen, still.reused) == ([1, 1, 1], 0)
    with pytest.raises(UserError, match="still"):
        StillFrames(encoder, -1)


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 s of a still camera with noise; in the sixth and seventh second something passes."""
    rng = np.random.default_rng(0)
    scene = rng.integers(40, 200, (12, 16, 3)).repeat(8, axis=0).repeat(8, axis=1)

    def frames():
        for number in range(100):
            frame = scene.copy()
            if 50 <= number < 70:
                frame[30:60, 4 * (number - 50) : 4 * (number - 50) + 30] = (250, 20, 20)
            yield (frame + rng.normal(0, 1, frame.shape)).clip(0, 255).round().astype(np.uint8)

    path = tmp_path_factory.mktemp("camera") / "camera.mp4"
    write_video(path, frames(), 10)
    return path


def test_a_timeline_of_a_still_camera_says_what_it_saved_and_keeps_its_answers(camera) -> None:
    with Predictor(MODEL, provider="cpu", threads=1, cache=False) as predictor:
        every, few = (timeline(predictor, camera, fps=4, still=still) for still in (0, STILL))
        lines = list(follow(predictor, str(camera), fps=4))
    assert (every.encoded_frames, every.reused_frames) == (40, 0)
    assert few.encoded_frames + few.reused_frames == 40
    assert 10 <= few.reused_frames <= 32  # what passes is encoded
    assert lines[-1].reused == few.reused_frames == lines[-1].to_json()["reused"]
    assert [answer.label for answer in few.windows] == [answer.label for answer in every.windows]
    for answer, exact in zip(few.windows, every.windows, strict=True):
        assert answer.probability == pytest.approx(exact.probability, abs=0.01)


def test_the_commands_say_what_they_saved(camera, tmp_path) -> None:
    run = CliRunner().invoke
    ask = ["predict", str(camera), "--timeline", "--model", MODEL]
    shown = [run(app, [*ask, "--json", *more]) for more in ([], ["--still", "0"])]
    found = [json.loads(result.stdout) for result in shown]
    assert [part["encoded_frames"] + part["reused_frames"] for part in found] == [40, 40]
    assert found[0]["reused_frames"] >= 10
    assert found[1]["reused_frames"] == 0
    text = run(app, ask)
    assert f"{found[0]['reused_frames']} had not changed" in text.stdout
    still = tmp_path / "still.mp4"
    write_video(still, (np.full((32, 32, 3), 90, np.uint8) for _ in range(20)), 10)
    result = run(app, ["embed", str(still), "--model", MODEL, "--frames", "--out", str(tmp_path / "f.npz")])
    assert "3 frames unchanged and not encoded" in result.stderr
    features = ga2clip.read_features(tmp_path / "f.npz")
    assert (features.frames == features.frames[0]).all()
    assert features.provenance["still"] == STILL
