"""Every loss term against a few lines of NumPy in float64."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from ga2clip.model.term import Features, active_terms
from ga2clip.registry import TERMS
from ga2clip.settings import Settings

SCALE = 20.0
B, A, C, K, W, D = 4, 3, 5, 2, 6, 8
Arrays = dict[str, np.ndarray]


def arrays() -> Arrays:
    rng = np.random.default_rng(0)
    shapes = {
        "video": (B, D),
        "classes": (C, D),
        "anchors": (A, D),
        "negatives": (K, D),
        "scenario": (C, D),
        "teacher": (C, D),
        "frozen_video": (B, D),
        "frozen_anchors": (A, D),
        "words": (W, D),
        "frozen_words": (W, D),
        "student_video": (B, D),
        "student_classes": (C, D),
    }
    return {name: rng.normal(size=shape) for name, shape in shapes.items()} | {
        "targets": np.array([0, 3, 1, 4]),
    }


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def logits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return SCALE * unit(a) @ unit(b).T


def log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def kl(frozen: np.ndarray, tuned: np.ndarray) -> np.ndarray:
    """KL(frozen ‖ tuned) of the softmax of each row of logits."""
    p, q = log_softmax(frozen), log_softmax(tuned)
    return (np.exp(p) * (p - q)).sum(axis=-1)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def cross_entropy(a: Arrays, shift: float = 0.0, smoothing: float = 0.0) -> float:
    log_p = log_softmax(logits(a["video"], a["classes"]) + shift)
    own = log_p[np.arange(B), a["targets"]]
    return float(-((1 - smoothing) * own + smoothing * log_p.mean(axis=-1)).mean())


def margin(a: Arrays) -> float:
    gap = logits(a["anchors"], a["classes"]).max(axis=1) - logits(a["anchors"], a["negatives"]).max(axis=1)
    return float(softplus(gap + SCALE * 0.1).mean())


def contrast(a: Arrays) -> float:
    scores = np.concatenate(
        [logits(a["anchors"], a["classes"]), logits(a["anchors"], a["negatives"])], axis=1
    )
    share = np.exp(log_softmax(scores))[:, C:].sum(axis=1)
    return float(-np.log(share).mean())


def preserve(a: Arrays) -> float:
    before = logits(a["frozen_anchors"], np.concatenate([a["scenario"], a["negatives"]]))
    after = logits(a["anchors"], np.concatenate([a["classes"], a["negatives"]]))
    return float(kl(before, after).mean())


def without_anchor_videos(a: Arrays) -> float:
    own = logits(a["video"], a["classes"])[np.arange(B), a["targets"]]
    against = logits(a["video"], a["negatives"]).max(axis=1)
    return float(softplus(against - own + SCALE * 0.1).mean())


def distance(a: Arrays, teacher: str) -> float:
    """1 − mean cosine, written as half the mean squared distance of unit vectors."""
    return float(0.5 * np.square(unit(a["classes"]) - unit(a[teacher])).sum(axis=1).mean())


def one_minus_cosine(a: Arrays, name: str, other: str) -> float:
    return float(1 - np.einsum("nd,nd->n", unit(a[name]), unit(a[other])).mean())


def froster(a: Arrays) -> float:
    video = one_minus_cosine(a, "student_video", "frozen_video")
    return video + one_minus_cosine(a, "student_classes", "teacher")


def l1(a: Arrays, name: str, other: str) -> float:
    return float(np.abs(unit(a[name]) - unit(a[other])).mean())


def logit_consistency(a: Arrays) -> float:
    frozen = logits(a["frozen_video"], a["teacher"])
    return float(kl(frozen, logits(a["video"], a["classes"])).sum() / (B * C))


def published(a: Arrays) -> float:
    """The published shift is one number for all classes of a video."""
    one = (unit(a["anchors"]) @ unit(a["negatives"][:1]).T).mean()
    return cross_entropy(a, shift=SCALE * one)


CASES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "cross-entropy": ("cross_entropy", {}, cross_entropy),
    "label smoothing": (
        "cross_entropy",
        {"loss": {"label_smoothing": 0.1}},
        lambda a: cross_entropy(a, smoothing=0.1),
    ),
    "margin": ("anchor", {"anchors": {"weight": 1.0}}, margin),
    "contrast": ("anchor", {"anchors": {"weight": 1.0, "loss": "contrast"}}, contrast),
    "preserve": ("anchor", {"anchors": {"weight": 1.0, "loss": "preserve"}}, preserve),
    "negatives alone": ("anchor", {"anchors": {"weight": 1.0, "per_step": 0}}, without_anchor_videos),
    "scenario": ("scenario", {}, lambda a: distance(a, "scenario")),
    "kgcoop": ("kgcoop", {}, lambda a: distance(a, "teacher")),
    "text consistency": ("text_consistency", {}, lambda a: l1(a, "classes", "teacher")),
    "image consistency": ("image_consistency", {}, lambda a: l1(a, "video", "frozen_video")),
    "outlier text": ("outlier_text", {}, lambda a: one_minus_cosine(a, "words", "frozen_words")),
    "froster": ("froster", {}, froster),
    "logit consistency": ("logit_consistency", {}, logit_consistency),
}


def features(a: Arrays) -> Features:
    tensors = {name: torch.from_numpy(value) for name, value in a.items()}
    scores = torch.from_numpy(logits(a["video"], a["classes"]))
    return Features(logits=scores, scale=torch.tensor(SCALE, dtype=torch.float64), **tensors)


@pytest.mark.parametrize(("term", "tree", "twin"), CASES.values(), ids=CASES)
def test_term_equals_its_numpy_twin(term: str, tree: dict[str, Any], twin: Any) -> None:
    a = arrays()
    ours = TERMS[term].compute(features(a), Settings().updated(tree, "test"))
    assert float(ours) == pytest.approx(twin(a), rel=1e-5)


def test_the_published_shift_is_one_number_for_all_classes() -> None:
    a = arrays() | {"negatives": arrays()["negatives"][:1]}
    settings = Settings().updated({"anchors": {"weight": 1.0, "loss": "published"}}, "test")
    ours = TERMS["cross_entropy"].compute(features(a), settings)
    assert float(ours) == pytest.approx(published(a), rel=1e-5)
    assert published(a) == pytest.approx(cross_entropy(a), rel=1e-9)


def test_every_registered_term_has_a_twin_here() -> None:
    assert set(TERMS.names()) == {term for term, _, _ in CASES.values()}


def test_contrast_sees_all_negatives() -> None:
    """A second negative that is as near as the first doubles the negatives' share."""
    a = arrays()
    twice = a | {"negatives": np.concatenate([a["negatives"], a["negatives"]])}
    settings = Settings().updated({"anchors": {"weight": 1.0, "loss": "contrast"}}, "test")
    once = float(TERMS["anchor"].compute(features(a), settings))
    doubled = float(TERMS["anchor"].compute(features(twice), settings))
    assert doubled == pytest.approx(contrast(twice), rel=1e-5)
    assert doubled < once


