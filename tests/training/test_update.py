"""One update is the same update, however it is cut: gradients are compared through AdamW's first moment."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ga2clip.compute.distributed import Group
from ga2clip.data.loader import Batch
from ga2clip.errors import UserError
from ga2clip.model.methods import METHODS
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.training.train import make_model
from ga2clip.training.update import FeatureBatch, Outcome, Updater, take

CPU = Group(torch.device("cpu"))
NAMES = (
    "waving a flag",
    "kicking a ball",
    "riding a bike",
    "rowing a boat",
    "jumping",
    "lifting a heavy barbell up",
)


def make_batch(labelled: int = 8, anchors: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (labelled + anchors, 2, 16, 16, 3), dtype=torch.uint8, generator=generator)
    labels = torch.tensor([i % len(NAMES) for i in range(labelled)] + [-1] * anchors)
    return Batch(frames, labels, [str(i) for i in range(labelled + anchors)])


def run_once(settings: Any, batch: Batch | FeatureBatch) -> tuple[dict[str, Tensor], Outcome]:
    """The gradients of one update and its numbers."""
    updater = Updater(make_model(settings, NAMES), CPU)
    updater.model.train()
    outcome = updater.run(batch, step=3, factor=1.0)
    moments = {name: updater.optimiser.state[p]["exp_avg"] for name, p in updater.parameters.items()}
    return moments, outcome


def run_moved(settings: Any, batch: Batch | FeatureBatch | None = None) -> tuple[dict[str, Tensor], Outcome]:
    """As `run_once` after parts that start at zero have moved: what they multiply has no gradient before."""
    model = make_model(settings, NAMES)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    updater = Updater(model.train(), CPU)
    batch = batch or make_batch(8, 2 if settings.anchors.needs_videos else 0)
    outcome = updater.run(batch, step=3, factor=1.0)
    return {name: updater.optimiser.state[p]["exp_avg"] for name, p in updater.parameters.items()}, outcome


def assert_cuts_are_the_same(
    whole: Any,
    cuts: dict[str, dict[str, Any]],
    run: Callable[[Any], tuple[dict[str, Tensor], Outcome]] = run_moved,
) -> None:
    """The update of the settings `whole` is the same with each of the `[training]` settings in `cuts`."""
    wanted = run(whole)
    for name, cut in cuts.items():
        assert_same(run(whole.updated({"training": cut}, "test")), wanted, name)


def assert_same(
    got: tuple[dict[str, Tensor], Outcome], wanted: tuple[dict[str, Tensor], Outcome], cut: str = ""
) -> None:
    for name, value in wanted[0].items():
        scale = value.abs().max().item()
        assert scale > 0, f"{name} got no gradient"
        torch.testing.assert_close(got[0][name], value, rtol=1e-3, atol=1e-4 * scale, msg=f"{name} {cut}")
    assert got[1].loss == pytest.approx(wanted[1].loss, rel=1e-5), cut
    assert got[1].terms == pytest.approx(wanted[1].terms, rel=1e-5), cut
    assert (got[1].correct, got[1].labelled, got[1].anchors) == (
        wanted[1].correct,
        wanted[1].labelled,
        wanted[1].anchors,
    )


COUPLED = {"method": {"coupling": "mapping", "hard_prompts": "a hard prompt about people"}}
COMPOSITIONS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in METHODS if name != "zero-shot"},
    "vilt coupled": ("vilt", COUPLED),
    "ivlp coupled residually": ("ivlp", {"method": {**COUPLED["method"], "coupling": "residual"}}),
    "both towers tuned": ("ga2", {"method": {"tune": "both"}}),
}
CUTS = {
    "micro-batches of 1": {"micro_batch": 1},
    "micro-batches of 3": {"micro_batch": 3},
    "class chunks of 4": {"class_chunk": 4},
    "class chunks of 1 and micro-batches of 4": {"class_chunk": 1, "micro_batch": 4},
}


@pytest.mark.parametrize("composition", COMPOSITIONS.values(), ids=COMPOSITIONS)
def test_an_update_is_the_same_however_it_is_cut(
    settings: Callable[..., Any], composition: tuple[str, dict[str, Any]]
) -> None:
    """Dropout is on where there is a mapping layer: all parts of an update see one draw of it."""
    method, sections = composition
    whole = settings(method, **sections)
    batch = make_batch(8, 2 if whole.anchors.needs_videos else 0)
    assert whole.method.coupling == "none" or whole.method.coupling_dropout == 0.5
    assert_cuts_are_the_same(whole, CUTS, lambda chosen: run_once(chosen, batch))


def test_class_chunks_of_a_class_subset(settings: Callable[..., Any]) -> None:
    subset = {"classes_per_step": 4}
    whole = run_once(settings("ga2", training=subset), make_batch(3, 2))
    assert_same(run_once(settings("ga2", training={**subset, "class_chunk": 3}), make_batch(3, 2)), whole)


def test_prompts_are_computed_once_per_update(settings: Callable[..., Any]) -> None:
    training = {"micro_batch": 2, "class_chunk": 2}
    updater = Updater(make_model(settings("ga2", training=training), NAMES), CPU)
    calls = []
    updater.model.parts["coupling"].mapping.register_forward_hook(lambda *_: calls.append(1))
    updater.run(make_batch(), step=0, factor=1.0)
    assert len(calls) == 1


def test_the_mapping_layer_has_dropout_in_training(settings: Callable[..., Any]) -> None:
    with_dropout = run_once(settings("ga2"), make_batch())
    without = run_once(settings("ga2", method={"coupling_dropout": 0.0}), make_batch())
    assert with_dropout[1].loss != pytest.approx(without[1].loss, rel=1e-6)


def test_recomputed_blocks_change_nothing(settings: Callable[..., Any]) -> None:
    whole = run_once(settings("ga2"), make_batch())
    assert_same(run_once(settings("ga2", training={"checkpoint_blocks": True}), make_batch()), whole)


def test_a_class_subset_always_has_the_classes_of_the_batch(settings: Callable[..., Any]) -> None:
    updater = Updater(make_model(settings("ga2", training={"classes_per_step": 3}), NAMES), CPU)
    seen = set()
    for step in range(20):
        chosen = updater._choose_classes(torch.tensor([4, 1, 1, -1]), step)
        assert chosen is not None
        assert len(chosen) == 3
        assert {1, 4} <= set(chosen.tolist())
        assert chosen.tolist() == sorted(chosen.tolist())
        seen |= set(chosen.tolist())
    assert seen == set(range(len(NAMES)))


def test_a_subset_as_large_as_the_classes_changes_nothing(settings: Callable[..., Any]) -> None:
    whole = run_once(settings("ga2"), make_batch())
    assert_same(run_once(settings("ga2", training={"classes_per_step": len(NAMES)}), make_batch()), whole)


def test_a_smaller_subset_learns_from_fewer_classes(settings: Callable[..., Any]) -> None:
    batch = make_batch(2, 1)
    _, all_classes = run_once(settings("ga2"), batch)
    _, fewer = run_once(settings("ga2", training={"classes_per_step": 2}), batch)
    assert fewer.terms["cross_entropy"] < all_classes.terms["cross_entropy"]


@pytest.mark.parametrize("method", ["kgcoop", "linear-probe", "coop"])
def test_cached_features_give_the_update_of_the_pixels(settings: Callable[..., Any], method: str) -> None:
    batch = make_batch(8, 0)
    model = make_model(settings(method), NAMES)
    with torch.no_grad():
        features = model.encode_video(batch.clip_tensor(model.preprocess, "cpu"))
    cached = FeatureBatch(features[:, None], batch.labels, batch.ids)
    assert_same(run_once(settings(method), cached), run_once(settings(method), batch))


def test_a_frozen_text_tower_is_encoded_once(
    settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    updater = Updater(make_model(settings("vpt"), NAMES), CPU)
    calls = []
    original = VideoCLIP.encode_classes
    monkeypatch.setattr(
        VideoCLIP, "encode_classes", lambda self, *args, **kw: calls.append(1) or original(self, *args, **kw)
    )
    for step in range(3):
        updater.run(make_batch(8, 0), step, factor=1.0)
    assert len(calls) == 1


def test_a_long_gradient_is_clipped_and_a_short_one_is_not(settings: Callable[..., Any]) -> None:
    """AdamW's first moment is a tenth of the gradient that it was given."""

    def moments(limit: float) -> tuple[Tensor, float]:
        found, outcome = run_once(settings("ivlp", training={"clip_grad": limit}), make_batch(8, 0))
        return torch.cat([value.flatten() for value in found.values()]), outcome.grad_norm

    whole, norm = moments(0.0)
    assert 0.1 * norm == pytest.approx(whole.norm().item(), rel=1e-4)
    clipped, same_norm = moments(norm / 2)
    assert same_norm == norm
    torch.testing.assert_close(clipped, whole / 2, rtol=1e-4, atol=1e-9)
    assert torch.equal(moments(norm * 2)[0], whole)


