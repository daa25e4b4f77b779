"""Kill commands at random moments, go on, and compare with what nobody disturbed.

    make kill-trials N=100
    python scripts/kill_trials.py 100 --seed 7 --only train-2,export --keep /tmp/trials

A trial starts `prepare`, `train` (with 0 or 2 loader processes), `export` or `predict` on a few drawn clips and the
built-in backbone, sends SIGKILL, SIGTERM or SIGINT to the process or to its group, and looks at what is left:

* no process of the group lives on, stderr has no traceback, nothing "unexpected" and no loader that died;
* every file that has its final name is whole;
* the same command, or its `--resume`, then ends well, and its files are those of the undisturbed command: tensors bit
  for bit, tables line by line. No temporary file stays.

A line per trial goes to stdout, the exit code is 1 when one failed. A trial takes about ten seconds on two cores.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ga2clip.run import PROMPTS, SETTINGS, load_run, read_metrics, read_settings
from ga2clip.runtime import open_bundle
from ga2clip.video import write_video

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
JOURNAL = "checked.jsonl"
CLASSES = ("waving a flag", "kicking a ball", "riding a bike", "rowing a boat")
_GONE_SECONDS = 15.0
"""In which all processes of a killed group must be gone; loaders look for their parent every second."""


@dataclass(frozen=True)
class Stage:
    """One command. begin: prepares a folder for it; words and again: the command, and how it goes on; whole: errors
    in what a kill left; result: what must be equal in the end, by name."""

    begin: Callable[[Path], None]
    words: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]
    whole: Callable[[Path], None]
    result: Callable[[Path], dict[str, str]]


@dataclass(frozen=True)
class Ended:
    """code: exit code. seconds: that it ran. err: what it said on stderr."""

    code: int
    seconds: float
    err: str


def run(words: list[str], kill: tuple[signal.Signals, bool, float] | None = None) -> Ended:
    """Run a command in a group of its own. kill: signal, whether to the group, seconds after the start."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "ga2clip_cli", *words],
            stdout=subprocess.DEVNULL,
            stderr=err,
            env=environment,
            start_new_session=True,
        )
        if kill is not None:
            number, group, seconds = kill
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                (os.killpg if group else os.kill)(process.pid, number)
        code = process.wait(600)
        taken = time.monotonic() - started
        _wait_until_gone(process.pid)
        err.seek(0)
        return Ended(code, taken, err.read())


def _wait_until_gone(group: int) -> None:
    until = time.monotonic() + _GONE_SECONDS
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    raise AssertionError(f"processes of the group lived on for {_GONE_SECONDS:.0f} s")


def write_clips(root: Path) -> None:
    """Six short videos for each class, a bright square in another corner."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        for index in range(6):
            frames = rng.integers(0, 60, (8, 64, 64, 3), dtype=np.uint8)
            top, left = 32 * (number // 2), 32 * (number % 2)
            frames[:, top : top + 32, left : left + 32, number % 3] += 150
            write_video(root / name / f"{index}.mp4", frames, 10)


def digests(folder: Path, names: Iterator[Path]) -> dict[str, str]:
    """SHA-256 of files by their place in the folder.

    The lines of a journal are sorted: `prepare` writes them as its processes finish, in any order, each line once.
    """
    return {
        str(path.relative_to(folder)): hashlib.sha256(_in_order(path)).hexdigest()
        for path in names
        if path.is_file()
    }


def _in_order(path: Path) -> bytes:
    content = path.read_bytes()
    return b"".join(sorted(content.splitlines(keepends=True))) if path.name == JOURNAL else content


def tensors(run_folder: Path) -> dict[str, str]:
    """SHA-256 of a run's tensors by name, and of its metrics."""
    state = load_run(run_folder).state()
    hashes = {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in state.items()}
    return {**hashes, **digests(run_folder, iter([run_folder / "metrics.jsonl"]))}


