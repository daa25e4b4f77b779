"""What `--model` says goes in, a predictor comes out; stderr says which model was taken and where it runs.

1. A folder with bundle.json is a bundle: ONNX Runtime, no torch.
2. A folder with settings.toml is a run: torch.
3. Anything else is a backbone, `NAME` or `NAME:TAG|FILE`: zero-shot, torch.
4. Nothing: the newest bundle in the working folder, three levels deep; without one, `tiny` zero-shot.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ga2clip.errors import UserError
from ga2clip_cli import console

if TYPE_CHECKING:
    from ga2clip.evaluation.predict import TorchPredictor
    from ga2clip.runtime import Predictor

_LEVELS = ("*", "*/*", "*/*/*")


def open_model(
    model: str | None,
    *,
    classes: Sequence[str] | None,
    provider: str,
    threads: int,
    signed_by: Path | None = None,
) -> "Predictor | TorchPredictor":
    """The predictor for `--model`.

    Errors: UserError when nothing of that name is there, or it is not signed by the key that it should be.
    """
    chosen = model or newest_bundle(Path())
    if chosen is None:
        console.note("no bundle in this folder: taking the built-in backbone 'tiny', zero-shot")
        chosen = "tiny"
    folder = Path(chosen)
    if is_bundle(folder):
        from ga2clip.runtime import Predictor

        return Predictor(folder, provider=provider, threads=threads, signed_by=signed_by)
    if signed_by is not None:
        raise UserError(f"'{chosen}' is no bundle; only bundles are signed", "leave out --verify")
    if provider not in ("auto", "cpu", "cuda"):
        raise UserError(f"provider '{provider}' needs a bundle", "`ga2clip export RUN` makes one")
    if is_run(folder):
        from ga2clip.evaluation.predict import TorchPredictor

        return TorchPredictor.from_run(folder, device=provider, threads=threads)
    if folder.exists() or os.sep in chosen.partition(":")[0]:
        raise nothing_there(folder)
    if not classes:
        raise UserError(
            f"'{chosen}' zero-shot has no classes of its own", "give --classes FILE, one name a line"
        )
    from ga2clip.evaluation.predict import TorchPredictor

    name, _, weights = chosen.partition(":")
    return TorchPredictor.zero_shot(name, weights or None, classes, device=provider, threads=threads)


def newest_bundle(folder: Path) -> str | None:
    """The bundle below `folder` whose bundle.json was written last, or None."""
    found = [card for level in _LEVELS for card in folder.glob(f"{level}/bundle.json")]
    return str(max(found, key=lambda card: card.stat().st_mtime).parent) if found else None


def is_bundle(folder: Path) -> bool:
    """Whether export wrote something there."""
    return (folder / "bundle.json").is_file()


def is_run(folder: Path) -> bool:
    """Whether training wrote something there."""
    return (folder / "settings.toml").is_file()


def nothing_there(path: Path) -> UserError:
    """The error for a path that should be a bundle or a run."""
    found = "neither a bundle nor a run" if path.exists() else "nothing"
    hint = "a bundle holds bundle.json (made by `ga2clip export`), a run settings.toml (by `ga2clip train`)"
    return UserError(f"{found} at {path}", hint)
