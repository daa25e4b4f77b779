"""A bundle's folder: its checked card, text bank and files. Nothing outside the folder is read.

Each file is hashed right before it is used, so that files which are not needed cost nothing; large files that were
right before may be known by their identity (`known_files`). `Bundle.verify` reads all of them.
"""

import os
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ga2clip.errors import UserError
from ga2clip.runtime.card import CARD, PROBE, TAUGHT, TEXT_BANK, BundleCard, parse_card
from ga2clip.runtime.describe import describe
from ga2clip.runtime.engine import open_engine
from ga2clip.runtime.guarded import GuardedEngine, check_graph, contract
from ga2clip.runtime.known_files import has_sha256
from ga2clip.runtime.npz import NPZ_ERRORS, Expected, read_npz
from ga2clip.runtime.onnx_cost import Cost
from ga2clip.runtime.onnx_scan import Graph, read_graph
from ga2clip.runtime.onnx_values import Shape
from ga2clip.runtime.signature import check_signature
from ga2clip.runtime.teaching import Example, Examples
from ga2clip.text import printable

_LARGEST_CARD = 16 * 2**20  # ten thousand classes take less than one, a thousand with a hundred sentences ten
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
    """Inputs with the outputs that torch gave, to check a provider other than the CPU.

    frames: uint8 (1, T, S, S, 3), frame_features: float32 (1, T, D). video_features: float32 (1, D), what a pooling
    graph makes of those; None: their mean. ids: int64 (1, L), text_features: float32 (1, D).
    """

    frames: np.ndarray
    frame_features: np.ndarray
    ids: np.ndarray
    text_features: np.ndarray
    video_features: np.ndarray | None = None


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder and its card. Files are read on demand and checked before use.

    remember: large files whose hash was right in an earlier process, and which were not touched since, aren't read
    again for it.
    """

    path: Path
    card: BundleCard
    remember: bool = False

    def file(self, name: str) -> Path:
        """The path of a file of the bundle, after its size and hash were checked.

        Raises UserError when it is missing, is a link out of the folder, is not a regular file or differs from
        the card.
        """
        path, entry = self._plain_file(name), self.card.files[name]
        if (size := path.stat().st_size) != entry.bytes:
            raise UserError(f"{path} has {size:,} bytes where bundle.json says {entry.bytes:,}", _AGAIN)
        if not has_sha256(path, entry.sha256, remember=self.remember):
            raise UserError(f"{path} is damaged: its sha256 is not the one in bundle.json", _AGAIN)
        return path

    def engine(self, name: str, provider: str, *, threads: int = 0, wait: bool = True) -> GuardedEngine:
        """A graph of the bundle, loaded after its graph was checked against the card; arguments as `open_engine`.

        Raises UserError for a graph that is damaged, hostile or does not match the card.
        """
        (graph, costs), path = self._graph(name), self.path / name
        engine = open_engine(path, provider, threads=threads, wait=wait)
        return GuardedEngine(engine, graph, contract(self.card, name), costs, path)

    def _graph(self, name: str) -> tuple[Graph, dict[Shape, Cost]]:
        """A checked graph and the costs of its usual runs. External weights must be in files of this bundle that are
        large enough.
        """
        path = self.file(name)
        graph = read_graph(path)
        claimed: Counter[str] = Counter()
        for constant in graph.constants.values():
            if constant.external:
                claimed[constant.external] += constant.bytes
        for location in sorted(claimed):
            if location not in self.card.files:
                raise UserError(
                    f"{path} reads weights from '{printable(location)}', which is not a file of this bundle",
                    "do not use this bundle unless you trust where it is from",
                )
            self.file(location)
            if claimed[location] > self.card.files[location].bytes:
                raise UserError(f"{path} reads more weights from '{location}' than the file holds", _AGAIN)
        return graph, check_graph(graph, contract(self.card, name), path)

    def text_bank(self) -> TextBank:
        """Class features. Raises UserError when the file is damaged or doesn't fit the card."""
        count, width = len(self.card.classes), self.card.embedding
        arrays = self._arrays(
            TEXT_BANK,
            {
                "features": Expected((count, width), "<f4"),
                "negatives": Expected((len(self.card.negatives), width), "<f4"),
                "classes": Expected((count,), f"<U{max(map(len, self.card.classes))}"),
            },
        )
        if arrays["classes"].tolist() != list(self.card.classes):
            raise UserError(f"{self.path / TEXT_BANK} names other classes than bundle.json", _AGAIN)
        for key in ("features", "negatives"):
            self._check_lengths(TEXT_BANK, key, arrays[key])
        return TextBank(self.card.classes, arrays["features"], arrays["negatives"])

    def examples(self) -> Examples | None:
        """What the bundle was taught; None: nothing. Raises UserError when the file is damaged or doesn't fit."""
        taught = self.card.taught
        if taught is None:
            return None
        shape = (len(taught.examples), self.card.embedding)
        features = self._arrays(TAUGHT, {"features": Expected(shape, "<f4")})["features"]
        self._check_lengths(TAUGHT, "features", features)
        items = (Example(e.label, e.kind, e.sha256, e.trained) for e in taught.examples)
        return Examples(tuple(items), features)

    def probe(self) -> Probe:
        """Inputs with torch's outputs. Raises UserError when the file is damaged or doesn't fit the card."""
        side, width = self.card.preprocess.size, self.card.embedding
        frames, context = self.card.sampling.frames, self.card.text.context
        arrays = self._arrays(
            PROBE,
            {
                "frames": Expected((1, range(1, frames + 1), side, side, 3), "|u1"),
                "frame_features": Expected((1, range(1, frames + 1), width), "<f4"),
                "ids": Expected((1, range(1, context + 1)), "<i8"),
                "text_features": Expected((1, width), "<f4"),
            }
            | ({"video_features": Expected((1, width), "<f4")} if self.card.pooling == "graph" else {}),
        )
        return Probe(**arrays)

    def _check_lengths(self, name: str, key: str, rows: np.ndarray) -> None:
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
        if not np.allclose(lengths, 1, atol=_LENGTH_ERROR):
            raise UserError(f"{self.path / name}: '{key}' are not of length 1", _AGAIN)

    def _arrays(self, name: str, expected: Mapping[str, Expected]) -> dict[str, np.ndarray]:
        """The arrays of an .npz file by name. Raises UserError for unexpected names, shapes, dtypes, or NaN and inf."""
        path = self.file(name)
        try:
            arrays = read_npz(path, expected)
        except NPZ_ERRORS as error:
            raise UserError(f"{path} cannot be read: {error}", _AGAIN) from None
        for key, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise UserError(f"{path}: '{key}' holds numbers that are not finite", _AGAIN)
        return arrays

    def describe(self) -> str:
        """A readable summary of the card, about a dozen lines."""
        return describe(self.card, str(self.path))

    def verify(self) -> None:
        """Read and check every file that the card lists. Raises UserError for the first that is missing or differs."""
        anew = replace(self, remember=False)
        for name in anew.card.files:
            anew.file(name)
        for name in anew.card.graphs:
            anew._graph(name)
        anew.text_bank()
        anew.examples()
        anew.probe()

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


