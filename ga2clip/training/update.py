"""One update: forward and backward passes over a batch, one optimiser step, and its metrics.

The gradient is that of the whole batch for any number of devices, micro-batches and class chunks: every term is divided
by the counts of the whole batch, and prompts and class features are computed once per update, with one dropout mask.
For all chunks but the last these are leaves that accumulate gradients; the backward pass of the last chunk propagates
the accumulated gradients into the parts and the text tower.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ga2clip.compute.distributed import Group
from ga2clip.compute.precision import autocast, autocast_dtype
from ga2clip.data.loader import Batch
from ga2clip.data.mix import mix_clips
from ga2clip.errors import UserError
from ga2clip.model.blocks import BlockWeights
from ga2clip.model.part import Prompts
from ga2clip.model.pooling import mean_pool
from ga2clip.model.term import LossOutput
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.training.averaging import BestState, StateAverage
from ga2clip.training.optimiser import build_optimiser, set_lr

_MaybeTensor = TypeVar("_MaybeTensor", Tensor, Tensor | None)


@dataclass(frozen=True)
class FeatureBatch:
    """A batch of precomputed frame features, for models whose vision tower does not train.

    features: (B + A, T, D) float32, T is 1 where the mean over the frames is all that the model needs; labels:
    (B + A,) int64, −1 for anchors, which come last.
    """

    features: Tensor
    labels: Tensor
    ids: list[str]


@dataclass(frozen=True)
class Outcome:
    """The numbers of one update, over all processes."""

    loss: float
    terms: dict[str, float]
    correct: int
    labelled: int
    anchors: int
    grad_norm: float
    stop: bool
    """Whether any process was asked to stop."""
    validation: Mapping[str, float] = field(default_factory=dict)
    """After the last update of an epoch: what `Validation.measure` gives."""


class Updater:
    """Holds the model, its optimiser and the precision; `run` does one update."""

    def __init__(self, model: VideoCLIP, group: Group) -> None:
        settings = model.settings.training
        self.model, self.group, self.settings = model, group, settings
        self.parameters = model.trainable_parameters()
        self.optimiser = build_optimiser(model.parameter_groups(), settings)
        self.average = StateAverage(self.parameters, model.settings.average)
        averaged = model.settings.average.kind != "none"
        self.best = BestState({} if averaged else self.parameters)
        self.dtype = autocast_dtype(settings.precision, group.device, model.backbone.vision.width)
        self.scaler = torch.amp.GradScaler(group.device.type, enabled=self.dtype == torch.float16)
        self._frozen_classes: Tensor | None = None
        self._losses: nn.Module = _ChunkLosses(model)
        if group.size > 1 and self.parameters:
            self._losses = DistributedDataParallel(self._losses, broadcast_buffers=False)

    def run(self, batch: Batch | FeatureBatch, step: int, factor: float, *, stop: bool = False) -> Outcome:
        """Do one update. step: its number in the run, which determines its random numbers; factor: of learning rates.

        Raises UserError for a loss or gradient that is not finite; parameters are then unchanged.
        """
        torch.manual_seed(_mix(self.settings.seed, step))
        counts = self._counts(batch.labels, stop)
        class_ids = self._choose_classes(batch.labels, step)
        chunks = self._chunks(batch)
        set_lr(self.optimiser, factor)
        # Clips are mixed within a process, so these random numbers also depend on the process.
        rng = np.random.default_rng((self.settings.seed, step, self.group.rank))
        outputs = self._backward(chunks, step, counts[:2], class_ids, rng)
        numbers = self._numbers(outputs, [chunk.labels for chunk in chunks], class_ids)
        loss, correct, *terms = numbers.tolist()
        named = dict(zip(outputs[0].terms, terms, strict=True))
        _refuse_non_finite(loss, named, step)
        norm = self._apply(step)
        labelled, anchors, stopping = counts
        return Outcome(loss, named, int(correct), labelled, anchors, norm, stopping > 0)

    def rehearse(self, video: Tensor) -> None:
        """Forward and backward pass of clips (N, T, 3, H, W) without a step: the first is labelled, the others anchors.

        With N = 0 only the text tower runs. Gradients are discarded.
        """
        labels = torch.tensor([0, *[-1] * (len(video) - 1)][: len(video)], device=self.group.device)
        class_ids = self._choose_classes(labels, step=0)
        shared = self._shared(class_ids, step=0)
        total = shared.classes.sum()
        if len(video):
            with autocast(self.group.device, self.dtype):
                total = _ChunkLosses(self.model)(video, labels, shared, class_ids, None, None).total
        if total.requires_grad:
            total.backward()
        self.optimiser.zero_grad()

    def _counts(self, labels: Tensor, stop: bool) -> tuple[int, int, int]:
        """The numbers of labelled videos, anchor videos and requests to stop, summed over all processes."""
        anchors = int((labels < 0).sum())
        local = torch.tensor([len(labels) - anchors, anchors, int(stop)], device=self.group.device)
        labelled, anchors, stopping = self.group.sum(local).tolist()
        return labelled, anchors, stopping

    def _choose_classes(self, labels: Tensor, step: int) -> Tensor | None:
        """Sorted ids (S,) of the classes of this update: those of its clips, and random others; None: all classes."""
        wanted, total = self.settings.classes_per_step, len(self.model.classes)
        if not wanted or wanted >= total:
            return None
        own = torch.tensor(
            sorted({i for part in self.group.gather(labels.tolist()) for i in part if i >= 0}),
            dtype=torch.int64,
        )
        generator = torch.Generator().manual_seed(_mix(self.settings.seed, step))
        others = torch.randperm(total, generator=generator)
        others = others[~torch.isin(others, own)][: max(0, wanted - len(own))]
        return torch.cat([own, others]).sort().values.to(self.group.device)

    def _chunks(self, batch: Batch | FeatureBatch) -> list[Batch | FeatureBatch]:
        """The batch, divided into micro-batches; the last one has labelled clips."""
        clips = len(batch.labels)
        size = self.settings.micro_batch or clips
        if size >= clips:
            return [batch]
        parts = torch.arange(clips).split(size)
        return [take(batch, rows) for rows in reversed(parts)]

    def _backward(
        self,
        chunks: Sequence[Batch | FeatureBatch],
        step: int,
        counts: tuple[int, int],
        class_ids: Tensor | None,
        rng: np.random.Generator,
    ) -> list[LossOutput]:
        """Forward and backward of all chunks; gradients are those of the whole update over all processes."""
        shared = self._shared(class_ids, step)
        leaves = shared.detached()
        outputs = []
        for number, chunk in enumerate(chunks):
            last = number == len(chunks) - 1
            with nullcontext() if last else self._no_sync():
                with autocast(self.group.device, self.dtype):
                    video, labels = self._inputs(chunk)
                    video, targets = self._mixed(video, labels, rng)
                    output = self._losses(
                        video, labels, shared if last else leaves, class_ids, targets, counts
                    )
                # DDP averages over processes, but with these counts gradients must be summed.
                total = self.scaler.scale(output.total * self.group.size)
                if last:
                    _backward_with(total, shared.tensors(), leaves.tensors())
                elif total.requires_grad:  # anchors alone have no gradient under the published loss
                    total.backward()
            outputs.append(output)
        return outputs

    def _inputs(self, chunk: Batch | FeatureBatch) -> tuple[Tensor, Tensor]:
        device = self.group.device
        labels = chunk.labels.to(device, non_blocking=True)
        if isinstance(chunk, FeatureBatch):
            return chunk.features.to(device), labels
        return chunk.clip_tensor(self.model.preprocess, device), labels

    def _mixed(self, video: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
        """The video with MixUp or CutMix of labelled clips, if it is on, and targets (B, C) or None."""
        augment = self.model.settings.augment
        if video.ndim == 3 or not (augment.mixup or augment.cutmix):
            return video, None
        return mix_clips(video, labels, len(self.model.classes), augment, rng)

    def _shared(self, class_ids: Tensor | None, step: int) -> "_Shared":
        """What all chunks of an update share, computed once."""
        with autocast(self.group.device, self.dtype):
            prompts = self.model.prompts()
            classes = self._class_features(class_ids, prompts)
            if not self.model.outlier_words:
                return _Shared(prompts, classes)
            word_ids, words = self._choose_words(step), self.model.outlier_words
            chosen = words if word_ids is None else [words[i] for i in word_ids.tolist()]
            encoded = self.model.encode_words(chosen, prompts, chunk=self.settings.class_chunk)
            return _Shared(prompts, classes, encoded, word_ids)

    def _choose_words(self, step: int) -> Tensor | None:
        """Ids (O,) of the outlier words of this update; None: all."""
        wanted, total = self.model.settings.outliers.per_step, len(self.model.outlier_words)
        if not wanted or wanted >= total:
            return None
        generator = torch.Generator().manual_seed(_mix(self.settings.seed, step))
        return torch.randperm(total, generator=generator)[:wanted].to(self.group.device)

    def _class_features(self, class_ids: Tensor | None, prompts: Prompts) -> Tensor:
        """Class features (C, D), with a graph if the text tower trains; otherwise computed only once per run."""
        if self.model.trains("text"):
            names = self.model.classes
            chosen = names if class_ids is None else [names[i] for i in class_ids.tolist()]
            return self._encode(chosen, prompts)
        if self._frozen_classes is None:
            with torch.no_grad():
                self._frozen_classes = self._encode(self.model.classes, prompts)
        return self._frozen_classes if class_ids is None else self._frozen_classes[class_ids]

    def _encode(self, names: Sequence[str], prompts: Prompts) -> Tensor:
        """Class features; with many texts, in chunks whose activations are recomputed."""
        return self.model.encode_classes(names, prompts, chunk=self.settings.class_chunk)

    def _no_sync(self) -> AbstractContextManager[Any]:
        if isinstance(self._losses, DistributedDataParallel):
            return self._losses.no_sync()
        return nullcontext()

    def _numbers(
        self, outputs: Sequence[LossOutput], labels: Sequence[Tensor], class_ids: Tensor | None
    ) -> Tensor:
        """[loss, correct, *terms] summed over chunks and processes: float64 on the CPU, one transfer."""
        rows = []
        for output, own in zip(outputs, labels, strict=True):
            own = own[own >= 0].to(output.logits.device)
            own = own if class_ids is None else torch.searchsorted(class_ids, own)
            correct = (output.logits.argmax(dim=-1) == own).sum()
            rows.append(torch.stack([output.total.detach(), correct, *output.terms.values()]).double())
        return self.group.sum(torch.stack(rows).sum(dim=0)).cpu()

    def _apply(self, step: int) -> float:
        """Clip and step; returns the gradient's norm before clipping."""
        self.scaler.unscale_(self.optimiser)
        limit = self.settings.clip_grad or math.inf
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), limit))
        if not math.isfinite(norm) and not self.scaler.is_enabled():
            self.optimiser.zero_grad()
            raise UserError(
                f"the gradient of step {step + 1} is not finite ({norm})",
                "start another run with a lower training.lr or training.precision=fp32",
            )
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad()
        return norm


