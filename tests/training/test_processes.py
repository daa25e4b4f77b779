"""Real processes, really killed: what signals and torchrun do to `ga2clip train`."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ga2clip.run import load_run, read_metrics

pytestmark = pytest.mark.slow

COMMAND = (
    *("train", "--dataset", "stickfigures", "--shots", "4", "--frames", "2", "--method", "ga2"),
    *("--hard-prompts", "a hard prompt about people"),
)
SETTINGS = {"training.batch_size": "4", "method.text_length": "4", "method.vision_length": "4"}


def arguments(dataset: Path, clip_file: Path, out: Path, epochs: int) -> list[str]:
    given = [*COMMAND, "--root", str(dataset), "--pretrained", str(clip_file), "--out", str(out)]
    pairs = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    return [*given, "--epochs", str(epochs), *pairs]


def start(words: list[str], *, processes: int = 1, own_group: bool = False) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", "0"]
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "ga2clip_cli", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=own_group,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def wait_for_steps(run: Path, steps: int, process: subprocess.Popen[str]) -> None:
    for _ in range(3000):
        if (run / "metrics.jsonl").exists() and len(read_metrics(run)) >= steps:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no progress")


EPOCHS = 30


@pytest.fixture(scope="module")
def whole(dataset: Path, clip_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert finish(start(arguments(dataset, clip_file, out, EPOCHS)))[0] == 0
    return out


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_killed_run_goes_on_to_the_same_weights(
    dataset: Path, clip_file: Path, tmp_path: Path, whole: Path, number: signal.Signals, code: int
) -> None:
    cut = tmp_path / "cut"
    process = start(arguments(dataset, clip_file, cut, EPOCHS))
    wait_for_steps(cut, 5, process)
    process.send_signal(number)
    returned, _, err = finish(process)
    assert returned == code
    assert "Traceback" not in err
    assert load_run(cut).meta["step"] < 2 * EPOCHS
    assert finish(start(["train", "--resume", str(cut)]))[0] == 0
    state = load_run(cut).state()
    for name, value in load_run(whole).state().items():
        assert torch.equal(state[name], value), name
    assert (whole / "metrics.jsonl").read_bytes() == (cut / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_group_reaches_the_loaders_too_and_harms_nothing(
    dataset: Path, clip_file: Path, tmp_path: Path, whole: Path, number: signal.Signals, code: int
) -> None:
    """A terminal, Slurm and systemd signal every process; the parent alone decides what happens."""
    cut = tmp_path / "cut"
    words = [*arguments(dataset, clip_file, cut, EPOCHS), "--set", "training.workers=2"]
    process = start(words, own_group=True)
    wait_for_steps(cut, 5, process)
    os.killpg(process.pid, number)
    returned, _, err = finish(process)
    assert returned == code, err
    assert "checkpoint saved" in err
    assert "a loader process" not in err
    assert 5 <= load_run(cut).meta["step"] < 2 * EPOCHS
    assert finish(start(["train", "--resume", str(cut)]))[0] == 0
    assert (whole / "metrics.jsonl").read_bytes() == (cut / "metrics.jsonl").read_bytes()
    state = load_run(cut).state()
    for name, value in load_run(whole).state().items():
        assert torch.equal(state[name], value), name


def test_loaders_end_when_their_parent_is_killed(dataset: Path, clip_file: Path, tmp_path: Path) -> None:
    words = [*arguments(dataset, clip_file, tmp_path / "run", 2000), "--set", "training.workers=2"]
    process = start(words, own_group=True)
    wait_for_steps(tmp_path / "run", 3, process)
    process.kill()
    finish(process)  # waits for everyone who holds stderr
    assert is_gone(process.pid)


def is_gone(group: int) -> bool:
    """Whether no process of the group is left; the system may take a moment to bury them."""
    for _ in range(300):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


CONTAINER = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o "$0" tmpfs /dev/shm && exec "$@"']


@pytest.mark.parametrize("options", ["size=64k", "ro"])
def test_a_small_or_read_only_shared_memory_stops_no_training(
    dataset: Path, clip_file: Path, tmp_path: Path, options: str
) -> None:
    if (
        not shutil.which("unshare")
        or subprocess.run([*CONTAINER, options, "true"], capture_output=True).returncode
    ):
        pytest.skip("mounting needs rights")
    words = [*arguments(dataset, clip_file, tmp_path / "run", 2), "--set", "training.workers=2"]
    done = subprocess.run(
        [*CONTAINER, options, sys.executable, "-m", "ga2clip_cli", *words],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "error"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "no loader processes can be started" in done.stderr
    assert "Traceback" not in done.stderr
    assert load_run(tmp_path / "run").meta["finished"]


def test_a_run_is_written_by_one_process_at_a_time(dataset: Path, clip_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = start(arguments(dataset, clip_file, out, 2000))
    wait_for_steps(out, 3, first)
    code, _, err = finish(start(["train", "--resume", str(out)]))
    assert code == 1
    assert "another process is training" in err
    first.send_signal(signal.SIGTERM)
    assert finish(first)[0] == 143


def test_torchrun_trains_and_tests_as_one_process_does(
    dataset: Path, clip_file: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert finish(start(arguments(dataset, clip_file, one, 2)))[0] == 0
    code, out, err = finish(start(arguments(dataset, clip_file, two, 2), processes=2))
    assert code == 0, err
    assert out.splitlines() == [str(two)]  # the first process speaks alone
    for name, value in load_run(one).state().items():
        torch.testing.assert_close(load_run(two).state()[name], value, rtol=1e-3, atol=1e-4)
    alone = finish(start(["eval", str(two), "--json"]))[1]
    assert finish(start(["eval", str(two), "--json"], processes=2))[1] == alone


def test_a_stopped_group_of_processes_goes_on_to_the_same_weights(
    dataset: Path, clip_file: Path, tmp_path: Path
) -> None:
    """torchrun passes SIGTERM on; the processes agree on the update after which they stop."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert finish(start(arguments(dataset, clip_file, whole, 10), processes=2))[0] == 0
    process = start(arguments(dataset, clip_file, cut, 10), processes=2)
    wait_for_steps(cut, 3, process)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] != 0
    assert 3 <= load_run(cut).meta["step"] < 20
    assert finish(start(["train", "--resume", str(cut)], processes=2))[0] == 0
    assert (whole / "metrics.jsonl").read_bytes() == (cut / "metrics.jsonl").read_bytes()
    state = load_run(cut).state()
    for name, value in load_run(whole).state().items():
        assert torch.equal(state[name], value), name