def test_a_rate_of_zero_moves_nothing_and_of_one_moves_by_the_rate(settings: Callable[..., Any]) -> None:
    """AdamW's first step is the rate itself, but for decay: the factor of the schedule reaches the weights."""
    updater = Updater(make_model(settings("coop", training={"lr": 0.01, "weight_decay": 0.0}), NAMES), CPU)
    (prompt,) = updater.parameters.values()
    before = prompt.detach().clone()
    updater.run(make_batch(8, 0), step=0, factor=0.0)
    assert torch.equal(prompt, before)
    updater = Updater(make_model(settings("coop", training={"lr": 0.01, "weight_decay": 0.0}), NAMES), CPU)
    (prompt,) = updater.parameters.values()
    updater.run(make_batch(8, 0), step=0, factor=0.5)
    assert (prompt.detach() - before).abs().median().item() == pytest.approx(0.005, rel=1e-2)


@pytest.mark.parametrize("loss", ["margin", "contrast", "preserve"])
def test_anchors_in_every_third_update_have_the_same_mean_gradient(
    settings: Callable[..., Any], loss: str
) -> None:
    """The gradients of an update with anchors and of two without, averaged: that of an update of every one."""
    common = {"training": {"clip_grad": 0.0}}
    rare = settings("ga2", anchors={"loss": loss, "every": 3}, **common)
    batch, without = make_batch(4, 2), make_batch(4, 2)
    without = take(without, torch.arange(4))
    wanted, outcome = run_once(settings("ga2", anchors={"loss": loss}, **common), batch)
    (with_anchors, first), (alone, second) = run_once(rare, batch), run_once(rare, without)
    for name, value in wanted.items():
        mean = (with_anchors[name] + 2 * alone[name]) / 3
        torch.testing.assert_close(mean, value, rtol=1e-4, atol=1e-5 * value.abs().max().item(), msg=name)
    assert (first.loss + 2 * second.loss) / 3 == pytest.approx(outcome.loss, rel=1e-5)
    assert first.terms["anchor"] == pytest.approx(3 * outcome.terms["anchor"], rel=1e-5)
    assert (second.terms["anchor"], second.anchors) == (0, 0)
    cut = settings("ga2", anchors={"loss": loss, "every": 3}, training={"clip_grad": 0.0, "micro_batch": 1})
    assert_same(run_once(cut, batch), (with_anchors, first))