def test_weights_come_from_the_settings() -> None:
    tree = {"loss": {"kgcoop": 8.0, "scenario": 0.0}, "anchors": {"weight": 0.5}}
    weights = {t.name: w for t, w in active_terms(Settings().updated(tree, "test")).items()}
    assert weights == {"cross_entropy": 1.0, "anchor": 0.5, "kgcoop": 8.0}
    published_tree = {"anchors": {"weight": 0.5, "loss": "published"}}
    names = [t.name for t in active_terms(Settings().updated(published_tree, "test"))]
    assert names == ["cross_entropy"]


def test_softplus_of_the_twin() -> None:
    assert softplus(np.array([0.0, 50.0]))[0] == pytest.approx(math.log(2))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_sigmoid_loss_is_the_sum_over_classes_of_zhai_et_al(smoothing: float) -> None:
    """Eq. 1 of "Sigmoid Loss for Language Image Pre-Training", written out; soft labels weigh its two cases."""
    settings = Settings().updated({"loss": {"label_smoothing": smoothing}}, "test")
    logits, labels = torch.randn(3, 4, dtype=torch.float64), torch.tensor([2, 0, 3])
    expected = 0.0
    for video in range(3):
        for name in range(4):
            share = (1 - smoothing) * float(labels[video] == name) + smoothing / 4
            plus, minus = (float(torch.log(1 / (1 + torch.exp(-z * logits[video, name])))) for z in (1, -1))
            expected -= (share * plus + (1 - share) * minus) / 3
    soft = torch.nn.functional.one_hot(labels, 4).double()
    for targets in (labels, soft):
        empty = torch.zeros(0, 2)
        features = Features(
            video=empty,
            classes=empty,
            logits=logits,
            targets=targets,
            scale=torch.tensor(1.0),
            anchors=empty,
            negatives=empty,
            scoring="sigmoid",
        )
        assert float(TERMS["cross_entropy"].compute(features, settings)) == pytest.approx(expected)
