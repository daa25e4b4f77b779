"""Two gloo processes on one CPU do what one process does."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ga2clip.compute.distributed import choose_device
from ga2clip.errors import UserError
from ga2clip.evaluation.evaluate import evaluate_all
from ga2clip.model.methods import METHODS
from ga2clip.run import load_run, read_metrics
from ga2clip.settings import Settings
from ga2clip.training import train

Make = Callable[..., Settings]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these trainings."""
    monkeypatch.setattr("ga2clip.evaluation.report._draw_confusion", lambda *_: None)


def in_two_processes(function: Callable[..., None], *arguments: Any) -> None:
    """Run a function as torchrun would start it, twice; its exceptions fail the test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Forked from a clean server: a process that has run autograd itself can't be forked.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ga2clip.training.train", "ga2clip.evaluation.evaluate"])
    processes = [
        context.Process(target=_as_rank, args=(rank, port, function, arguments)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=100)
    assert [process.exitcode for process in processes] == [0, 0]


def _as_rank(rank: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    function(*arguments)


def _train(settings: Settings, out: Path) -> None:
    train.train(settings, out, device="cpu", progress=False)


def _evaluate(run: Path, out: Path) -> None:
    reports = evaluate_all(run, device="cpu", progress=False)
    for report in reports:
        report.write(out / os.environ["RANK"] / report.protocol)


@pytest.mark.parametrize(
    ("method", "sections"),
    [
        ("ga2", {"anchors": {"per_step": 2}}),
        ("ga2", {"anchors": {"per_step": 2, "every": 2}, "training": {"micro_batch": 1}}),
        ("coop", {}),  # cached features
        (
            "vilt",
            {
                "method": {"coupling": "mapping", "hard_prompts": "a hard prompt about people"},
                "training": {"classes_per_step": 1, "class_chunk": 1, "micro_batch": 1},
            },
        ),
    ],
)
def test_two_processes_train_as_one(
    settings: Make, tmp_path: Path, method: str, sections: dict[str, Any]
) -> None:
    """The same updates but for rounding, dropout included: the mapping's mask is drawn alike in every process."""
    chosen = settings(method, **sections)
    _train(chosen, tmp_path / "one")
    in_two_processes(_train, chosen, tmp_path / "two")
    one, two = load_run(tmp_path / "one").state(), load_run(tmp_path / "two").state()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4, msg=name)
    for alone, together in zip(read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two"), strict=True):
        assert together == pytest.approx(alone, rel=1e-3, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("tune", ["prompts", "both"])
def test_every_method_trains_in_two_processes(settings: Make, tmp_path: Path, method: str, tune: str) -> None:
    """Everything that is declared trainable gets a gradient, else DDP would refuse the second step."""
    if tune == "both" and method in ("promptsrc", "linear-probe", "recommended"):
        pytest.skip("these want a frozen vision tower")
    sections = {"method": {"tune": tune}} if method != "zero-shot" or tune == "both" else {}
    in_two_processes(_train, settings(method, **sections), tmp_path / "two")
    assert load_run(tmp_path / "two").meta["method"] == method


def test_sharded_evaluation_is_exactly_that_of_one_process(settings: Make, tmp_path: Path) -> None:
    """Uneven shares, no clip twice; every process has the whole report."""
    _train(settings("ivlp"), tmp_path / "run")
    in_two_processes(_evaluate, tmp_path / "run", tmp_path / "reports")
    for report in evaluate_all(tmp_path / "run", device="cpu", progress=False):
        report.write(tmp_path / "alone" / report.protocol)
        for name in ("report.json", "per_class.csv"):
            alone = (tmp_path / "alone" / report.protocol / name).read_text()
            for rank in "01":
                assert (tmp_path / "reports" / rank / report.protocol / name).read_text() == alone


def test_devices_that_are_not_there_are_refused() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(UserError, match="unknown device"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no GPU 0"):
            choose_device("cuda")