@pytest.mark.parametrize(
    ("anchors", "why"),
    [
        ({"loss": "published", "negatives": ["else"]}, "the published anchor loss"),
        ({"per_step": 0}, "an anchor term without videos"),
    ],
)
def test_terms_of_every_update_are_not_thinned(
    settings: Callable[..., Any], anchors: dict[str, Any], why: str
) -> None:
    with pytest.raises(UserError, match=f"anchors.every is 2, but {why} belongs to every update"):
        make_model(settings("ga2", anchors={**anchors, "every": 2}), NAMES)
    make_model(settings("ga2", anchors={**anchors, "every": 2, "weight": 0.0}), NAMES)


@pytest.mark.parametrize("wanted", [True, False])
def test_deterministic_mode_is_switched(settings: Callable[..., Any], wanted: bool) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    try:
        make_model(settings("ivlp", training={"deterministic": wanted}), NAMES)
        assert torch.are_deterministic_algorithms_enabled() is wanted
    finally:
        torch.use_deterministic_algorithms(before, warn_only=True)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on CPUs")
def test_compiled_towers_give_the_same_update(settings: Callable[..., Any]) -> None:
    whole = run_once(settings("ga2"), make_batch())
    assert_same(run_once(settings("ga2", training={"compile": True}), make_batch()), whole)


