"""The agreement check: compares a bundle's encoders with torch; a difference beyond the tolerance is an error.

Both encoders are run on real frames and texts, in several shapes, before a bundle exists.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ga2clip.choices import BundlePrecision, ScoringRule
from ga2clip.errors import UserError
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.runtime.calibration import Calibration
from ga2clip.runtime.calibration_card import CalibrationCard
from ga2clip.runtime.card import Agreement, OutputAgreement
from ga2clip.runtime.engine import Engine
from ga2clip.runtime.scoring import Scorer, normalise
from ga2clip.text import counted

TOLERANCES: dict[BundlePrecision, dict[str, float]] = {
    "fp32": {"min_cosine": 0.99999, "max_abs": 1e-4, "max_probability_error": 1e-4, "top1_but_ties": 1.0},
    "fp16": {"min_cosine": 0.999, "max_abs": 0.02, "top1_but_ties": 0.99},
    "int8": {"min_cosine": 0.99, "max_abs": 0.1, "top1_but_ties": 0.99},
}
"""The worst accepted values. max_abs is of L2-normalised features."""

_TIE = 0.02
"""Two classes tie if torch's probabilities differ by less; either may then come first."""

_PHRASES = (
    "running",
    "opening a very large umbrella in the rain while somebody watches from the other side of the street",
    'tai chi – 太極拳 & "quotes"',
)
_MOST_TEXTS = 64
_CLIPS_PER_RUN = 2


@dataclass(frozen=True)
class Reference:
    """Torch's float32 features of clips and texts, which the exported encoders are compared with.

    Attributes:
        clips: uint8 (N, T, S, S, 3).
        frame_features: float32 (N, T, D).
        video_features: float32 (N, D), what they are pooled to.
        single_frame: float32 (1, 1, D), of a clip that is the first frame of the first one.
        other_lengths: frame features float32 (1, t, D) of other numbers of frames t, with what they are pooled to,
            (1, D).
        ids: a row int64 (L,) per text, with prompt positions.
        text_features: float32 (M, D).
        bank: class features, float32 (C, D), L2-normalised.
        negatives: features of the negative prompts, float32 (K, D), L2-normalised.
        scale, rule, bias: as `Scorer` has them.
        pad: id that fills texts up.
        calibration: what makes probabilities of the scores; None: the model's own rule alone.
    """

    clips: np.ndarray
    frame_features: np.ndarray
    video_features: np.ndarray
    single_frame: np.ndarray
    other_lengths: list[tuple[np.ndarray, np.ndarray]]
    ids: list[np.ndarray]
    text_features: np.ndarray
    bank: np.ndarray
    negatives: np.ndarray
    scale: float
    rule: ScoringRule = "softmax"
    bias: float = 0.0
    pad: int = 0
    calibration: CalibrationCard | None = None

    def probabilities(self, video: np.ndarray, rule: ScoringRule | None = None) -> np.ndarray:
        """Probabilities (N, C) of video features (N, D) over the model's own classes, by its or the given rule."""
        labels = tuple(map(str, range(len(self.bank))))
        card = self.calibration
        return Scorer(
            labels,
            self.bank,
            self.negatives,
            self.scale,
            rule=rule or self.rule,
            bias=self.bias,
            calibration=None if card is None else Calibration.of(card, self.bank, self.bank),
        ).probabilities(video)


@torch.no_grad()
def frame_features(model: VideoCLIP, clips: np.ndarray) -> np.ndarray:
    """Torch's features of prepared clips: uint8 (N, T, S, S, 3) → float32 (N, T, D)."""
    pixels = (torch.from_numpy(model.preprocess.normalise(clip)) for clip in clips)
    return np.stack([_numpy(model.encode_frames(part[None]))[0] for part in pixels])


@torch.no_grad()
def video_features(model: VideoCLIP, frames: np.ndarray) -> np.ndarray:
    """What torch pools frame features to: (N, T, D) → float32 (N, D)."""
    return _numpy(model.pool(torch.from_numpy(frames)))


