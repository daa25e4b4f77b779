"""Reads weights files without running code from them.

Three formats are read: safetensors, the format of `torch.save` (with `weights_only=True`), and the TorchScript archives
in which OpenAI published CLIP. The pickle in those is read by an unpickler that only accepts tensors and objects
without behaviour.
"""

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ga2clip.errors import UserError, first_line
from ga2clip.model.bombs import refuse_bomb, refuse_empty_claims
from ga2clip.model.inert_pickle import inert_classes, refused_class

SUFFIXES = frozenset({".pt", ".pth", ".bin", ".safetensors"})
"""Suffixes of weights files."""
_SAFE_HINT = (
    "convert it to safetensors on a machine where you trust it: safetensors.torch.save_file(state_dict, FILE)"
)


def read_weights(path: str | Path) -> dict[str, Any]:
    """The content of a weights file: a flat dict of tensors, or the nested dict that a training script saved.

    Raises UserError for a missing file, an unknown container, a pickle that asks for code, and a file that unpacks
    to many times its size.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a weights file", _weights_in(path) or "name a file")
    if not path.is_file():
        raise UserError(f"no weights file at {path}", _siblings(path))
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        refuse_bomb(path)
        if _is_torchscript(path):
            content = _read_torchscript(path)
        else:
            with inert_classes():
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds {refused_class(error)}, which could run code; refused",
            _SAFE_HINT,
        ) from None
    except UserError:
        raise
    except Exception as error:  # damaged files raise all kinds of exceptions in the readers
        reason = first_line(error)
        raise UserError(f"{path} is not a readable weights file: {reason}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dict of weights")
    refuse_empty_claims(path, content)
    return content


def refuse_not_finite(tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Weights with a NaN or an infinity compute nothing, and a model of them answers all the same.

    Raises:
        UserError: names the tensors that have one.
    """
    # A float64 sum of the other float types is finite exactly when all summands are, and takes no memory.
    broken = [
        name
        for name, value in tensors.items()
        if value.is_floating_point() and not value.sum(dtype=torch.float64).isfinite()
    ]
    if broken:
        listed = ", ".join(broken[:6]) + (f" and {len(broken) - 6} more" if len(broken) > 6 else "")
        raise UserError(
            f"{source} holds numbers that are not finite (NaN or infinity) in {listed}",
            "its training diverged or the file is damaged; take another checkpoint",
        )


def _siblings(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist"
    return _weights_in(path.parent)


def _weights_in(folder: Path) -> str | None:
    names = sorted(p.name for p in folder.iterdir() if p.suffix in SUFFIXES)
    return f"weights in {folder}: {', '.join(names[:8])}" if names else None


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        pickled = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        root = pickled.removesuffix("data.pkl")
        module = _ArchiveUnpickler(archive, root, archive.read(pickled)).load()
    weights: dict[str, Tensor] = {}
    _collect(module, "", weights)
    return weights


class _Bag:
    """Holds the attributes of a TorchScript object, without its behaviour."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class _ArchiveUnpickler(pickle.Unpickler):
    """Reads a TorchScript archive's `data.pkl`: every class becomes a `_Bag`, tensors come from the archive's files."""

    def __init__(self, archive: zipfile.ZipFile, root: str, pickled: bytes) -> None:
        super().__init__(io.BytesIO(pickled))
        self.archive, self.root = archive, root
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name.endswith("Storage"):
            return name
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module.startswith("torch.jit._pickle"):
            return lambda values, *_: values
        if module.startswith("__torch__"):
            return _Bag
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, storage, key, _, _ = pid
        if key not in self.storages:
            content = bytearray(self.archive.read(f"{self.root}data/{key}"))
            self.storages[key] = torch.frombuffer(content, dtype=_STORAGE_DTYPES[storage])
        return self.storages[key]


_STORAGE_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


def _rebuild_tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    return torch.as_strided(storage, size, stride, offset)


def _collect(node: Any, prefix: str, into: dict[str, Tensor]) -> None:
    if isinstance(node, Tensor):
        into[prefix] = node
    elif isinstance(node, _Bag):
        for name, value in vars(node).items():
            _collect(value, f"{prefix}.{name}" if prefix else name, into)
