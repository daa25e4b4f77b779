"""What `--still` saves and changes: Markdown tables over a folder of real clips and scenes made of their first frames.

    python benchmarks/still.py CLIPS                                # the built-in bundle
    python benchmarks/still.py CLIPS --bundle runs/order/bundle --bounds 1

Frames are taken 4 times a second and encoded in groups of 8, as timelines do it; windows have 8 frames, every second
frame begins one. Compared are the probabilities of the bundle's own classes with those of `--still 0`.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ga2clip.runtime import Predictor
from ga2clip.runtime.still import StillFrames
from ga2clip.video import VideoError, iter_frames, write_video

BUNDLE = Path(__file__).parents[1] / "ga2clip" / "assets" / "tiny" / "bundle"
WIDTH, HEIGHT, FPS, SECONDS = 320, 240, 4, 10
Picture = NDArray[np.float32]
Scene = Callable[[Picture, int], Picture]  # of a first frame and a number of a frame


class Found(NamedTuple):
    """Of a clip: the share of frames that were not encoded; the largest changes; windows with another best class."""

    saved: float
    window: float
    frame: float
    flips: int


def moved(picture: Picture, right: float, zoom: float = 1.0) -> Picture:
    left, top = WIDTH / 2 * (1 - zoom) + right, HEIGHT / 2 * (1 - zoom)
    matrix = np.array([[zoom, 0, left], [0, zoom, top]], np.float32)
    return cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)


def passing(picture: Picture, number: int, radius: int) -> Picture:
    picture = picture.copy()
    if 12 <= number < 28:
        cv2.circle(picture, (20 * (number - 12), HEIGHT // 2), radius, (220, 40, 40), -1)
    return picture


def plain(picture: Picture, number: int, level: float) -> Picture:
    return passing(np.full_like(picture, 120), number, 12) * level + 120 * (1 - level)


def bordered(picture: Picture, number: int) -> Picture:
    """Haze that moves behind a sharp border that does not."""
    whole = moved(picture * 0.12 + 150, 0.5 * number)
    whole[:, 40:60], whole[:, -90:-70], whole[200:] = 20, 230, picture[200:]
    return whole


SCENES: dict[str, Scene] = {
    "still": lambda picture, _: picture,
    "light changes by 12 %": lambda picture, number: picture * (1 - 0.12 * number / (FPS * SECONDS)),
    "a large thing passes": lambda picture, number: passing(picture, number, 60),
    "a small thing passes": lambda picture, number: passing(picture, number, 12),
    "a small thing, plain background": lambda picture, number: plain(picture, number, 1),
    "the same, faint": lambda picture, number: plain(picture, number, 0.06),
    "pan, 0.12 pixels a second": lambda picture, number: moved(picture, 0.03 * number),
    "zoom, 0.16 % a second": lambda picture, number: moved(picture, 0, 1 + 0.0004 * number),
    "fade, 0.8 % a second": lambda picture, number: picture * (1 - 0.002 * number),
    "fade in": lambda picture, number: picture * (0.05 + 0.004 * number),
    "haze (contrast × 0.12), still": lambda picture, _: picture * 0.12 + 150,
    "haze (contrast × 0.12), pan": lambda picture, number: moved(picture * 0.12 + 150, 0.5 * number),
    "haze (contrast × 0.06), pan": lambda picture, number: moved(picture * 0.06 + 180, 0.5 * number),
    "haze (contrast × 0.25), fade": lambda picture, number: picture * 0.25 * (1 - 0.004 * number) + 110,
    "haze, pan, a sharp border stays": bordered,
    "night (contrast × 0.1), pan": lambda picture, number: moved(picture * 0.1 + 2, 0.5 * number),
    "night (contrast × 0.05), pan": lambda picture, number: moved(picture * 0.05 + 4, 0.5 * number),
}


def prepared(predictor: Predictor, clip: Path, seconds: float) -> NDArray[np.uint8]:
    """Frames uint8 (T, S, S, 3), at least 8 where the clip has any: of shorter ones the first 8."""
    frames = [frame for _, frame in islice(iter_frames(clip, fps=FPS), int(seconds * FPS))]
    if len(frames) < 8:
        frames = [frame for _, frame in islice(iter_frames(clip), 8)]
    return predictor.prepare(np.stack(frames))


def made(
    pictures: list[Picture], scene: Scene, noise: float, crf: int | None, path: Path
) -> Iterator[Path | NDArray[np.uint8]]:
    """A clip of a scene for each picture; frames as they are for crf None."""
    rng = np.random.default_rng(0)
    for picture in pictures:
        levels = (scene(picture, number) for number in range(FPS * SECONDS))
        frames = [
            (one + rng.normal(0, noise, one.shape)).clip(0, 255).round().astype(np.uint8) for one in levels
        ]
        if crf is None:
            yield np.stack(frames)
        else:
            write_video(path, frames, FPS, crf=crf)
            yield path


class Ruler:
    """Measures frames at each of some bounds."""

    def __init__(self, bundle: Path, bounds: list[float]) -> None:
        self.predictor = Predictor(bundle, provider="cpu", threads=1, cache=False)
        self.bounds = bounds
        self._scorer = self.predictor.scorer(None, None, False)

    def measure(self, frames: NDArray[np.uint8]) -> list[Found]:
        """For each bound, of prepared frames uint8 (T, S, S, 3)."""
        exact, _ = self._answers(frames, 0)
        found = []
        for bound in self.bounds:
            answers, reused = self._answers(frames, bound)
            changes = [float(np.abs(one - other).max()) for one, other in zip(answers, exact, strict=True)]
            flips = int((answers[0].argmax(1) != exact[0].argmax(1)).sum())
            found.append(Found(reused / len(frames), *changes, flips))
        return found

    def _answers(self, frames: NDArray[np.uint8], bound: float) -> tuple[list[NDArray[np.float32]], int]:
        still = StillFrames(self.predictor.encode_frames, bound)
        groups = [still.encode(frames[first : first + 8]) for first in range(0, len(frames), 8)]
        features = np.concatenate(groups)
        windows = np.stack([features[first : first + 8] for first in range(0, len(features) - 7, 2)])
        pooled = self.predictor.pool(windows)
        return [self._scorer.probabilities(pooled), self._scorer.probabilities(features)], still.reused


def show(name: str, clips: list[list[Found]], bounds: list[float]) -> None:
    """A line for each bound."""
    for bound, found in zip(bounds, zip(*clips, strict=True), strict=True):
        saved = np.mean([one.saved for one in found])
        window, frame = (max(one[field] for one in found) for field in (1, 2))
        above, flips = sum(one.window > 0.01 for one in found), sum(one.flips for one in found)
        cells = [name, f"{bound:g}", f"{len(found)}", f"{saved:.0%}".replace("%", " %"), f"{window:.4f}"]
        print(f"| {' | '.join(cells)} | {above} | {flips} | {frame:.4f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, help="a folder of real clips")
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--bounds", type=float, nargs="+", default=[0.5, 1, 2])
    parser.add_argument("--every", type=int, default=3, help="scenes are made of every so many clips")
    options = parser.parse_args()
    ruler = Ruler(options.bundle, options.bounds)
    print(
        "| kind | bound | clips | saved | change of a window | above 0.01 | other best class | of a single frame |"
    )
    print("|---|---|---|---|---|---|---|---|")
    files = sorted(file for file in options.clips.iterdir() if file.is_file())
    real, pictures = [], []
    for number, file in enumerate(files):
        try:
            real.append(ruler.measure(prepared(ruler.predictor, file, 40)))
        except VideoError as error:
            print(f"{file.name} was left out: {error}")
            continue
        if number % options.every == 0:
            first = next(iter_frames(file))[1]
            pictures.append(cv2.resize(first, (WIDTH, HEIGHT)).astype(np.float32))
    show("real", real, options.bounds)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.mp4"
        for name, scene in SCENES.items():
            kinds = (
                [(noise, 18) for noise in (0, 1, 2, 4)] if name.endswith("still") else [(0, None), (1, 18)]
            )
            for noise, crf in kinds:
                clips = []
                for made_clip in made(pictures, scene, noise, crf, path):
                    frames = (
                        prepared(ruler.predictor, made_clip, SECONDS)
                        if isinstance(made_clip, Path)
                        else ruler.predictor.prepare(made_clip)
                    )
                    clips.append(ruler.measure(frames))
                codec = "no codec" if crf is None else f"H.264 CRF {crf}"
                show(f"{name}; noise {noise}, {codec}", clips, options.bounds)


if __name__ == "__main__":
    main()