@torch.no_grad()
def reference(model: VideoCLIP, clips: np.ndarray, placeholder: int) -> Reference:
    """Run torch on prepared clips, uint8 (N, T, S, S, 3), on the model's class texts and on a few other ones.

    Raises UserError for a model whose features are not finite.
    """
    frames = frame_features(model, clips)
    own = [text for texts in model.texts_of(model.classes).values() for text in texts][:_MOST_TEXTS]
    others = model.class_texts.missing(
        phrase for phrase in _PHRASES if phrase not in model.classes and _fits(model, phrase)
    )
    prompts = model.prompts()
    tokens = [model.token_ids([text]) for text in own] + [model.class_tokens([name]) for name in others]
    features = [_numpy(model.encode_tokens(ids, prompts))[0] for ids in tokens]
    marks = [] if model.backbone.text.start_id is None else [model.backbone.text.start_id]
    start = np.array(marks + [placeholder] * model.text_tokens, np.int64)
    result = Reference(
        clips=clips,
        frame_features=frames,
        video_features=video_features(model, frames),
        single_frame=frame_features(model, clips[:1, :1]),
        other_lengths=[(part, video_features(model, part)) for part in _other_lengths(frames)],
        ids=[np.concatenate([start, ids[0].numpy()]) for ids in tokens],
        text_features=np.stack(features),
        bank=normalise(_numpy(model.encode_classes(model.classes))),
        negatives=normalise(_numpy(model.negatives)),
        scale=float(model.scale.detach()),
        rule=model.backbone.scoring,
        bias=model.backbone.bias,
        pad=model.backbone.text.pad_id,
    )
    for name, values in vars(result).items():
        if isinstance(values, np.ndarray) and not np.isfinite(values).all():
            raise UserError(
                f"the model gives {name} that are not finite", "the training diverged: train again"
            )
    _refuse_changed_names(model, others, features)
    return result


def _fits(model: VideoCLIP, name: str) -> bool:
    """Whether a class name fits the context, which some families have a short one of."""
    try:
        model.class_tokens([name])
    except UserError:
        return False
    return True


def _refuse_changed_names(model: VideoCLIP, names: Sequence[str], features: Sequence[np.ndarray]) -> None:
    """Refuse a part whose `class_features` changes names that the model was not tuned on.

    A bundle holds the features of the tuned classes; other names go through its text encoder alone.
    """
    others = features[len(features) - len(names) :]
    if names and not np.allclose(_numpy(model.encode_classes(names)), np.stack(others), rtol=1e-4, atol=1e-5):
        raise UserError(
            f"a part ({', '.join(model.parts)}) changes the features of names that it was not tuned on in "
            "`class_features`, which a bundle cannot do",
            "override `text_features` instead: it is traced into the text encoder",
        )


def _other_lengths(frames: np.ndarray) -> list[np.ndarray]:
    """The first clip with one frame, and with one frame more than it has."""
    return [frames[:1, :1], np.concatenate([frames[:1], frames[:1, -1:]], axis=1)]


def measure(
    video: Engine,
    text: Engine,
    pooling: Engine | None,
    expected: Reference,
    *,
    context: int,
    precision: BundlePrecision,
    static: bool,
) -> Agreement:
    """Run the engines on the inputs of `expected` and compare the outputs."""
    frames, videos = _encode_clips(video, pooling, expected.clips, 1 if static else _CLIPS_PER_RUN)
    outputs = {
        "frame_features": _compare(expected.frame_features, frames),
        "video_features": _compare(expected.video_features, videos),
        "text_features": _compare(expected.text_features, _encode_texts(text, expected.ids)),
        "text_features_padded": _compare(
            expected.text_features, _encode_padded(text, expected.ids, context, expected.pad)
        ),
    }
    if pooling is not None:
        parts, pooled = zip(*expected.other_lengths, strict=True)
        found = [_pooled({"frame_features": part}, pooling) for part in parts]
        outputs["other_lengths_pooled"] = _compare(np.concatenate(pooled), np.concatenate(found))
    if not static:
        alone = video.run({"frames": expected.clips[:1, :1]})["frame_features"]
        outputs["single_frame"] = _compare(expected.single_frame, alone)
    truth, onnx = expected.probabilities(expected.video_features), expected.probabilities(videos)
    return Agreement(
        outputs=outputs,
        top1=float((truth.argmax(axis=1) == onnx.argmax(axis=1)).mean()),
        top1_but_ties=_top1_but_ties(expected, videos),
        max_probability_error=float(np.abs(truth - onnx).max()),
        clips=len(expected.clips),
        texts=len(expected.ids),
        tolerance=TOLERANCES[precision],
    )


def video_agreement(
    video: Engine, pooling: Engine | None, expected: Reference, *, static: bool
) -> tuple[float, float]:
    """The smallest cosine of a video feature to torch's, and the fraction of clips with the same top-1 class."""
    videos = _encode_clips(video, pooling, expected.clips, 1 if static else _CLIPS_PER_RUN)[1]
    return _compare(expected.video_features, videos).min_cosine, _top1_but_ties(expected, videos)


