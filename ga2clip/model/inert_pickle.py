"""Reads common classes that training scripts pickle beside the weights as plain data.

Checkpoints are read by torch's restricted unpickler (`weights_only=True`), which executes nothing and accepts tensors
and plain containers. The additional classes here hold settings or numbers. Each is replaced by a stand-in of ours, so
that the library that wrote it is neither needed nor imported.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

_REFUSED = re.compile(r"GLOBAL ([\w.]+)")


class _Bag:
    """Holds the constructor arguments and attributes of an object, without its behaviour."""

    def __init__(self, *data: object) -> None:
        self.data = data

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)
        else:
            self.state = state


def _mapping(*_: object) -> dict[Any, Any]:
    """A defaultdict without its default."""
    return {}


def _number(dtype: _Bag, data: bytes) -> Any:
    """A NumPy scalar as a Python number. Raises ValueError for a dtype that is not numeric."""
    code, order = str(dtype.data[0]), str(dtype.state[1])  # type: ignore[index]
    if not re.fullmatch(r"[biufc]\d+", code) or order not in "<>|=":
        raise ValueError(f"a NumPy scalar of type {code}")
    return np.frombuffer(data, np.dtype(code if order == "|" else order + code))[0].item()


def _text(*parts: str) -> str:
    """A path as text."""
    return "/".join(parts)


# Stand-ins by the pickled name of the class. torch fills the items of an OrderedDict.
_STAND_INS: tuple[tuple[Callable[..., Any], Iterable[str]], ...] = (
    (OrderedDict, ("yacs.config.CfgNode", "fvcore.common.config.CfgNode")),
    (_mapping, ("collections.defaultdict",)),
    (_Bag, ("argparse.Namespace", "types.SimpleNamespace", "numpy.dtype", "numpy.ndarray")),
    (_Bag, ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")),
    (_Bag, ("datetime.datetime", "datetime.timedelta")),
    (_number, ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")),
    (_text, ("pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.PurePosixPath", "pathlib.Path")),
    *((kind, (f"builtins.{kind.__name__}",)) for kind in (list, dict, tuple, int, float, frozenset)),
)


def inert_classes() -> AbstractContextManager[None]:
    """While the block runs, `torch.load(…, weights_only=True)` reads these classes as plain data."""
    pairs: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (stand_in, name) for stand_in, names in _STAND_INS for name in names
    ]
    return torch.serialization.safe_globals(pairs)


def refused_class(error: Exception) -> str:
    """The class that torch's unpickler refused, such as `posix.system`; a general phrase if it doesn't say."""
    match = _REFUSED.search(str(error))
    return match[1] if match else "an object that is not a tensor or plain container"