def test_anchor_videos_that_can_change_nothing_are_left_out(settings: Callable[..., Any]) -> None:
    """The published loss adds one number to all logits of a video: with its anchor videos or without, the update
    is the same but for rounding."""
    published = {"anchors": {"loss": "published", "negatives": ["else"]}}
    assert not settings("ga2", **published).anchors.needs_videos
    assert settings("ga2").anchors.needs_videos
    assert not settings("ga2", anchors={"per_step": 0}).anchors.needs_videos
    with_videos = run_once(settings("ga2", **published), make_batch(8, 2))
    without = run_once(settings("ga2", **published), make_batch(8, 0))
    assert without[1].anchors == 0
    assert without[1].loss == pytest.approx(with_videos[1].loss, rel=1e-5)
    for name, value in without[0].items():
        torch.testing.assert_close(
            with_videos[0][name], value, rtol=1e-3, atol=1e-4 * value.abs().max().item()
        )


def test_mixed_clips_have_a_gradient_and_another_loss(settings: Callable[..., Any]) -> None:
    plain = run_once(settings("ga2"), make_batch())
    mixed = run_once(settings("ga2", augment={"mixup": 1.0}), make_batch())
    assert mixed[1].loss != pytest.approx(plain[1].loss, rel=1e-4)


def test_a_loss_that_is_not_finite_names_step_and_term_and_changes_nothing(
    settings: Callable[..., Any],
) -> None:
    updater = Updater(make_model(settings("ga2"), NAMES), CPU)
    updater.model.negatives.fill_(float("nan"))
    before = {name: p.detach().clone() for name, p in updater.parameters.items()}
    with pytest.raises(UserError, match="step 8 is not finite: anchor = nan"):
        updater.run(make_batch(), step=7, factor=1.0)
    assert all(torch.equal(before[name], p) for name, p in updater.parameters.items())


def test_a_gradient_that_is_not_finite_is_refused(settings: Callable[..., Any]) -> None:
    updater = Updater(make_model(settings("ivlp"), NAMES), CPU)
    first = next(iter(updater.parameters.values()))
    first.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(UserError, match="gradient of step 1"):
        updater.run(make_batch(), step=0, factor=1.0)


def test_bf16_is_close_to_fp32(settings: Callable[..., Any]) -> None:
    plain = run_once(settings("ivlp"), make_batch(8, 0))
    rough = run_once(settings("ivlp", training={"precision": "bf16"}), make_batch(8, 0))
    assert rough[1].loss == pytest.approx(plain[1].loss, rel=0.05)
    assert rough[1].loss != plain[1].loss
    for name, value in plain[0].items():
        assert torch.cosine_similarity(rough[0][name].flatten(), value.flatten(), dim=0) > 0.98
