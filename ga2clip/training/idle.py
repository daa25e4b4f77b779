"""Settings that would do nothing: refused where a run would be mistaken for another, else named in a warning."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ga2clip.errors import UserError
from ga2clip.model.methods import METHODS, method_settings
from ga2clip.model.part import Tower
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.settings import Settings


def refuse_untrained(settings: Settings) -> None:
    """Raises UserError, before weights are loaded, where parts would stay as they start since nothing is trained."""
    method = settings.method
    zero_shot = settings.data.protocol == "zero-shot"
    if not zero_shot and method.tune != "none":
        return
    learns = {
        "method.text_length": method.text_length,
        "method.vision_length": method.vision_length,
        "method.linear_probe": method.linear_probe,
        "method.pooling": method.pooling != "mean",
        **{f"parts.{name}": True for name in settings.parts},
    }
    if zero_shot:  # else classes are learned in closed form, without a training
        learns |= {"method.teach": method.teach, "method.tune": method.tune in ("vision", "text", "both")}
    idle = [name for name, on in learns.items() if on]
    if not idle:
        return
    if zero_shot:
        raise UserError(
            f"zero-shot trains nothing: what '{method.name}' learns would stay as it starts ({', '.join(idle)})",
            "take --method zero-shot without these settings; or --protocol few-shot to train it",
        )
    raise UserError(
        f"method.tune=none trains nothing: {', '.join(idle)} would stay as it starts",
        "set method.tune=prompts, with epochs to train (--epochs 10); or leave it out",
    )


def moving_sides(model: VideoCLIP) -> frozenset[Tower]:
    """The sides whose features change during training: texts, and videos, be it by their pooling alone."""
    pools = model.pools and model.settings.method.tune != "none"
    sides: dict[Tower, bool] = {"text": model.trains("text"), "vision": model.trains("vision") or pools}
    return frozenset(side for side, moves in sides.items() if moves)


def refuse_idle_terms(model: VideoCLIP) -> None:
    """Raises UserError for a loss term that is the same number whatever happens, as nothing that it compares trains."""
    moving = moving_sides(model)
    for term in model.loss_terms:
        if term.name != "cross_entropy" and not term.compares & moving:
            setting = "anchors.weight" if term.name == "anchor" else f"loss.{term.name}"
            raise UserError(
                f"{setting} would do nothing: the loss term '{term.name}' compares "
                f"{' and '.join(_SHOWN[side] for side in sorted(term.compares))}, and no part of the method "
                f"'{model.settings.method.name}' changes those",
                f"set {setting}=0, or take a method that trains the {' or '.join(sorted(term.compares))} side",
            )


_SHOWN: dict[str, str] = {"text": "texts", "vision": "videos"}


class _Row(NamedTuple):
    settings: tuple[str, ...]
    needs: str
    met: Callable[[VideoCLIP], Any]


def _average(*kinds: str) -> Callable[[VideoCLIP], bool]:
    return lambda model: model.settings.average.kind in kinds


def _margin_counts(model: VideoCLIP) -> bool:
    anchors = model.settings.anchors
    return bool(anchors.weight) and (
        anchors.loss == "margin" or (not anchors.per_step and anchors.loss != "published")
    )


_TABLE = (
    _Row(("outliers.words", "outliers.per_step"), "loss.outlier_text", lambda m: "words" in m.needs),
    _Row(
        ("method.teacher_templates",),
        "a loss term that compares with the teacher",
        lambda m: m.needs & {"teacher", "words"},
    ),
    _Row(("average.kind",), "a method that trains", lambda m: m.trainable_parameters()),
    _Row(
        ("average.over",),
        "average.kind=gaussian, uniform or exponential",
        _average("gaussian", "uniform", "exponential"),
    ),
    _Row(("average.mean", "average.std"), "average.kind=gaussian", _average("gaussian")),
    _Row(("average.decay",), "average.kind=exponential", _average("exponential")),
    _Row(("method.interpolate_parts",), "parts that train", lambda m: m.parameter_groups()["parts"]),
    _Row(
        ("method.interpolate",),
        "method.tune=vision, text or both",
        lambda m: m.settings.method.tune in ("vision", "text", "both"),
    ),
    _Row(
        ("method.pooling_layers",),
        "method.pooling=transformer",
        lambda m: m.settings.method.pooling == "transformer",
    ),
    _Row(
        ("method.text_init", "method.text_depth", "method.deep_init"),
        "method.text_length above 0",
        lambda m: m.settings.method.text_length,
    ),
    _Row(("method.vision_depth",), "method.vision_length above 0", lambda m: m.settings.method.vision_length),
    _Row(
        ("method.coupling_dropout",),
        "method.coupling=mapping, residual or gated",
        lambda m: m.settings.method.coupling not in ("none", "concat"),
    ),
    _Row(
        ("method.inter_modal_free",), "method.inter_modal", lambda m: m.settings.method.inter_modal != "none"
    ),
    _Row(
        (
            "anchors.loss",
            "anchors.negatives",
            "anchors.negative_template",
            "anchors.per_step",
            "anchors.every",
        ),
        "anchors.weight above 0",
        lambda m: m.settings.anchors.weight,
    ),
    _Row(("anchors.margin",), "anchors.weight above 0 and anchors.loss=margin", _margin_counts),
    _Row(
        ("anchors.source",),
        "anchors.weight above 0 and anchor videos",
        lambda m: m.settings.anchors.needs_videos,
    ),
    _Row(
        ("training.momentum",),
        "training.optimiser=sgd",
        lambda m: m.settings.training.optimiser == "sgd",
    ),
)
"""Settings that need others. Not in it: what recipes set for every method, as they do hard prompts and rates."""


def idle_settings(model: VideoCLIP) -> Iterator[str]:
    """Yields, for each setting that was given and has no effect on this training, its name and what it needs.

    Given is what differs from the defaults and from what the method itself sets.
    """
    settings = model.settings
    name = settings.method.name
    own = Settings().updated(method_settings(name), "method") if name in METHODS else Settings()
    for row in _TABLE:
        given = [key for key in row.settings if _value(settings, key) != _value(own, key)]
        if given and not row.met(model):
            yield f"{', '.join(given)} (needs {row.needs})"
    if "student" in model.needs and (still := {"text", "vision"} - moving_sides(model)):
        yield f"the half of loss.froster for the {min(still)} side (needs parts that train there)"


def _value(settings: Settings, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(settings, section), name)
