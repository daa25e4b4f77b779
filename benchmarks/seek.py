"""Five-minute clips, made here, in; a table out: sampling them by seeking against decoding them from the start.

python benchmarks/seek.py [--seconds 300]
"""

import argparse
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import av
import cv2
import numpy as np

from ga2clip.video import SampledClip, SamplingRule, sample_frames

WIDTH, HEIGHT, FPS = 640, 360, 24


def write_clip(path: Path, frames: int, key_distance: int) -> None:
    """A window that wanders over a big smooth picture; H.264 with B-frames."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    world = cv2.resize(coarse, (3 * WIDTH, 3 * HEIGHT), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=FPS, options={"preset": "veryfast", "g": str(key_distance)}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            left = int(WIDTH * (1 + np.sin(number / 70)))
            top = int(HEIGHT * (1 + np.cos(number / 50)))
            window = np.ascontiguousarray(world[top : top + HEIGHT, left : left + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(window, format="rgb24")))
        container.mux(stream.encode(None))


def timed(path: Path, frames: int) -> tuple[SampledClip, float]:
    start = time.process_time()
    clip = sample_frames(path, SamplingRule(frames), size=224)
    return clip, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=300)
    options = parser.parse_args()
    print("| key frame every | frames taken | by seeking, s | from the start, s | ratio | same frames |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for key_distance in (250, 60):
            path = Path(folder) / f"{key_distance}.mp4"
            write_clip(path, options.seconds * FPS, key_distance)
            for frames in (8, 16, 32, 64):
                with patch("ga2clip.video.seek._WORTH", 1e9):
                    sought, seconds = timed(path, frames)
                with patch("ga2clip.video.seek._WORTH", -1):
                    read, seconds_whole = timed(path, frames)
                same = np.array_equal(sought.frames, read.frames) and np.array_equal(sought.times, read.times)
                cells = [f"{seconds:.2f}", f"{seconds_whole:.2f}", f"{seconds_whole / seconds:.1f}"]
                print(
                    f"| {key_distance} | {frames} | {' | '.join(cells)} | {'yes' if same else 'NO'} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
