"""Times, ratios, memory and agreement of bundles, measured side by side on clips.

All engines are measured in every round, so that load on the machine affects all of them equally; medians are reported.
Start-up time and memory are those of a new process that opens the bundle and predicts one clip.
"""

import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ga2clip.errors import UserError
from ga2clip.evaluation.open_predictor import is_run
from ga2clip.runtime.bundle import open_bundle
from ga2clip.runtime.bundle_model import BundleModel
from ga2clip.text import counted
from ga2clip.video import Preprocess, SamplingRule, sample_frames, write_video

if TYPE_CHECKING:
    from ga2clip.model.video_clip import VideoCLIP

_log = logging.getLogger(__name__)
_NAMES = tuple(f"doing thing number {number}" for number in range(32))
_ANSWER_ONCE = """
import json, sys
from ga2clip_export.bench import peak_memory
from ga2clip.runtime import Predictor
bundle, provider, threads, clip = json.loads(sys.argv[1])
with Predictor(bundle, provider=provider, threads=threads, cache=False) as predictor:
    predictor.predict(clip)
print(peak_memory())
"""


@dataclass
class Row:
    """The measurements of one engine: seconds per round, or per process start. An empty list: not measured."""

    engine: str
    provider: str
    encode: list[float] = field(default_factory=list)
    """Encoding the frames of a clip."""
    text: list[float] = field(default_factory=list)
    """Encoding a new class name, without the cache."""
    start: list[float] = field(default_factory=list)
    """A new process: import, open, decode, encode, rank."""
    memory: float = float("nan")
    """Peak MiB of that process."""
    cosine: float = float("nan")
    """Smallest cosine of the frame features to torch's, on the bundle's probe."""