def stages(base: Path) -> dict[str, Stage]:
    """The stages by name. base: where the undisturbed files of the stages before are."""
    data, trained = base / "prepare" / "data", base / "train-0" / "run"
    bundle = base / "export" / "run" / "bundle"
    clips = base / "clips"
    write_clips(clips)  # once: an encoder need not write the same bytes twice

    def prepare(folder: Path) -> list[str]:
        return ["prepare", "--dataset", "folder", "--root", str(folder / "data"), "--cache", "--workers", "2"]

    def train(workers: int) -> Callable[[Path], list[str]]:
        pairs = (
            f"training.workers={workers}",
            "training.epochs=15",
            "training.batch_size=4",
            "data.frames=4",
        )
        sets = [word for pair in pairs for word in ("--set", pair)]
        words = "train --dataset folder --shots 4 --method ga2 --backbone tiny --pretrained builtin"
        return lambda folder: [*words.split(), "--root", str(data), *sets, "--out", str(folder / "run")]

    def resume(words: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
        def again(folder: Path) -> list[str]:
            began = (folder / "run" / SETTINGS).exists()
            return ["train", "--resume", str(folder / "run")] if began else words(folder)

        return again

    def whole_run(folder: Path) -> None:
        if (folder / "run" / SETTINGS).exists():
            read_settings(folder / "run")
            read_metrics(folder / "run")
        if (folder / "run" / PROMPTS).exists():
            load_run(folder / "run").model()

    def whole_bundle(folder: Path) -> None:
        if (folder / "run" / "bundle").exists():
            open_bundle(folder / "run" / "bundle").verify()

    def predict(folder: Path) -> list[str]:
        asked = [str(data / name) for name in CLASSES]
        answers = folder / "answers.jsonl"
        out = ["--resume" if answers.exists() else "--jsonl", str(answers)]
        return ["predict", *asked, "--model", str(bundle), "--threads", "1", *out]

    def answers(folder: Path) -> dict[str, str]:
        lines = (folder / "answers.jsonl").read_text().splitlines()
        return dict.fromkeys(lines, "") | {"lines": str(len(lines))}

    def training(workers: int) -> Stage:
        words = train(workers)
        return Stage(lambda _: None, words, resume(words), whole_run, lambda f: tensors(f / "run"))

    def export(folder: Path) -> list[str]:
        return ["export", str(folder / "run")]

    return {
        "prepare": Stage(
            lambda folder: shutil.copytree(clips, folder / "data") and None,
            prepare,
            prepare,
            lambda _: None,
            lambda f: digests(f / "data", (f / "data").rglob("*")),
        ),
        "train-0": training(0),
        "train-2": training(2),
        "export": Stage(
            lambda folder: shutil.copytree(trained, folder / "run") and None,
            export,
            export,
            whole_bundle,
            lambda f: digests(f / "run" / "bundle", (f / "run" / "bundle").glob("*.npz")),
        ),
        "predict": Stage(lambda _: None, predict, predict, lambda _: None, answers),
    }


def leftovers(folder: Path) -> list[str]:
    """Temporary files and folders: hidden names with a process number in them."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob(".*")
        if any(part.isdigit() for part in path.name.replace("-", ".").split("."))
    ]


def check_words(ended: Ended) -> None:
    """What a killed command said must help."""
    for word in ("Traceback", "unexpected", "a loader process"):
        assert word not in ended.err, ended.err


def trial(
    stage: Stage, wanted: dict[str, str], folder: Path, kill: tuple[signal.Signals, bool, float]
) -> str:
    """Kill, look, go on, compare. Returns what happened; AssertionError or an error of a reader when it is wrong."""
    folder.mkdir()
    stage.begin(folder)
    killed = run(stage.words(folder), kill)
    check_words(killed)
    stage.whole(folder)
    ended = run(stage.again(folder))
    assert ended.code == 0, ended.err
    result = stage.result(folder)
    differ = sorted(name for name in wanted.keys() | result.keys() if wanted.get(name) != result.get(name))
    assert not differ, f"{len(differ)} of {len(wanted)} differ: {differ[:5]}"
    assert not leftovers(folder), f"left behind: {leftovers(folder)[:5]}"
    return f"exit code {killed.code}"


def main() -> int:
    """Run the trials; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("trials", type=int, nargs="?", default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="prepare,train-0,train-2,export,predict", metavar="STAGE,…")
    parser.add_argument("--keep", type=Path, help="folder for what failed trials left [default: removed]")
    options = parser.parse_args()
    # A shell that starts this in the background lets it ignore Ctrl-C; the commands that it starts must not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary, "base")
        known = stages(base)
        chosen = [
            name for name in options.only.split(",") if name in known or parser.error(f"no stage {name}")
        ]
        reference: dict[str, tuple[float, dict[str, str]]] = {}
        for name, stage in known.items():
            (base / name).mkdir(parents=True)
            stage.begin(base / name)
            ended = run(stage.words(base / name))
            assert ended.code == 0, ended.err
            reference[name] = ended.seconds, stage.result(base / name)
            print(f"undisturbed {name}: {ended.seconds:.1f} s", flush=True)
        rng = random.Random(options.seed)
        failed = 0
        for number in range(options.trials):
            name = chosen[number % len(chosen)]
            seconds, wanted = reference[name]
            kill = rng.choice(SIGNALS), rng.random() < 0.5, seconds * rng.uniform(0.1, 1.0)
            folder = Path(temporary, f"trial-{number}-{name}")
            target = "group" if kill[1] else "process"
            line = (
                f"{number + 1}/{options.trials} {name}: {kill[0].name} to the {target} after {kill[2]:.1f} s"
            )
            try:
                print(f"{line}: {trial(known[name], wanted, folder, kill)}", flush=True)
            except Exception as error:  # whatever is wrong fails this trial; the others go on
                failed += 1
                print(f"{line}: FAILED: {error}", flush=True)
                if options.keep:
                    shutil.copytree(folder, options.keep / folder.name)
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{options.trials - failed} of {options.trials} trials passed")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
