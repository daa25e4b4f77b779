"""A bundle's card as a short readable text (`ga2clip info`)."""

from collections import Counter

from ga2clip.choices import ResizeMode
from ga2clip.runtime.calibration_card import ReliabilityCard
from ga2clip.runtime.card import POOLING, BundleCard, TaughtCard
from ga2clip.runtime.taught_calibration import lacking_for_threshold
from ga2clip.text import counted, printable

_CLASSES_SHOWN = 12
_RESIZING: dict[ResizeMode, str] = {
    "shortest": "short side resized, centre crop",
    "squash": "squashed",
    "longest": "long side resized, padded",
}


def describe(card: BundleCard, where: str) -> str:
    """Model, classes, preprocessing, measured agreement and accuracy, and licence; some fifteen lines."""
    videos = card.agreement.outputs["video_features"]
    size = sum(entry.bytes for entry in card.files.values()) / 2**20
    shown = ", ".join(card.classes[:_CLASSES_SHOWN])
    more = f", … {len(card.classes) - _CLASSES_SHOWN} more" if len(card.classes) > _CLASSES_SHOWN else ""
    trained = ", ".join(f"{key} {value}" for key, value in card.trained.items()) or "not said"
    rows: dict[str, str] = {
        "bundle": f"{where} (schema {card.schema_version}, {size:.1f} MiB)",
        "method": f"{card.method} on {card.backbone.name} ({card.backbone.pretrained})",
        "licence": card.licence,
        "trained": trained,
        "classes": f"{len(card.classes)}: {shown}{more}",
        "class text": f"{card.text.template!r} behind {card.text.prompt_tokens} prompt positions, "
        f"context {card.text.context}{_descriptions(card)}{_words(card)}",
        "frames": f"{card.sampling.frames} per clip, {card.preprocess.size}×{card.preprocess.size}, "
        f"{_RESIZING[card.preprocess.resize_mode]}, {card.preprocess.interpolation}"
        + ("" if card.independent_frames else "; frames are encoded with their neighbours"),
        "pooling": "mean of the frames" if card.pooling == "mean" else f"{POOLING}, which sees their order",
        "precision": f"{card.precision}, opset {card.onnx.opset}"
        + (f", {len(card.onnx.float_layers)} layers in float32" if card.onnx.float_layers else ""),
        "agreement": f"cosine ≥ {videos.min_cosine:.6f}, same top-1 on {100 * card.agreement.top1:.1f} % of "
        f"{counted(card.agreement.clips, 'clip')}, probabilities within {card.agreement.max_probability_error:.1g}",
        "accuracy": ", ".join(f"{name} {100 * value:.1f} %" for name, value in card.accuracy.items())
        or "not measured (export --verify-accuracy)",
        "scoring": "softmax over the classes"
        if card.scoring.rule == "softmax"
        else "sigmoid, a probability for each class alone: they need not sum to 1",
        "reliable": "; ".join(_reliability(name, found) for name, found in card.reliability.items())
        or "not measured (export --verify-accuracy)",
        "calibrated": _calibration(card),
        "reject": _reject(card),
        **({"taught": _taught(card.taught)} if card.taught else {}),
        "made with": ", ".join(f"{name} {version}" for name, version in card.versions.items()),
    }
    return "\n".join(f"{key:<11}{printable(value)}" for key, value in rows.items())


def _descriptions(card: BundleCard) -> str:
    sentences, classes = (sum(map(kind, card.descriptions.values())) for kind in (len, bool))
    return f"; {classes} classes are described by {sentences} sentences" if classes else ""


def _taught(taught: TaughtCard) -> str:
    words = {"class": "", "not": "not ", "none": ""}
    counts = Counter(words[example.kind] + example.label for example in taught.examples)
    new = f"; new: {', '.join(taught.added)}" if taught.added else ""
    shown = [f"{name} ({count})" for name, count in list(counts.items())[:_CLASSES_SHOWN]]
    more = f", … {len(counts) - _CLASSES_SHOWN} more" if len(counts) > _CLASSES_SHOWN else ""
    trained = sum(example.trained for example in taught.examples)
    clips = counted(len(taught.examples), "clip") + (f", {trained} of its training," if trained else "")
    chosen = f"share {taught.share:.2f}, probe {taught.probe:.2f}"
    return f"{clips} by {taught.rule} ({chosen}): {', '.join(shown)}{more}{new}"


def _reliability(name: str, found: ReliabilityCard) -> str:
    low, high = found.ece_interval
    said = f"{name} ECE {100 * found.ece:.1f} % ({100 * low:.1f} – {100 * high:.1f}), "
    said += f"before {100 * found.ece_before:.1f} %, Brier {found.brier:.3f}, before {found.brier_before:.3f}"
    if found.covered is None:
        return said
    return said + f", sets of 90 % hold {100 * found.covered:.1f} % with {found.set_size:.1f} classes"


def _calibration(card: BundleCard) -> str:
    if card.taught is not None:
        return _by_examples(card.taught)
    rule = card.calibration
    if rule is None:
        return "no: probabilities are as the model gives them"
    new = "not fitted for new names" if rule.new is None else f"new names {rule.new.temperature:.2f}, a guess"
    negatives = "" if rule.without_negatives else "; negative prompts take part"
    sets = "" if rule.makes_sets else "; without --coverage, as an earlier version fitted it: export it again"
    return f"temperature {rule.tuned.temperature:.2f}, {new}{negatives} ({rule.fitted_on}){sets}"


def _by_examples(taught: TaughtCard) -> str:
    rule = taught.calibration
    if rule is None:
        return f"scale {taught.scale:.1f}; too few examples for --coverage and --multi-label"
    found = rule.tuned
    return (
        f"scale {taught.scale:.1f}: ECE {100 * found.ece:.1f} %, before {100 * found.ece_before:.1f} %, "
        f"sets of 90 % have {found.set_size:.1f} classes ({rule.fitted_on})"
    )


def _words(card: BundleCard) -> str:
    known = card.text.trained
    return f"; the backbone knows {len(known)} tokens, other words mean nothing to it" if known else ""


def _reject(card: BundleCard) -> str:
    rule = card.reject
    if card.taught is not None:
        kinds = [example.kind for example in card.taught.examples]
        guess = f"a guess until you teach {lacking_for_threshold(kinds)}"
        if card.taught.reject is None and "none" in kinds:
            return f"where its examples fit better than any class, {guess}"
        if card.taught.reject is None and rule is not None:
            return f"below the threshold {rule.threshold:.4f} of before it was taught, {guess}"
        rule = card.taught.reject
    if rule is None:
        return "no threshold"
    share = f"{100 * (1 - rule.kept):.0f} % of class clips"
    share += "" if rule.rejected is None else f", {100 * rule.rejected:.0f} % of clips of none of them"
    return f"below the threshold {rule.threshold:.4f}: {share} ({rule.fitted_on})"
