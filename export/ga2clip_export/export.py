"""Exports a run as a bundle: folds, traces and converts the encoders, and checks their agreement with torch.

The bundle is written into a working folder beside its final place, and renamed only after the agreement check.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from ga2clip.choices import ExportPrecision
from ga2clip.data.protocols import Task
from ga2clip.errors import UserError, unknown_name
from ga2clip.evaluation.evaluate import log_other_classes
from ga2clip.evaluation.torch_model import TorchModel
from ga2clip.files import file_sha256
from ga2clip.folders import new_folder
from ga2clip.labels import check_class_names, fill
from ga2clip.model.frozen_text import frozen_text_features, trained_tokens, unknown_class_words
from ga2clip.model.load_backbone import default_weights, load_backbone
from ga2clip.model.methods import method_settings
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.run import BACKBONE, Run, load_run
from ga2clip.runtime.bundle import is_bundle, open_bundle
from ga2clip.runtime.calibration_card import CalibrationCard
from ga2clip.runtime.card import (
    CARD,
    PROBE,
    RELIABILITY,
    TEXT_BANK,
    TOKENIZER,
    BackboneCard,
    BundleCard,
    FileEntry,
    PreprocessCard,
    RejectCard,
    SamplingCard,
    ScoringCard,
    TextCard,
)
from ga2clip.runtime.doubts import warn_of_classes, warn_of_one
from ga2clip.runtime.learn import taught_by_training
from ga2clip.runtime.signature import sign, signing_key
from ga2clip.runtime.teach import write_examples
from ga2clip.runtime.teaching import Examples
from ga2clip.settings import Settings
from ga2clip.settings_reading import merge
from ga2clip.text import counted
from ga2clip.tokenizer_json import JsonTokenizer
from ga2clip_export import verify
from ga2clip_export.accuracy import measure_accuracy
from ga2clip_export.calibration import fit_calibration
from ga2clip_export.calibration_clips import OWN_CLIPS, anchors_of, calibration_clips, labelled
from ga2clip_export.encoders import Encoders, write_encoders
from ga2clip_export.threshold import fit_threshold
from ga2clip_export.triton import refuse_occupied, write_triton

_log = logging.getLogger(__name__)

_PACKAGES = ("ga2clip", "torch", "onnx", "onnxruntime-gpu", "onnxruntime", "open_clip_torch", "numpy")
_SMALL_TOWER = 20_000_000  # parameters; with fewer, measuring on many clips takes only seconds
_CLIPS_SMALL, _CLIPS_LARGE = 80, 24
_FITTED_SMALL, _FITTED_LARGE = 400, 120
_PROBE_FRAMES = 2


def export_run(
    run_path: str | Path,
    out: str | Path | None = None,
    *,
    precision: str = "fp32",
    opset: int | None = None,
    static: bool = False,
    clips: Sequence[str | Path] = (),
    root: str = "",
    verify_accuracy: bool = False,
    triton: str | Path | None = None,
    sign_with: str | Path | None = None,
) -> Path:
    """Export a run as a bundle, which predicts without torch. Nothing is written unless ONNX Runtime agrees with torch.

    Args:
        run_path: the folder that training wrote.
        out: the bundle's folder; None: `bundle` in the run's folder (`bundle-int8` and so on).
        precision: `fp32`, `fp16` (GPUs), `int8` (CPUs) or `auto`.
        opset: version of the ONNX operators; None: the best for the precision.
        static: fix the input shape to one clip with the run's number of frames, instead of any batch of clips.
        clips: calibration clips (video files) instead of the run's training clips.
        root: the dataset's folder, if it has moved.
        verify_accuracy: also measure the bundle's accuracy on the run's test clips.
        triton: also write an NVIDIA Triton model repository into this folder.
        sign_with: a PEM file with the Ed25519 private key to sign the bundle with.

    Returns:
        The bundle's folder.

    Raises:
        UserError: the run can't be read, a folder is not empty, the key is not valid, the bundle disagrees with
            torch, or test clips to verify the accuracy on were trained on.

    Example:
        >>> bundle = export("runs/ga2", precision="int8")
    """
    run = load_run(run_path)
    name = "bundle" if precision == "fp32" else f"bundle-{precision}"
    task = _task(run, root)
    if verify_accuracy and task is None:
        raise UserError(
            "there are no test clips to verify the accuracy on",
            "prepare the run's dataset, or give --root DIR",
        )
    if verify_accuracy and task is not None:
        run.refuse_trained([clip for part in task.evals for clip in part.clips])
        moved = run.settings.updated({"data": {"root": str(task.root)}}, "the dataset's place")
        log_other_classes(run, run.manifest(moved.data))
    model, examples = run.model_and_examples()
    return export_model(
        model,
        run.path / name if out is None else Path(out),
        task=task,
        precision=precision,
        opset=opset,
        static=static,
        clips=clips,
        trained=_history(run),
        examples=examples,
        verify_accuracy=verify_accuracy,
        triton=triton,
        sign_with=sign_with,
    )


def export_backbone(
    backbone: str,
    out: str | Path,
    *,
    classes: Sequence[str] | Mapping[str, Sequence[str]],
    pretrained: str | None = None,
    frames: int = 8,
    image_size: int = 0,
    **options: Any,
) -> Path:
    """Export a backbone as it is, zero-shot, as a bundle: without a dataset and without a run.

    Args:
        backbone: `tiny`, an open_clip architecture, or a name that goes with a weights file; empty: the config beside
            the file determines the architecture.
        out: the bundle's folder.
        classes: the class names that it ranks when none are given; a mapping also gives sentences for some of them.
        pretrained: a tag or a weights file; None: the built-in weights of `tiny`, else OpenAI's, or
            the only ones that open_clip has.
        frames: frames taken from a clip.
        image_size: pixels of a side of the frames, a multiple of the patch; 0: those it was trained with.
        options: as `export_model`.

    Raises:
        UserError: as `export_run`; class names that can't be told apart.
    """
    weights = pretrained or default_weights(backbone)
    tree = merge(
        method_settings("zero-shot"),
        {
            "backbone": {"name": backbone, "pretrained": weights, "image_size": image_size},
            "data": {"dataset": "", "frames": frames},
        },
    )
    names = check_class_names(list(classes) if isinstance(classes, Mapping) else classes)
    settings = Settings().updated(tree, "export")
    if isinstance(classes, Mapping):
        described = {name: tuple(texts) for name, texts in classes.items() if texts}
        settings = settings.model_copy(update={"descriptions": described})
    model = build_model(load_backbone(settings.backbone), settings, names)
    return export_model(model, Path(out), **options)


def export_model(
    model: VideoCLIP,
    out: Path,
    *,
    task: Task | None = None,
    precision: str = "fp32",
    opset: int | None = None,
    static: bool = False,
    clips: Sequence[str | Path] = (),
    trained: Mapping[str, str | int | float | bool] | None = None,
    examples: Examples | None = None,
    verify_accuracy: bool = False,
    triton: str | Path | None = None,
    sign_with: str | Path | None = None,
) -> Path:
    """Export a model in memory; arguments and errors as `export_run`.

    examples: training clips that its classes were learned from, see `Run.examples`.
    """
    kind = _known_precision(precision)
    _refuse_occupied(out)
    if triton is not None:
        if examples is not None:
            raise UserError(
                "a Triton client scores by cosines alone, and this run has learned from its training clips",
                "train with --set method.teach=false for Triton",
            )
        refuse_occupied(Path(triton))
    key = None if sign_with is None else signing_key(Path(sign_with))
    model = model.eval()
    count = _CLIPS_SMALL if _parameters(model) < _SMALL_TOWER else _CLIPS_LARGE
    files = [Path(clip) for clip in clips]
    samples, source = calibration_clips(task, files, model.preprocess, model.settings.data.frames, count)
    _log.info("measuring on %s: %s", counted(len(samples), "clip"), source)
    expected = verify.reference(model, samples, _placeholder(model))
    warn_of_classes(model.classes, expected.bank, unknown_class_words(model.backbone, model.classes))
    if len(model.classes) == 1:
        warn_of_one(model.classes[0])
    own = task if source == OWN_CLIPS else None
    threshold = _threshold(model, own, expected, count) if own else None
    expected = replace(expected, calibration=_calibration(model, own, expected) if own else None)
    with new_folder(out) as work:
        encoders = write_encoders(model, work, expected, precision=kind, opset=opset, static=static)
        _write_arrays(model, work, expected, static=static)
        (work / TOKENIZER).write_text(model.backbone.tokenizer.to_json(), encoding="utf-8")
        card = _card(model, work, expected, encoders, threshold, trained or {})
        (work / CARD).write_text(card.to_text(), encoding="utf-8")
        if examples is not None:
            taught = taught_by_training(TorchModel(model, str(out), exported=work), examples)
            card = write_examples(open_bundle(work), taught, work)
        open_bundle(work).verify()
        if verify_accuracy and task is not None:
            card = _with_accuracy(card, work, task)
            (work / CARD).write_text(card.to_text(), encoding="utf-8")
        if key is not None:
            sign(work, key)
    if triton is not None:
        write_triton(out, Path(triton))
    return out


def _with_accuracy(card: BundleCard, folder: Path, task: Task) -> BundleCard:
    """The card with what the bundle in `folder` reaches on test clips; the plot becomes one of its files."""
    measured = measure_accuracy(folder, task)
    measured.draw(folder / RELIABILITY)
    files = {RELIABILITY: _entry(folder / RELIABILITY)} if measured.curves else {}
    found = {"accuracy": measured.accuracy, "reliability": measured.reliability}
    return card.model_copy(update=found | {"files": card.files | files})


def _entry(path: Path) -> FileEntry:
    return FileEntry(sha256=file_sha256(path), bytes=path.stat().st_size)


def _known_precision(name: str) -> ExportPrecision:
    known = get_args(ExportPrecision)
    if name not in known:
        raise unknown_name("precision", name, known)
    return cast(ExportPrecision, name)


def _threshold(model: VideoCLIP, task: Task, expected: verify.Reference, count: int) -> RejectCard:
    settings = model.settings
    clips = anchors_of(task, settings.anchors.source, model.preprocess, settings.data.frames, count)
    anchors = None if clips is None else verify.video_features(model, verify.frame_features(model, clips))
    return fit_threshold(expected, anchors)


def _calibration(model: VideoCLIP, task: Task, expected: verify.Reference) -> CalibrationCard | None:
    settings = model.settings
    count = _FITTED_SMALL if _parameters(model) < _SMALL_TOWER else _FITTED_LARGE
    if tuple(task.classes) != tuple(model.classes) or expected.rule != "softmax":
        return None
    clips = labelled(
        task, model.preprocess, settings.data.frames, count, tuned=bool(model.trainable_parameters())
    )
    if clips is None:
        return None
    shown, labels, source = clips
    video = verify.video_features(model, verify.frame_features(model, shown))
    _log.info("fitting probabilities on %s", source)
    return fit_calibration(
        video,
        labels,
        expected.bank,
        untuned_texts(model),
        expected.negatives,
        scale=expected.scale,
        classes=model.classes,
        source=source,
    )


def untuned_texts(model: VideoCLIP) -> np.ndarray | None:
    """Features float32 (C, D) of the model's classes in its scenario template, by the backbone as it was before tuning.

    None where the run holds its backbone, so that the one before is not known.
    """
    settings = model.settings
    if settings.backbone.pretrained == BACKBONE:
        return None
    tuned = settings.method.tune in ("text", "both")  # else nothing has changed the model's own text tower
    backbone = load_backbone(settings.backbone) if tuned else model.backbone
    texts = [fill(settings.method.scenario_template, name) for name in model.classes]
    return frozen_text_features(backbone, texts).float().numpy()


def _write_arrays(model: VideoCLIP, folder: Path, expected: verify.Reference, *, static: bool) -> None:
    """Write the text bank, and frames and a text with torch's features, to check other providers with."""
    np.savez(
        folder / TEXT_BANK,
        classes=np.array(model.classes),
        features=expected.bank,
        negatives=expected.negatives,
    )
    frames = slice(None) if static or not model.independent_frames else slice(_PROBE_FRAMES)
    shown = expected.frame_features[:1, frames]
    probe = {
        "frames": expected.clips[:1, frames],
        "frame_features": shown,
        "ids": expected.ids[0][None],
        "text_features": expected.text_features[:1],
    }
    if model.pools:
        probe["video_features"] = verify.video_features(model, shown)
    np.savez(folder / PROBE, allow_pickle=False, **probe)


