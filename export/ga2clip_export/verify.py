"""Agreement of a bundle's engines with torch; beyond the tolerance it is an error.

An export exists only after both encoders were run on real frames and texts, in several
shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ga2clip.choices import BundlePrecision
from ga2clip.errors import UserError
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.runtime.card import Agreement, OutputAgreement
from ga2clip.runtime.engine import Engine
from ga2clip.runtime.scoring import Scorer, normalise

TOLERANCES: dict[BundlePrecision, dict[str, float]] = {
    "fp32": {"min_cosine": 0.99999, "max_abs": 1e-4, "max_probability_error": 1e-4, "top1_but_ties": 1.0},
    "fp16": {"min_cosine": 0.999, "max_abs": 0.02, "top1_but_ties": 0.99},
    "int8": {"min_cosine": 0.99, "max_abs": 0.1, "top1_but_ties": 0.99},
}
"""Worst allowed values. max_abs is of L2-normalised features."""

_TIE = 0.02
"""Classes whose probabilities are nearer than this in torch are a tie: either may come first."""

_PHRASES = (
    "running",
    "opening a very large umbrella in the rain while somebody watches from the other side of the street",
    'tai chi – 太極拳 & "quotes"',
)
_MOST_TEXTS = 64
_CLIPS_PER_RUN = 2


@dataclass(frozen=True)
class Reference:
    """What torch computes, in float32, for a model's clips and texts.

    clips: uint8 (N, T, S, S, 3). frame_features: (N, T, D). ids: one row (L,) int64 per text, with prompt
    positions. text_features: (M, D). bank, negatives: L2-normalised (C, D), (K, D).
    """

    clips: np.ndarray
    frame_features: np.ndarray
    ids: list[np.ndarray]
    text_features: np.ndarray
    bank: np.ndarray
    negatives: np.ndarray
    scale: float

    @property
    def video_features(self) -> np.ndarray:
        """(N, D): means over frames."""
        return self.frame_features.mean(axis=1)

    def probabilities(self, video: np.ndarray) -> np.ndarray:
        """Video features (N, D) → probabilities (N, C) over the model's own classes."""
        labels = tuple(map(str, range(len(self.bank))))
        return Scorer(labels, self.bank, self.negatives, self.scale).probabilities(video)


@torch.no_grad()
def frame_features(model: VideoCLIP, clips: np.ndarray) -> np.ndarray:
    """Torch's features of prepared clips: uint8 (N, T, S, S, 3) → float32 (N, T, D)."""
    pixels = (torch.from_numpy(model.preprocess.normalise(clip)) for clip in clips)
    return np.stack([_numpy(model.encode_frames(part)) for part in pixels])


@torch.no_grad()
def reference(model: VideoCLIP, clips: np.ndarray, placeholder: int) -> Reference:
    """Run torch on prepared clips, uint8 (N, T, S, S, 3), and on the model's class names and a few others.

    Errors: UserError for a model whose features are not finite.
    """
    frames = frame_features(model, clips)
    names = [*model.classes[:_MOST_TEXTS], *(phrase for phrase in _PHRASES if phrase not in model.classes)]
    prompts = model.prompts()
    tokens = [model.class_tokens([name]) for name in names]
    features = [_numpy(model.encode_tokens(ids, prompts))[0] for ids in tokens]
    start = np.array([model.backbone.text.start_id] + [placeholder] * model.text_tokens, np.int64)
    made = Reference(
        clips=clips,
        frame_features=frames,
        ids=[np.concatenate([start, ids[0].numpy()]) for ids in tokens],
        text_features=np.stack(features),
        bank=normalise(_numpy(model.encode_classes(model.classes))),
        negatives=normalise(_numpy(model.negatives)),
        scale=float(model.scale.detach()),
    )
    for name, values in vars(made).items():
        if isinstance(values, np.ndarray) and not np.isfinite(values).all():
            raise UserError(
                f"the model gives {name} that are not finite", "the training diverged: train again"
            )
    return made


