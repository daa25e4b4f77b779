"""A folder of clips in; a table out: which frames each library returns for a clip, and how long it takes.

python benchmarks/decode.py FOLDER [--frames 8] [--rounds 5]
python benchmarks/decode.py FOLDER --prepare        # what `prepare` takes for a clip, beside plain decoding
python benchmarks/decode.py FOLDER --predict BUNDLE # what `predict` takes for a clip, beside its encoder

Every library gets the same task on one thread: open a clip, find its number of frames in its own way, take the
centres of equal segments, return them as RGB. The truth is a plain loop over all frames with PyAV. Times are CPU
times of this process (the least of the rounds), which other work on the machine disturbs little.
"""

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "threads;1"  # read when OpenCV opens a file
os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np

from ga2clip.data.worker import check_clip
from ga2clip.runtime import Predictor
from ga2clip.runtime.decode import decoder
from ga2clip.video import SamplingRule, find_videos, sample_frames, segment_indices

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


def in_turns(tasks: Mapping[str, Callable[[], object]], clips: int, rounds: int) -> None:
    """Prints CPU and wall milliseconds a clip of each task, medians, and their ratios to the first task of a round."""
    cpu: dict[str, list[float]] = {name: [] for name in tasks}
    wall: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            before, start = time.process_time(), time.perf_counter()
            task()
            cpu[name].append(1000 * (time.process_time() - before) / clips)
            wall[name].append(1000 * (time.perf_counter() - start) / clips)
    first = next(iter(tasks))
    print("| a clip | CPU ms | × | wall ms | × |\n|---|---|---|---|---|")
    for name in tasks:
        cells = []
        for times in (cpu, wall):
            ratio = statistics.median(a / b for a, b in zip(times[name], times[first], strict=True))
            cells += [f"{statistics.median(times[name]):.1f}", f"{ratio:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |")


def decode_plainly(paths: Sequence[Path]) -> None:
    for path in paths:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            for packet in container.demux(stream):
                with suppress(av.FFmpegError):  # damaged packets, of which one test clip has some
                    packet.decode()


def show_prepare(paths: Sequence[Path], rounds: int) -> None:
    """What a worker of `prepare` does with every clip (decoding, its SHA-256), beside plain decoding."""
    tasks: dict[str, Callable[[], object]] = {
        "plain PyAV": lambda: decode_plainly(paths),
        "prepare": lambda: [check_clip(path, 60.0) for path in paths],
    }
    in_turns(tasks, len(paths), rounds)


def show_predict(paths: Sequence[Path], bundle: Path, rounds: int) -> None:
    """`predict_many` beside its encoder on the same clips in the same batches of four, and their decoding alone."""
    with Predictor(bundle, provider="cpu") as predictor:
        decode = decoder(predictor.model.preprocess, SamplingRule(predictor.model.frames), None)
        clips = [decode(str(path)).frames for path in paths]
        batches = [np.stack(clips[start : start + 4]) for start in range(0, len(clips), 4)]
        predictor.encode_clips(batches[0])
        tasks: dict[str, Callable[[], object]] = {
            "encoder": lambda: [predictor.encode_clips(batch) for batch in batches],
            "decoding": lambda: [decode(str(path)) for path in paths],
            "predict": lambda: list(predictor.predict_many(paths)),
            "predict, 2 workers": lambda: list(predictor.predict_many(paths, workers=2)),
        }
        in_turns(tasks, len(paths), rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--predict", type=Path, metavar="BUNDLE")
    options = parser.parse_args()
    if options.prepare:
        show_prepare(find_videos(options.folder), options.rounds)
        return
    if options.predict:
        show_predict(find_videos(options.folder), options.predict, options.rounds)
        return
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