def _card(
    model: VideoCLIP,
    folder: Path,
    expected: verify.Reference,
    encoders: Encoders,
    threshold: RejectCard | None,
    trained: Mapping[str, str | int | float | bool],
) -> BundleCard:
    backbone, pixels, settings = model.backbone, model.preprocess, model.settings
    tokenizer = backbone.tokenizer
    files = sorted(path for path in folder.iterdir() if path.name != CARD)
    return BundleCard(
        method=settings.method.name,
        backbone=BackboneCard(
            name=backbone.name,
            pretrained=Path(settings.backbone.pretrained).name,  # without the folder, which is private
            licence=backbone.licence,
        ),
        licence=backbone.licence,
        precision=encoders.precision,
        classes=tuple(model.classes),
        preprocess=PreprocessCard(**asdict(pixels)),
        sampling=SamplingCard(frames=settings.data.frames),
        independent_frames=model.independent_frames,
        text=TextCard(
            template=model.class_template,
            tokenizer="json" if isinstance(tokenizer, JsonTokenizer) else "clip",
            cleaning=tokenizer.cleaning,
            pad=tokenizer.pad,
            blank_end=isinstance(tokenizer, JsonTokenizer) and tokenizer.blank_end,
            prompt_tokens=model.text_tokens,
            placeholder=_placeholder(model),
            context=backbone.context_length,
            trained=trained_tokens(backbone),
        ),
        pooling="graph" if model.pools else "mean",
        scoring=ScoringCard(rule=expected.rule, scale=expected.scale, bias=expected.bias),
        embedding=backbone.embed_dim,
        reject=threshold,
        calibration=expected.calibration,
        negatives=settings.anchors.negatives,
        descriptions=settings.descriptions,
        onnx=encoders.card,
        agreement=encoders.agreement,
        trained=dict(trained),
        versions=_versions(),
        files={path.name: _entry(path) for path in files},
    )


def _placeholder(model: VideoCLIP) -> int:
    """The token id at prompt positions: the letter X, as in the published code."""
    return model.backbone.tokenizer.encode("X")[0]


def _parameters(model: VideoCLIP) -> int:
    return sum(p.numel() for p in model.backbone.vision.parameters())


def _history(run: Run) -> dict[str, str | int | float | bool]:
    data = run.settings.data
    return {
        "dataset": data.dataset,
        "protocol": data.protocol,
        "shots": data.shots,
        "seed": run.settings.training.seed,
        "run": run.path.name,
    }


def _task(run: Run, root: str) -> Task | None:
    try:
        return run.task(root)
    except UserError as error:
        if root:
            raise
        _log.warning("the run's dataset is not here (%s)", error.message)
        return None


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _refuse_occupied(out: Path) -> None:
    if out.exists() and not is_bundle(out) and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists and is not a bundle", "choose another --out")
