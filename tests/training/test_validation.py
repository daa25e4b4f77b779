"""A validation part of the training clips: its curve, the best epoch, an early end; and resuming on the way."""

import math
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch.nn.functional import cross_entropy

from ga2clip.compute.distributed import Group
from ga2clip.compute.features import encode_clips
from ga2clip.data.lineage import Seen
from ga2clip.data.manifest import Clip, Manifest
from ga2clip.data.protocols import make_task
from ga2clip.errors import UserError
from ga2clip.evaluation.evaluate import evaluate_run
from ga2clip.run import load_run, read_metrics
from ga2clip.settings import DataSettings, Settings
from ga2clip.training import train
from ga2clip.training.averaging import BestState
from ga2clip.training.signals import StoppedError
from ga2clip.training.validation import Validation
from tests.training.small_runs import assert_stopped_ends_as, signal_after

Make = Callable[..., Settings]
VAL = {"val": 0.25}


def run(settings: Settings, out: Path, **options: Any) -> Path:
    return train.train(settings, out, device="cpu", progress=False, **options)


def test_validation_clips_are_training_clips_of_each_class_in_whole_groups() -> None:
    clips = tuple(
        Clip(f"{name}/{split}{n}.mp4", name, split, 10, 1.0, group=f"{name} {split} {n // 2}")
        for name in ("run", "sit")
        for split, count in (("train", 8), ("test", 4))
        for n in range(count)
    )
    manifest = Manifest("folder", Path("/data"), ("run", "sit"), (), clips)
    data = DataSettings(protocol="few-shot", shots=8, val=0.25)
    task, again = (make_task(manifest, data, 1) for _ in range(2))
    without = make_task(manifest, data.model_copy(update={"val": 0.0}), 1)
    assert task == again
    assert sorted(clip.path for clip in (*task.train, *task.val)) == [clip.path for clip in without.train]
    assert Counter(clip.label for clip in task.val) == {"run": 2, "sit": 2}
    assert {clip.group for clip in task.val}.isdisjoint(clip.group for clip in task.train)
    assert {clip.split for clip in task.val} == {"train"}
    assert "4 of them are for validation" in task.rule
    single = replace(manifest, clips=tuple(replace(clip, group=str(clip.label)) for clip in clips))
    with pytest.raises(UserError, match="no clips for validation"):
        make_task(single, data, 1)


@pytest.mark.parametrize(("method", "pooling"), [("ivlp", "mean"), ("kgcoop", "trend")])
def test_the_curve_is_that_of_the_validation_clips(
    settings: Make, tmp_path: Path, method: str, pooling: str
) -> None:
    """The numbers of the last epoch, from the finished model, by the formula; frames are also encoded once."""
    chosen = settings(method, data=VAL, method={"pooling": pooling})
    out = run(chosen, tmp_path / "run")
    lines = read_metrics(out)
    ends = [line for line in lines if "val_accuracy" in line]
    assert [line["epoch"] for line in ends] == [1, 2]
    assert all(
        line["step"] == max(row["step"] for row in lines if row["epoch"] == line["epoch"]) for line in ends
    )
    loaded = load_run(out)
    best = max(ends, key=lambda line: (line["val_accuracy"], -line["val_loss"]))
    assert loaded.meta["validation"] == {
        "epoch": best["epoch"],
        "accuracy": best["val_accuracy"],
        "loss": best["val_loss"],
        "kept": "best",
    }
    task, model = loaded.task(), loaded.model()
    assert (len(task.train), len(task.val)) == (6, 2)
    features = encode_clips(model, task.val, chosen, Group(torch.device("cpu"))).features
    with torch.no_grad():
        video = torch.cat([features[clip.id] for clip in task.val])
        logits = model.logits(video, model.encode_classes(list(task.classes)))
    labels = torch.tensor([task.classes.index(str(clip.label)) for clip in task.val])
    assert best["val_loss"] == pytest.approx(float(cross_entropy(logits, labels)), abs=1e-5)
    assert best["val_accuracy"] == float((logits.argmax(-1) == labels).float().mean())