def open_bundle(
    path: str | Path, *, signed_by: str | os.PathLike[str] | None = None, remember: bool = False
) -> Bundle:
    """Read and check the card of a bundle.

    Args:
        path: the bundle's folder.
        signed_by: a PEM file with an Ed25519 public key, which must have signed the card.
        remember: as `Bundle.remember`; a bundle whose signature is asked for is read anew all the same.

    Raises:
        UserError: there is no bundle, its card is not valid, or it is not signed by that key.
        MissingExtraError: a signature is to be checked without the extra `sign`.
    """
    folder = Path(path)
    if not isinstance(signed_by, str | os.PathLike | None):
        raise UserError(f"a key is given by the path of its file, got {signed_by!r:.60}")
    card = folder / CARD
    if not folder.is_dir():
        raise UserError(f"there is no bundle at {folder}", "make one with: ga2clip export RUN")
    try:
        if not stat.S_ISREG(card.stat().st_mode) or folder.resolve() not in card.resolve().parents:
            raise UserError(f"{card} is not a plain file of its folder", _AGAIN)
        if card.stat().st_size > _LARGEST_CARD:
            raise UserError(f"{card} is too large to be a bundle's card", _AGAIN)
        content = card.read_bytes()
        if signed_by is not None:
            check_signature(folder, content, Path(signed_by))
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{folder} is not a bundle: it has no {CARD}", "make one with: ga2clip export RUN"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{card} is not UTF-8 text", _AGAIN) from None
    except OSError as error:
        raise UserError(f"cannot read {card}: {error.strerror or error}", _AGAIN) from None
    return Bundle(folder, parse_card(text, str(card)), remember and signed_by is None)