class _Shared(NamedTuple):
    """What all chunks of an update share.

    prompts: and changed weights. classes: (C, D) made with them. words: (O, D) of the outlier words `word_ids`.
    """

    prompts: Prompts
    classes: Tensor
    words: Tensor | None = None
    word_ids: Tensor | None = None

    def detached(self) -> "_Shared":
        """The same values as leaves, in which chunks collect their gradients."""
        prompts = self.prompts
        leaves = prompts._replace(
            vision=[_leaf(prompt) for prompt in prompts.vision],
            vision_weights=[own and BlockWeights(*map(_leaf, own)) for own in prompts.vision_weights],
        )
        return _Shared(leaves, _leaf(self.classes), _leaf(self.words), self.word_ids)

    def tensors(self) -> list[Tensor]:
        """What chunks send gradients into: features of texts, vision prompts and weights. Those of the text tower
        reach them through the features."""
        weights = (weight for own in self.prompts.vision_weights for weight in own or ())
        return [
            tensor
            for tensor in (self.classes, self.words, *self.prompts.vision, *weights)
            if tensor is not None
        ]


def _leaf(tensor: _MaybeTensor) -> _MaybeTensor:
    return None if tensor is None else tensor.detach().requires_grad_(tensor.requires_grad)


def _backward_with(total: Tensor, tensors: Sequence[Tensor], leaves: Sequence[Tensor]) -> None:
    """Backward pass of the last chunk, together with the gradients that earlier chunks accumulated in the leaves."""
    collected = [
        (tensor, leaf.grad) for tensor, leaf in zip(tensors, leaves, strict=True) if leaf.grad is not None
    ]
    if total.requires_grad:
        collected.insert(0, (total, torch.ones_like(total)))
    if collected:
        roots, gradients = zip(*collected, strict=True)
        torch.autograd.backward(roots, gradients)