class Certain:
    """A model whose frame features are its logits."""

    def pool(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.mean(dim=1)

    def encode_classes(self, names: list[str]) -> torch.Tensor:
        return torch.eye(len(names))

    def logits(self, video: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return video @ classes.T


def test_a_clip_that_cannot_be_read_counts_as_wrong() -> None:
    clips = [Clip(f"{n}.mp4", label, "train", 8, 1.0) for n, label in enumerate(("run", "sit", "sit", "run"))]
    group = Group(torch.device("cpu"))
    updater = SimpleNamespace(model=Certain(), group=group, dtype=None)
    task = SimpleNamespace(val=clips, classes=("run", "sit"))
    validation = Validation(cast(Any, updater), cast(Any, task))
    validation._features = {
        "0.mp4": torch.tensor([[4.0, 0.0], [2.0, 0.0]]),
        "1.mp4": torch.tensor([[0.0, 2.0]] * 2),
        "2.mp4": torch.tensor([[1.0, 0.0]] * 2),
    }
    accuracy, loss = validation._scores()
    assert accuracy == 2 / 4
    wrong = [math.log1p(math.exp(-margin)) for margin in (3, 2, -1)]
    assert loss == pytest.approx(sum(wrong) / 3, rel=1e-6)
    validation._features = {}
    with pytest.raises(UserError, match="no validation clip can be read"):
        validation._scores()


def scripted(monkeypatch: pytest.MonkeyPatch, *scores: tuple[float, float]) -> None:
    """Validation gives these (accuracy, loss), epoch after epoch."""

    def measured(self: Validation) -> tuple[float, float]:
        epoch = self._updater.best.epoch_measured = getattr(self._updater.best, "epoch_measured", 0) + 1
        return scores[epoch - 1]

    monkeypatch.setattr(Validation, "_scores", measured)


def test_the_best_epoch_is_kept_and_patience_ends_the_training(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, (0.5, 1.0), (0.5, 0.9), (0.5, 0.95), (0.4, 0.1), (1.0, 0.0))
    chosen = settings("ivlp", data=VAL, training={"epochs": 5, "patience": 2})
    out = run(chosen, tmp_path / "run")
    assert read_metrics(out)[-1]["epoch"] == 4
    meta = load_run(out).meta
    assert meta["validation"] == {"epoch": 2, "accuracy": 0.5, "loss": 0.9, "kept": "best"}
    assert meta["finished"]
    kept = load_run(out).state()
    # The same training, stopped where the best epoch ends.
    signal_after(monkeypatch, 4)
    scripted(monkeypatch, (0.5, 1.0), (0.5, 0.9))
    with pytest.raises(StoppedError):
        run(chosen, tmp_path / "cut")
    for name, value in load_run(tmp_path / "cut").state().items():
        assert torch.equal(kept[name], value), name
    # A run that has ended is not trained on, and not made longer.
    monkeypatch.undo()
    before = (out / "prompts.safetensors").read_bytes()
    run(train.resume_settings(out), out, resume=True)
    assert (out / "prompts.safetensors").read_bytes() == before
    with pytest.raises(UserError, match=r"validation has ended .* after 4 epochs"):
        run(train.resume_settings(out, epochs=9), out, resume=True)


@pytest.mark.parametrize("stop_after", [1, 2, 4])
def test_a_stopped_training_with_validation_ends_as_one_that_was_not(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    chosen = settings("ivlp", data=VAL, training={"epochs": 3, "lr": 0.5, "patience": 2})
    whole = run(chosen, tmp_path / "whole")
    assert_stopped_ends_as(whole, chosen, tmp_path / "cut", monkeypatch, stop_after)
    assert load_run(tmp_path / "cut").meta == load_run(whole).meta


def test_an_average_is_kept_instead_of_the_best_epoch(settings: Make, tmp_path: Path) -> None:
    average = {"kind": "uniform"}
    followed = run(settings("ivlp", data=VAL, average=average), tmp_path / "followed")
    assert load_run(followed).meta["validation"]["kept"] == "average"
    assert not any(name.startswith("best/") for name in torch_names(followed))
    with pytest.raises(UserError, match="exclude each other"):
        run(settings("ivlp", data=VAL, average=average, training={"patience": 1}), tmp_path / "no")
    with pytest.raises(UserError, match="needs validation clips"):
        run(settings("ivlp", training={"patience": 1}), tmp_path / "no")
    assert not (tmp_path / "no").exists()


def torch_names(folder: Path) -> list[str]:
    from ga2clip.run_files import read_tensors

    return list(read_tensors(folder / "state" / "checkpoint.safetensors")[1])


def test_of_equal_accuracies_the_smaller_loss_is_better_and_a_later_tie_is_not() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    best = BestState({"w": weight})
    for epoch, accuracy, loss in ((1, 0.5, 2.0), (2, 0.5, 1.0), (3, 0.5, 1.0), (4, 0.4, 0.1)):
        weight.data.fill_(epoch)
        best.offer(epoch, accuracy, loss)
    assert (best.epoch, best.accuracy, best.loss) == (2, 0.5, 1.0)
    best.apply()
    assert weight.item() == 2


def test_validation_clips_may_not_become_test_clips(settings: Make, dataset: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "data"))
    out = run(settings("ivlp", data={**VAL, "root": str(root)}), tmp_path / "run")
    record = load_run(out).record()
    assert record is not None
    assert (len(record.trained), len(record.validated)) == (6, 2)
    manifest = Manifest.read(root)
    val = Seen(record.validated)
    clips = tuple(replace(clip, split="test") if clip in val else clip for clip in manifest.clips)
    replace(manifest, clips=clips).write()
    with pytest.raises(UserError, match="was trained on 2 of the 10 test clips"):
        evaluate_run(out, device="cpu", progress=False)
