"""A folder of clips in; a table out: which frames each library returns for a clip, and how long it takes.

python benchmarks/decode.py FOLDER [--frames 8] [--rounds 5]

Every library gets the same task on one thread: open a clip, find its number of frames in its own way, take the
centres of equal segments, return them as RGB. The truth is a plain loop over all frames with PyAV. Times are CPU
times of this process (the least of the rounds), which other work on the machine disturbs little.
"""

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "threads;1"  # read when OpenCV opens a file
os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np

from ga2clip.video import SamplingRule, sample_frames, segment_indices

# Colour conversion may round differently; a neighbouring frame of a moving picture is further away than this.
SAME = 3.0  # mean absolute difference in grey levels

Read = Callable[[Path, int], np.ndarray]


def with_ga2clip(path: Path, frames: int) -> np.ndarray:
    return sample_frames(path, SamplingRule(frames)).frames


def with_opencv(path: Path, frames: int) -> np.ndarray:
    import cv2

    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    wanted = segment_indices(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), frames).tolist()
    picked = {}
    for number in range(wanted[-1] + 1):
        if not capture.grab():
            break
        if number in wanted:
            picked[number] = capture.retrieve()[1][..., ::-1]
    return np.stack([picked[number] for number in wanted])


def with_decord(path: Path, frames: int) -> np.ndarray:
    import decord

    reader = decord.VideoReader(str(path), num_threads=1)
    return reader.get_batch(segment_indices(len(reader), frames).tolist()).asnumpy()


def with_torchcodec(path: Path, frames: int) -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    reader = VideoDecoder(
        str(path), num_ffmpeg_threads=1, stream_index=first_video_stream(path), dimension_order="NHWC"
    )
    return reader.get_frames_at(segment_indices(len(reader), frames).tolist()).data.numpy()


READERS: dict[str, Read] = {
    "ga2clip": with_ga2clip,
    "OpenCV": with_opencv,
    "decord": with_decord,
    "torchcodec": with_torchcodec,
}
MODULES = {"ga2clip": "av", "OpenCV": "cv2", "decord": "decord", "torchcodec": "torchcodec"}


def first_video_stream(path: Path) -> int:
    with av.open(f"file:{path}") as container:
        return container.streams.video[0].index


def truth(path: Path, frames: int) -> tuple[int, np.ndarray]:
    """The number of frames of a clip, and those in question, by the plainest loop there is."""
    with av.open(f"file:{path}") as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        pictures = []
        for packet in container.demux(stream):
            try:
                pictures += [
                    np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                    for frame in packet.decode()
                ]
            except av.FFmpegError:
                continue
    return len(pictures), np.stack(pictures)[segment_indices(len(pictures), frames)]


def same_frames(actual: np.ndarray, expected: np.ndarray) -> int:
    """How many of the frames are the expected ones."""
    if actual.shape != expected.shape:
        return 0
    differences = np.abs(actual.astype(np.int16) - expected).mean(axis=(1, 2, 3))
    return int((differences < SAME).sum())


def measure(read: Read, path: Path, expected: np.ndarray, rounds: int) -> tuple[str, float | None]:
    """The table's cell (CPU milliseconds, and what was wrong) and the milliseconds: the least of the rounds."""
    times = []
    try:
        for _ in range(rounds):
            start = time.process_time()
            actual = read(path, len(expected))
            times.append(time.process_time() - start)
    except Exception as error:  # each library has its own kinds
        return f"fails ({type(error).__name__})", None
    milliseconds = min(times) * 1000
    right = same_frames(actual, expected)
    note = "" if right == len(expected) else f", **{len(expected) - right} wrong**"
    return f"{milliseconds:.0f}{note}", milliseconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    readers = {name: read for name, read in READERS.items() if importlib.util.find_spec(MODULES[name])}
    print(f"| clip | frames | {' | '.join(f'{name}, ms' for name in readers)} |")
    print("|---|---|" + "---|" * len(readers))
    totals: dict[str, list[float]] = {name: [] for name in readers}
    ratios: dict[str, list[float]] = {name: [] for name in readers}
    for path in sorted(path for path in options.folder.iterdir() if path.is_file()):
        try:
            count, expected = truth(path, options.frames)
        except (av.FFmpegError, IndexError, ValueError):
            continue  # no video
        results = {name: measure(read, path, expected, options.rounds) for name, read in readers.items()}
        print(f"| {path.name} | {count} | {' | '.join(cell for cell, _ in results.values())} |", flush=True)
        ours = results["ga2clip"][1]
        for name, (_, milliseconds) in results.items():
            if milliseconds and ours:
                totals[name].append(milliseconds)
                ratios[name].append(milliseconds / ours)
    print(
        f"| **all that it reads, s** | | {' | '.join(f'{sum(times) / 1000:.2f}' for times in totals.values())} |"
    )
    medians = (f"{statistics.median(values):.2f}" if values else "" for values in ratios.values())
    print(f"| **median of time / ga2clip's** | | {' | '.join(medians)} |")
    for name in READERS.keys() - readers.keys():
        print(f"\n{name} is not installed.")


if __name__ == "__main__":
    main()