class _ChunkLosses(nn.Module):
    """The module that DDP wraps: computes a chunk's share of the loss."""

    def __init__(self, model: VideoCLIP) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        video: Tensor,
        labels: Tensor,
        shared: _Shared,
        class_ids: Tensor | None,
        targets: Tensor | None,
        counts: tuple[int, int] | None,
    ) -> LossOutput:
        """video: (B + A, T, 3, H, W) pixels or (B + A, T, D) features; the rest as `VideoCLIP.objective`."""
        cached = video.ndim == 3
        features = self.model.pool(video) if cached else self.model.encode_video(video, shared.prompts)
        frozen = mean_pool(video) if cached else self.model.encode_frozen_video(video, labels)
        return self.model.objective(
            features,
            labels,
            shared.classes,
            class_ids=class_ids,
            targets=targets,
            frozen_video=frozen,
            words=shared.words,
            word_ids=shared.word_ids,
            counts=counts,
        )


def take(batch: Batch | FeatureBatch, rows: Tensor) -> Batch | FeatureBatch:
    """The rows (N,) int64 of a batch, in that order."""
    ids = [batch.ids[i] for i in rows.tolist()]
    if isinstance(batch, FeatureBatch):
        return FeatureBatch(batch.features[rows], batch.labels[rows], ids)
    return Batch(batch.frames[rows], batch.labels[rows], ids)


def _mix(seed: int, step: int) -> int:
    """A seed for one update that only depends on the run's seed and the step, so that it is the same in all processes
    and in a resumed run.
    """
    return (seed * 1_000_003 + step) % 2**63


def _refuse_non_finite(loss: float, terms: dict[str, float], step: int) -> None:
    if math.isfinite(loss):
        return
    bad = [f"{name} = {value}" for name, value in terms.items() if not math.isfinite(value)]
    raise UserError(
        f"the loss of step {step + 1} is not finite: {', '.join(bad) or loss}",
        "start another run with a lower training.lr or training.precision=fp32; the last checkpoint of this run "
        "is from before that step",
    )