@dataclass(frozen=True)
class BenchReport:
    """The measurements of `bench`. decode, preprocess: seconds per round, common to all engines."""

    machine: str
    frames: int
    size: int
    clips: int
    decode: list[float]
    preprocess: list[float]
    rows: list[Row]

    def to_json(self) -> dict[str, Any]:
        """All measurements as a JSON object; null: not measured."""
        return {
            "machine": self.machine,
            "frames": self.frames,
            "size": self.size,
            "clips": self.clips,
            "decode": self.decode,
            "preprocess": self.preprocess,
            "rows": [{k: None if v != v else v for k, v in asdict(row).items()} for row in self.rows],
        }

    def table(self) -> str:
        """A Markdown table; ratios are to the first row."""
        decode, preprocess = _median(self.decode), _median(self.preprocess)
        first = _median(self.rows[0].encode)
        lines = [
            f"{self.machine}  ",
            f"{counted(self.clips, 'clip')}, {counted(self.frames, 'frame')} of {self.size}×{self.size}; "
            f"medians of {len(self.decode)} "
            f"rounds. Decoding a clip takes {1e3 * decode:.1f} ms, preprocessing {1e3 * preprocess:.1f} ms.",
            "",
            "| engine | provider | encode ms/frame | × | decode + preprocess + encode ms/clip | text ms/name "
            "| process start to answer s | peak MiB | min cosine to torch |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            encode = _median(row.encode)
            cells = [
                row.engine,
                row.provider,
                _number(1e3 * encode / self.frames, 2),
                _number(first / encode, 2),
                _number(1e3 * (decode + preprocess + encode), 1),
                _number(1e3 * _median(row.text), 2),
                _number(_median(row.start), 2),
                _number(row.memory, 0),
                _number(row.cosine, 6),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)


def bench(
    bundles: Sequence[Path],
    clips: Sequence[Path] = (),
    *,
    providers: Sequence[str] = ("cpu",),
    rounds: int = 5,
    run: Path | None = None,
    threads: int = 0,
) -> BenchReport:
    """Measure every bundle with every provider, and a run in torch beside them.

    Args:
        bundles: their folders.
        clips: files to read; none: a made one (10 s of 320×240).
        providers: as `open_engine` takes them.
        rounds: over which medians are taken.
        run: measured in torch; None: the run in whose folder the first bundle lies, where torch and a run are there.
        threads: of every engine, 0: all cores.

    Raises:
        UserError: no bundle, a run that can't be read, or bundles of different picture sizes or frame numbers, which
            can't share clips.
    """
    if not bundles:
        raise UserError("no bundle to measure", "make one with: ga2clip export RUN")
    if rounds < 1:
        raise UserError(f"rounds must be at least 1, got {rounds}")
    cards = [open_bundle(path).card for path in bundles]
    shapes = {(card.sampling.frames, card.preprocess.size) for card in cards}
    if len(shapes) != 1:
        raise UserError("these bundles take clips of different shapes", "measure them one after the other")
    frames, size = shapes.pop()
    model = _run_beside(bundles[0]) if run is None else _model(run)
    with _clips_or_made(clips) as files:
        measured = [_torch_engine(model, threads)] if model else []
        measured += [_bundle_engine(path, name, threads) for path in bundles for name in providers]
        report = _measure(measured, files, rounds, frames, size)
        for row, engine in zip(report.rows, measured, strict=True):
            if engine.bundle is not None:
                _measure_process(row, engine, files[0], rounds, threads)
    return report


def _model(run: Path) -> "VideoCLIP":
    """The model of a run. Errors: UserError as `load_run`."""
    from ga2clip.run import load_run

    return load_run(run).model()


def _run_beside(bundle: Path) -> "VideoCLIP | None":
    """The model of the run in whose folder a bundle lies; None where there is no run, or torch, or a backbone."""
    if not is_run(bundle.parent) or find_spec("torch") is None:
        return None
    try:
        return _model(bundle.parent)
    except UserError as error:
        _log.info("torch is not measured: %s", error.message)
        return None


@dataclass(frozen=True)
class _Engine:
    row: Row
    encode: Callable[[np.ndarray], Any]
    text: Callable[[Sequence[str]], Any]
    bundle: Path | None = None
    provider: str = ""


def _bundle_engine(path: Path, provider: str, threads: int) -> _Engine:
    model = BundleModel(path, provider=provider, threads=threads, cache=False)
    probe = model.bundle.probe()
    features = model.encode_frames(probe.frames[0]).astype(np.float64)
    truth = probe.frame_features[0]
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(truth, axis=1)
    row = Row(f"ONNX {model.card.precision}", model.provider)
    row.cosine = float(((features * truth).sum(axis=1) / lengths).min())
    return _Engine(row, lambda clip: model.encode_clips(clip[None]), model.encode_classes, path, provider)


def _torch_engine(model: "VideoCLIP", threads: int) -> _Engine:
    import torch

    if threads:
        torch.set_num_threads(threads)

    @torch.no_grad()
    def encode(clip: np.ndarray) -> Any:
        return model.encode_video(torch.from_numpy(model.preprocess.normalise(clip[None])))

    @torch.no_grad()
    def text(names: Sequence[str]) -> Any:
        return model.encode_classes(list(names))

    return _Engine(Row("torch fp32", "cpu"), encode, text)


def _measure(
    engines: Sequence[_Engine], files: Sequence[Path], rounds: int, frames: int, size: int
) -> BenchReport:
    rule, preprocess = SamplingRule(frames=frames), Preprocess(size=size)
    decode: list[float] = []
    resize: list[float] = []
    for number in range(-1, rounds):  # the first round warms up
        for file in files:
            taken, sampled = _timed(sample_frames, file, rule)
            spent, clip = _timed(preprocess.frames, sampled.frames)
            if number >= 0:
                decode.append(taken)
                resize.append(spent)
            for engine in engines:
                seconds, _ = _timed(engine.encode, clip)
                if number >= 0:
                    engine.row.encode.append(seconds)
        for engine in engines:
            seconds, _ = _timed(engine.text, _NAMES)
            if number >= 0:
                engine.row.text.append(seconds / len(_NAMES))
    return BenchReport(
        _machine(), frames, size, len(files), decode, resize, [engine.row for engine in engines]
    )


def _measure_process(row: Row, engine: _Engine, clip: Path, rounds: int, threads: int) -> None:
    question = json.dumps([str(engine.bundle), engine.provider, threads, str(clip)])
    for _ in range(rounds):
        command = [sys.executable, "-c", _ANSWER_ONCE, question]
        seconds, done = _timed(_run, command)
        row.start.append(seconds)
        row.memory = float(done.stdout)


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode:
        raise UserError(f"a fresh process failed: {(done.stderr.splitlines() or ['no output'])[-1]}")
    return done


def _timed(work: Callable[..., Any], *inputs: Any) -> tuple[float, Any]:
    """Seconds that a call takes, and what it returns."""
    start = time.perf_counter()
    result = work(*inputs)
    return time.perf_counter() - start, result


def peak_memory() -> float:
    """The peak memory of this process in MiB; NaN if the system doesn't report it."""
    try:  # Linux: `resource` would report the parent's peak if that was larger
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@contextmanager
def _clips_or_made(clips: Sequence[Path]) -> Any:
    if clips:
        yield list(clips)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.mp4"
        pattern = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        big = pattern.repeat(8, axis=0).repeat(8, axis=1)
        write_video(path, (np.roll(big, 2 * index, axis=1) for index in range(300)), 30)
        yield [path]


def _machine() -> str:
    packages = [
        f"onnxruntime {_onnxruntime_version()}",
        f"numpy {np.__version__}",
        f"av {metadata.version('av')}",
    ]
    return (
        f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {', '.join(packages)}"
    )


def _onnxruntime_version() -> str:
    from ga2clip.runtime.ort import onnxruntime

    return str(onnxruntime.__version__)


def _processor() -> str:
    """The processor's name and whether it has instructions for 8-bit products."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    entries = {key.strip(): value.strip() for key, value in pairs}
    flags = entries.get("flags", "").split()
    products = [flag for flag in flags if "vnni" in flag] or ["no VNNI"]
    vectors = next((name for name in ("avx512f", "avx2") if name in flags), "no AVX2")
    return f"{entries.get('model name', platform.machine())} ({vectors}, {', '.join(products)})"


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def _number(value: float, digits: int) -> str:
    return "–" if value != value else f"{value:,.{digits}f}"
