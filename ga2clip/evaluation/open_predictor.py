"""`open_predictor`: opens a bundle, a run, a backbone or a model in memory. Imports torch only where it is needed.

1. A folder with bundle.json is a bundle: ONNX Runtime, no torch.
2. A folder with settings.toml is a run: torch.
3. Anything else is the name of a backbone, `NAME`, `NAME:TAG|FILE` or `NAME/TAG:FILE`: zero-shot, torch.
4. None: the newest bundle in the working folder, up to three levels deep; without one, the built-in bundle of `tiny`.
"""

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from ga2clip.choices import check_device, is_gpu
from ga2clip.descriptions import described_classes
from ga2clip.errors import UserError
from ga2clip.folders import SETTINGS_FILE
from ga2clip.runtime import Predictor, is_bundle
from ga2clip.runtime.bundle_model import BundleModel
from ga2clip.runtime.card import CARD

if TYPE_CHECKING:
    from ga2clip.model.video_clip import VideoCLIP

_log = logging.getLogger(__name__)
# The file behind the colon may lie anywhere; without one, a slash makes a path.
_BACKBONE = re.compile(r"[^/:]+|[^/:]+:.+|[^/:.~][^/:]*/[^/:]+:.+", re.DOTALL)
_LEVELS = ("*", "*/*", "*/*/*")


def open_predictor(
    model: "str | os.PathLike[str] | VideoCLIP | None" = None,
    *,
    classes: Iterable[str] | Mapping[str, Sequence[str]] | None = None,
    provider: str = "auto",
    device: str = "auto",
    threads: int = 0,
    cache: bool = True,
    signed_by: str | os.PathLike[str] | None = None,
    wait: bool = True,
) -> Predictor:
    """Open a bundle, a run, a backbone or a model in memory for prediction.

    Args:
        model: the folder of a bundle or of a run; the name of a backbone, used zero-shot, such as `ViT-B-16`,
            `ViT-B-16:openai`, `ViT-B-16:weights.pt` or `ViT-B-16/dfn2b:weights.pt`; a model in memory, such as
            `load_published` returns; None: the newest bundle in the working folder (up to three levels below), else
            the built-in bundle of `tiny`, which knows the drawn world of `stickfigures` only.
        classes: the class names to rank when a call gives none, or a mapping of names to lists of sentences that
            describe them; None: the model's own. A backbone has none.
        provider: for bundles: `auto`, `cpu`, `cuda`, `cuda:N`, `tensorrt` or `openvino`.
        device: where to compute: `auto`, `cpu`, `cuda` or `cuda:N`; for a bundle, the provider of that name. A
            device that is not available is refused; a provider is replaced by the CPU, with a warning.
        threads: CPU cores to use; 0: the engine's choice.
        cache: keep a bundle's features of class names on disk.
        signed_by: a PEM file with the Ed25519 public key that must have signed the bundle; an error for other models.
        wait: False returns while a bundle's video encoder, whose files are checked by then, is still loaded for the
            CPU; the first prediction waits for it.

    Returns:
        A `Predictor`; its methods are the same for all kinds of model.

    Raises:
        UserError: there is no such model, it can't be read, the device or provider is not available, or the provider
            only works with bundles.
        MissingExtraError: a backbone needs open_clip, which is not installed.
        ImportError: a run or backbone needs torch, which is not installed.

    Example:
        >>> with open_predictor("runs/ga2/bundle") as predictor:
        ...     print(predictor.predict("clip.mp4").predictions[0])
    """
    names = None if classes is None else described_classes(classes)
    check_device(device)
    place = _one_of(provider, device)
    if not isinstance(model, str | os.PathLike | None):
        from ga2clip.evaluation.torch_model import TorchModel
        from ga2clip.model.video_clip import VideoCLIP

        if not isinstance(model, VideoCLIP):
            raise UserError(
                f"a model is a folder, the name of a backbone or a model in memory, got {model!r:.60}"
            )
        return Predictor(TorchModel(model, "in memory", device=place, threads=threads), classes=names)
    chosen = newest_bundle(Path()) if model is None else os.fspath(model)
    if chosen is None:
        if names is None:
            raise UserError(
                "no bundle in this folder, and the built-in model 'tiny' has no classes of its own",
                "give --classes FILE, or classes=[…] in Python; or name a model",
            )
        _log.warning(
            "no bundle in this folder: taking the built-in model 'tiny'. It knows the drawn world of the dataset "
            "'stickfigures' only, and what it says of real videos means nothing; --model names another"
        )
        chosen = str(resources.files("ga2clip.assets") / "tiny" / "bundle")
    if is_bundle(chosen):
        bundle = BundleModel(
            Path(chosen), provider=place, threads=threads, cache=cache, signed_by=signed_by, wait=wait
        )
        predictor = Predictor(bundle, classes=names)
        _refuse_another_device(predictor, device)
        return predictor
    if signed_by is not None:
        raise UserError(f"'{chosen}' is no bundle; only bundles are signed", "leave out --verify")
    if provider.partition(":")[0] not in ("auto", "cpu", "cuda"):
        raise UserError(f"provider '{provider}' needs a bundle", "`ga2clip export RUN` makes one")
    if is_run(chosen):
        from ga2clip.evaluation.torch_model import model_of_run

        return Predictor(model_of_run(Path(chosen), device=place, threads=threads), classes=names)
    if Path(chosen).exists() or not _BACKBONE.fullmatch(chosen):
        raise nothing_there(chosen)
    if names is None:
        raise UserError(
            f"'{chosen}' zero-shot has no classes of its own",
            "give --classes FILE, or classes=[…] in Python",
        )
    from ga2clip.evaluation.torch_model import zero_shot_model

    name, _, weights = chosen.partition(":")
    return Predictor(
        zero_shot_model(name, weights or None, tuple(names), device=place, threads=threads), classes=names
    )


def _one_of(provider: str, device: str) -> str:
    """Where to compute, from whichever of the two is given. Raises UserError when they contradict each other."""
    if "auto" not in (provider, device) and provider != device:
        if (provider, device) in (("tensorrt", "cuda"), ("openvino", "cpu")):
            return provider
        raise UserError(f"provider '{provider}' and device '{device}' exclude each other", "give one of them")
    return device if provider == "auto" else provider


def _refuse_another_device(predictor: Predictor, device: str) -> None:
    """A GPU that was asked for and not obtained is an error, as it is for runs."""
    if device.startswith("cuda") and not is_gpu(predictor.provider):
        obtained = predictor.provider
        predictor.close()
        raise UserError(
            f"ONNX Runtime cannot compute on '{device}' here: it offers '{obtained}'", "take --device cpu"
        )


def newest_bundle(folder: Path) -> str | None:
    """The bundle below `folder` whose card was written last, or None. Hidden folders, such as the remains of a killed
    export, are skipped.
    """
    cards = [
        card for level in _LEVELS for card in folder.glob(f"{level}/{CARD}") if not _is_hidden(card, folder)
    ]
    return str(max(cards, key=lambda card: card.stat().st_mtime).parent) if cards else None


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def is_run(folder: str | os.PathLike[str]) -> bool:
    """Whether the folder holds the settings of a run."""
    return (Path(folder) / SETTINGS_FILE).is_file()


def nothing_there(path: str | os.PathLike[str]) -> UserError:
    """The error for a path that should be a bundle or a run."""
    what = "neither a bundle nor a run" if Path(path).exists() else "nothing"
    hint = "a bundle holds bundle.json (made by `ga2clip export`), a run settings.toml (by `ga2clip train`)"
    return UserError(f"{what} at {path}", hint)