def measure(
    video: Engine,
    text: Engine,
    expected: Reference,
    *,
    context: int,
    precision: BundlePrecision,
    static: bool,
) -> Agreement:
    """Run both engines on what torch was run on and compare."""
    frames, means = _encode_clips(video, expected.clips, 1 if static else _CLIPS_PER_RUN)
    outputs = {
        "frame_features": _compare(expected.frame_features, frames),
        "video_features": _compare(expected.video_features, means),
        "text_features": _compare(expected.text_features, _encode_texts(text, expected.ids)),
        "text_features_padded": _compare(expected.text_features, _encode_padded(text, expected.ids, context)),
    }
    if not static:
        alone = video.run({"frames": expected.clips[:1, :1]})["frame_features"]
        outputs["single_frame"] = _compare(expected.frame_features[:1, :1], alone)
    truth, found = expected.probabilities(expected.video_features), expected.probabilities(means)
    return Agreement(
        outputs=outputs,
        top1=float((truth.argmax(axis=1) == found.argmax(axis=1)).mean()),
        top1_but_ties=_top1_but_ties(truth, found),
        max_probability_error=float(np.abs(truth - found).max()),
        clips=len(expected.clips),
        texts=len(expected.ids),
        tolerance=TOLERANCES[precision],
    )


def video_agreement(video: Engine, expected: Reference, *, static: bool) -> tuple[float, float]:
    """Smallest cosine of a video feature to torch's, and the share of clips with the same best class."""
    means = _encode_clips(video, expected.clips, 1 if static else _CLIPS_PER_RUN)[1]
    truth, found = expected.probabilities(expected.video_features), expected.probabilities(means)
    return _compare(expected.video_features, means).min_cosine, _top1_but_ties(truth, found)


def text_cosine(text: Engine, expected: Reference) -> float:
    """Smallest cosine of a text feature to torch's."""
    return _compare(expected.text_features, _encode_texts(text, expected.ids)).min_cosine


def shortfalls(agreement: Agreement) -> list[str]:
    """What lies beyond the tolerance, one phrase each; empty when the export may be released."""
    limits = agreement.tolerance
    found = []
    for name, output in agreement.outputs.items():
        if not output.min_cosine >= limits["min_cosine"]:
            found.append(f"{name}: cosine {output.min_cosine:.6f} < {limits['min_cosine']}")
        if not output.max_abs <= limits["max_abs"]:
            found.append(f"{name}: difference {output.max_abs:.2g} > {limits['max_abs']}")
    if agreement.top1_but_ties < limits["top1_but_ties"]:
        found.append(
            f"same top-1 on {agreement.top1_but_ties:.1%} of {agreement.clips} clips but ties, "
            f"not {limits['top1_but_ties']:.0%}"
        )
    if agreement.max_probability_error > limits.get("max_probability_error", 1.0):
        found.append(f"probabilities differ by {agreement.max_probability_error:.2g}")
    return found


def check(agreement: Agreement, precision: BundlePrecision) -> None:
    """The agreement check. Errors: UserError naming every number beyond the tolerance."""
    if problems := shortfalls(agreement):
        hint = "nothing was written; try --precision fp32" if precision != "fp32" else "nothing was written"
        raise UserError(f"the {precision} export does not agree with torch: {'; '.join(problems)}", hint)


def _top1_but_ties(truth: np.ndarray, found: np.ndarray) -> float:
    """Share of rows (N, C) whose best found class is, in truth, as probable as the best one or nearly so."""
    chosen = np.take_along_axis(truth, found.argmax(axis=1)[:, None], axis=1)[:, 0]
    return float((chosen >= truth.max(axis=1) - _TIE).mean())


def _encode_clips(video: Engine, clips: np.ndarray, group: int) -> tuple[np.ndarray, np.ndarray]:
    parts = [video.run({"frames": clips[start : start + group]}) for start in range(0, len(clips), group)]
    return (
        np.concatenate([part["frame_features"] for part in parts]),
        np.concatenate([part["video_features"] for part in parts]),
    )


def _encode_texts(text: Engine, ids: Sequence[np.ndarray]) -> np.ndarray:
    """Each text at its own length."""
    return np.concatenate([text.run({"ids": row[None]})["features"] for row in ids])


def _encode_padded(text: Engine, ids: Sequence[np.ndarray], context: int) -> np.ndarray:
    """All texts in one batch, padded to the context."""
    padded = np.stack([np.pad(row, (0, context - len(row))) for row in ids])
    return text.run({"ids": padded})["features"]


def _compare(expected: np.ndarray, found: np.ndarray) -> OutputAgreement:
    """Features of equal shape (…, D), compared at length 1. Numbers that are not finite count as total
    disagreement.
    """
    if expected.shape != found.shape or not np.isfinite(found).all():
        return OutputAgreement(max_abs=2.0, min_cosine=-1.0)
    a, b = normalise(expected.astype(np.float64)), normalise(found.astype(np.float64))
    return OutputAgreement(
        max_abs=float(np.abs(a - b).max()), min_cosine=float((a * b).sum(axis=-1, dtype=np.float64).min())
    )


def _numpy(features: Tensor) -> np.ndarray:
    return features.detach().float().cpu().numpy()