def text_cosine(text: Engine, expected: Reference) -> float:
    """Smallest cosine of a text feature to torch's."""
    return _compare(expected.text_features, _encode_texts(text, expected.ids)).min_cosine


def shortfalls(agreement: Agreement) -> list[str]:
    """The values beyond the tolerance, one phrase each; empty if the bundle passes."""
    limits = agreement.tolerance
    phrases = []
    for name, output in agreement.outputs.items():
        if not output.min_cosine >= limits["min_cosine"]:
            phrases.append(f"{name}: cosine {output.min_cosine:.6f} < {limits['min_cosine']}")
        if not output.max_abs <= limits["max_abs"]:
            phrases.append(f"{name}: difference {output.max_abs:.2g} > {limits['max_abs']}")
    if agreement.top1_but_ties < limits["top1_but_ties"]:
        phrases.append(
            f"same top-1 (or a tie) on {agreement.top1_but_ties:.1%} of {counted(agreement.clips, 'clip')}, "
            f"not {limits['top1_but_ties']:.0%}"
        )
    if agreement.max_probability_error > limits.get("max_probability_error", 1.0):
        phrases.append(f"probabilities differ by {agreement.max_probability_error:.2g}")
    return phrases


def check(agreement: Agreement, precision: BundlePrecision) -> None:
    """The agreement check. Raises UserError that lists every value beyond the tolerance."""
    if problems := shortfalls(agreement):
        hint = "nothing was written; try --precision fp32" if precision != "fp32" else "nothing was written"
        raise UserError(f"the {precision} export does not agree with torch: {'; '.join(problems)}", hint)


def _top1_but_ties(expected: Reference, means: np.ndarray) -> float:
    """The fraction of clips whose best class by video features (N, D) is torch's, or a tie with it.

    Ties are told from the shares of a softmax, also for a sigmoid model: where all of its probabilities are small,
    every class would tie.
    """
    truth = expected.probabilities(expected.video_features, "softmax")
    onnx = expected.probabilities(means, "softmax")
    chosen = np.take_along_axis(truth, onnx.argmax(axis=1)[:, None], axis=1)[:, 0]
    return float((chosen >= truth.max(axis=1) - _TIE).mean())


def _encode_clips(
    video: Engine, pooling: Engine | None, clips: np.ndarray, group: int
) -> tuple[np.ndarray, np.ndarray]:
    parts = [video.run({"frames": clips[start : start + group]}) for start in range(0, len(clips), group)]
    return (
        np.concatenate([part["frame_features"] for part in parts]),
        np.concatenate([_pooled(part, pooling) for part in parts]),
    )


def _pooled(outputs: Mapping[str, np.ndarray], pooling: Engine | None) -> np.ndarray:
    """Video features (B, D) from the outputs of the video encoder, which gives them itself where nothing pools."""
    if pooling is None:
        return outputs["video_features"]
    return pooling.run({"frame_features": outputs["frame_features"]})["video_features"]


def _encode_texts(text: Engine, ids: Sequence[np.ndarray]) -> np.ndarray:
    """Features of the texts, each encoded alone and without padding."""
    return np.concatenate([text.run({"ids": row[None]})["features"] for row in ids])


def _encode_padded(text: Engine, ids: Sequence[np.ndarray], context: int, pad: int) -> np.ndarray:
    """Features of the texts, encoded in one batch and padded to the context."""
    padded = np.stack([np.pad(row, (0, context - len(row)), constant_values=pad) for row in ids])
    return text.run({"ids": padded})["features"]


def _compare(expected: np.ndarray, actual: np.ndarray) -> OutputAgreement:
    """Compares features (…, D) after L2 normalisation. Other shapes, NaN and infinity count as total disagreement."""
    if expected.shape != actual.shape or not np.isfinite(actual).all():
        return OutputAgreement(max_abs=2.0, min_cosine=-1.0)
    a, b = normalise(expected.astype(np.float64)), normalise(actual.astype(np.float64))
    return OutputAgreement(
        max_abs=float(np.abs(a - b).max()), min_cosine=float((a * b).sum(axis=-1, dtype=np.float64).min())
    )


def _numpy(features: Tensor) -> np.ndarray:
    return features.detach().float().cpu().numpy()
