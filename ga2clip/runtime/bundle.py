"""A bundle's folder goes in; its checked card, text bank and file paths come out. Nothing outside the folder
is read.

A file is hashed right before it is used, so that an encoder nobody asks for costs nothing; `Bundle.verify`
checks them all.
"""

import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ga2clip.errors import UserError
from ga2clip.files import file_sha256
from ga2clip.runtime.card import PROBE, TEXT_BANK, BundleCard, parse_card
from ga2clip.runtime.describe import describe
from ga2clip.runtime.onnx_scan import external_files

CARD = "bundle.json"
_LARGEST_CARD = 64 * 2**20
_LENGTH_ERROR = 1e-3
_AGAIN = "copy the bundle again, or export it again with: ga2clip export RUN"


@dataclass(frozen=True)
class TextBank:
    """Folded class features of a bundle.

    features: float32 (C, D) and negatives: float32 (K, D), L2-normalised.
    """

    classes: tuple[str, ...]
    features: np.ndarray
    negatives: np.ndarray


@dataclass(frozen=True)
class Probe:
    """Inputs with torch's answers, on which a provider other than the CPU has to prove itself.

    frames: uint8 (1, T, S, S, 3), frame_features: float32 (1, T, D). ids: int64 (1, L), text_features:
    float32 (1, D).
    """

    frames: np.ndarray
    frame_features: np.ndarray
    ids: np.ndarray
    text_features: np.ndarray


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder and its card. Files are read on demand and checked before use."""

    path: Path
    card: BundleCard

    def file(self, name: str) -> Path:
        """The path of a file of the bundle, after its size and hash were checked.

        Errors: UserError when it is missing, is a link out of the folder, is no plain file or differs from
        the card.
        """
        path, entry = self._plain_file(name), self.card.files[name]
        if (size := path.stat().st_size) != entry.bytes:
            raise UserError(f"{path} has {size:,} bytes where bundle.json says {entry.bytes:,}", _AGAIN)
        if file_sha256(path) != entry.sha256:
            raise UserError(f"{path} is damaged: its sha256 is not the one in bundle.json", _AGAIN)
        return path

    def onnx_file(self, name: str) -> Path:
        """Like `file`, for a model: files that it keeps weights in must be files of this bundle too."""
        path = self.file(name)
        for location in sorted(external_files(path)):
            if location not in self.card.files:
                raise UserError(
                    f"{path} wants to read weights from '{location}', which is no file of this bundle",
                    "do not use this bundle unless you trust where it is from",
                )
            self.file(location)
        return path

    def text_bank(self) -> TextBank:
        """Class features. Errors: UserError when the file is damaged or doesn't fit the card."""
        count, width = len(self.card.classes), self.card.embedding
        arrays = self._arrays(
            TEXT_BANK,
            {
                "features": ((count, width), np.float32),
                "negatives": ((len(self.card.negatives), width), np.float32),
                "classes": ((count,), np.str_),
            },
        )
        if arrays["classes"].tolist() != list(self.card.classes):
            raise UserError(f"{self.path / TEXT_BANK} names other classes than bundle.json", _AGAIN)
        for key in ("features", "negatives"):
            lengths = np.linalg.norm(arrays[key].astype(np.float64), axis=1)
            if not np.allclose(lengths, 1, atol=_LENGTH_ERROR):
                raise UserError(f"{self.path / TEXT_BANK}: '{key}' are not of length 1", _AGAIN)
        return TextBank(self.card.classes, arrays["features"], arrays["negatives"])

    def probe(self) -> Probe:
        """Known answers. Errors: UserError when the file is damaged or doesn't fit the card."""
        side, width = self.card.preprocess.size, self.card.embedding
        arrays = self._arrays(
            PROBE,
            {
                "frames": ((1, None, side, side, 3), np.uint8),
                "frame_features": ((1, None, width), np.float32),
                "ids": ((1, None), np.int64),
                "text_features": ((1, width), np.float32),
            },
        )
        return Probe(**arrays)

    def _arrays(
        self, name: str, expected: Mapping[str, tuple[tuple[int | None, ...], type[np.generic]]]
    ) -> dict[str, np.ndarray]:
        """Arrays of a file by name, of the shapes (None: any) and kinds expected, all numbers finite."""
        path = self.file(name)
        try:
            arrays = _read_npz(path)
        except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} cannot be read: {error}", _AGAIN) from None
        for key, (shape, kind) in expected.items():
            array = arrays.get(key)
            if array is None or not np.issubdtype(array.dtype, kind) or not _fits(array.shape, shape):
                found = "nothing" if array is None else f"{array.dtype} {array.shape}"
                wanted = ", ".join("any" if side is None else str(side) for side in shape)
                raise UserError(
                    f"{path}: '{key}' should be {kind.__name__} ({wanted}), found {found}", _AGAIN
                )
            if kind is np.float32 and not np.isfinite(array).all():
                raise UserError(f"{path}: '{key}' holds numbers that are not finite", _AGAIN)
        return {key: arrays[key] for key in expected}

    def describe(self) -> str:
        """The card for people, about a dozen lines."""
        return describe(self.card, str(self.path))

    def verify(self) -> None:
        """Check every file that the card lists. Errors: UserError for the first that is missing or differs."""
        for name in self.card.files:
            if name.endswith(".onnx"):
                self.onnx_file(name)
            else:
                self.file(name)
        self.text_bank()
        self.probe()

    def _plain_file(self, name: str) -> Path:
        path = self.path / name
        try:
            resolved = path.resolve(strict=True)
            mode = resolved.stat().st_mode
        except (OSError, RuntimeError):
            raise UserError(f"the bundle {self.path} lacks {name}", _AGAIN) from None
        if self.path.resolve() not in resolved.parents:
            raise UserError(
                f"{path} is a link to a file outside the bundle", "put the file itself into the bundle"
            )
        if not stat.S_ISREG(mode):
            raise UserError(f"{path} is not a plain file", _AGAIN)
        return path


def is_bundle(path: str | Path) -> bool:
    """Whether the folder holds a `bundle.json`."""
    return (Path(path) / CARD).is_file()


def open_bundle(path: str | Path) -> Bundle:
    """Read and check the card of a bundle. Errors: UserError when there is none, or it is not one that we
    can trust.
    """
    folder = Path(path)
    card = folder / CARD
    if not folder.is_dir():
        raise UserError(f"there is no bundle at {folder}", "make one with: ga2clip export RUN")
    try:
        if not stat.S_ISREG(card.stat().st_mode) or folder.resolve() not in card.resolve().parents:
            raise UserError(f"{card} is not a plain file of its folder", _AGAIN)
        if card.stat().st_size > _LARGEST_CARD:
            raise UserError(f"{card} is too large to be a bundle's card", _AGAIN)
        text = card.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{folder} is not a bundle: it has no {CARD}", "make one with: ga2clip export RUN"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {card}: {error}", _AGAIN) from None
    return Bundle(folder, parse_card(text, str(card)))


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True))


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an uncompressed .npz without pickles; compressed members are refused since they could unpack
    to any size.
    """
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("it is compressed")
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}
