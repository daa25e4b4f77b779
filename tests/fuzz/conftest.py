"""Damage of files, and a watch over whoever reads them."""

import copy
import io
import json
import os
import resource
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

_SECONDS = 20.0  # on a busy machine; a bomb takes longer by far
_MEGABYTES = 1500
NASTY: tuple[Any, ...] = (
    *(None, True, -1, 0, 3, 1e308, -1e308, 2**70, 0.5, float("nan"), float("inf")),
    *("", "x" * 5000, "\x1b[2J\n", "\ud800", "=1+1", "../../etc/passwd", "{}", "{"),
    *([], {}, [[]], [None], ["a", "a"], {"a": {}}, [[[[[[[[[[]]]]]]]]]], [0] * 200),
)

# Copies: what a tree holds may be damaged further, and must not damage the next example.
_nasty = st.sampled_from(NASTY).map(copy.deepcopy)


# ------------------------------------------------------------------------------------------------ what is watched
_opened: list[str] = []


def _note_writing(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str):
        flags = arguments[2] or 0
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            _opened.append(arguments[0])
    elif event in (
        "os.remove",
        "os.rename",
        "os.mkdir",
        "os.rmdir",
        "shutil.rmtree",
        "os.symlink",
        "os.link",
    ):
        _opened.append(str(arguments[0]))


sys.addaudithook(_note_writing)


@contextmanager
def _watched(folder: Path) -> Iterator[None]:
    """Nothing is written outside the folder, and time and memory are bounded, while the block runs."""
    _opened.clear()
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    seconds = time.monotonic() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    outside = [
        path
        for path in _opened
        if not Path(path).resolve().is_relative_to(folder.resolve()) and path != os.devnull
    ]
    assert outside == []
    assert seconds < _SECONDS, f"{seconds:.1f} s"
    assert grown < _MEGABYTES, f"{grown:.0f} MB"


# --------------------------------------------------------------------------------------------------- damaged files
@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Cut, flipped, moved, repeated or replaced bytes of a file, up to four times."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.integers(1, 64))
        match draw(st.sampled_from(["cut", "flip", "drop", "repeat", "random", "far", "nasty"])):
            case "cut":
                del data[place:]
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "drop":
                del data[place : place + length]
            case "repeat":
                data[place:place] = data[place : place + length] * draw(st.integers(1, 40))
            case "random":
                data[place : place + length] = draw(st.binary(max_size=length))
            case "far":
                data[place:place] = data[: draw(st.integers(0, 64))]
            case "nasty":
                data[place:place] = draw(
                    st.sampled_from(
                        [b"\0", b"\xff\xfe", b"1e999", b"NaN", b"\n", b'"', b"[" * 5000, b"9" * 5000]
                    )
                )
    return bytes(data)


def places(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to every value inside a tree of dicts and lists (of long lists, the first few)."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree[:8]) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from places(value, (*above, key))


@st.composite
def damaged_tree(draw: st.DrawFn, tree: Any) -> Any:
    """A tree with values replaced, removed, swapped or added."""
    tree = json.loads(json.dumps(tree))
    for _ in range(draw(st.integers(1, 3))):
        every = list(places(tree))
        if not every:
            return draw(_nasty)
        *above, key = draw(st.sampled_from(every))
        parent = tree
        for step in above:
            parent = parent[step]
        match draw(st.sampled_from(["value", "value", "remove", "swap", "add"])):
            case "value":
                parent[key] = draw(_nasty)
            case "remove":
                del parent[key]
            case "swap":
                *other, last = draw(st.sampled_from(every))
                try:
                    source = tree
                    for step in (*other, last):
                        source = source[step]
                    parent[key] = json.loads(json.dumps(source))
                except (KeyError, IndexError, TypeError):
                    pass
            case "add" if isinstance(parent, dict):
                parent[draw(st.sampled_from(["", "extra", "\x1b[2J", "__class__"]))] = draw(_nasty)
    return tree


def _damaged(content: bytes, kind: str) -> st.SearchStrategy[bytes]:
    """Damage of a file. kind: `json`, `jsonl` and `toml` are changed inside too, anything else as bytes only."""
    as_bytes = damaged_bytes(content)
    if kind == "json":
        return st.one_of(damaged_tree(json.loads(content)).map(as_json), as_bytes)
    if kind == "jsonl":
        rows = [json.loads(line) for line in content.decode().splitlines()]
        return (
            st.one_of(damaged_tree(rows).map(lambda made: b"\n".join(map(as_json, made)) + b"\n"), as_bytes)
            if (isinstance(rows, list))
            else as_bytes
        )
    if kind == "npz":
        return st.one_of(damaged_archive(content), as_bytes)
    return as_bytes


def as_json(tree: Any) -> bytes:
    return json.dumps(tree).encode()


@st.composite
def damaged_archive(draw: st.DrawFn, content: bytes) -> bytes:
    """An .npz in which one array has another type or shape, is missing, is compressed or stands twice."""
    with np.load(io.BytesIO(content)) as arrays:
        made = dict(arrays)
    name = draw(st.sampled_from(sorted(made)))
    array = made.pop(name)
    kind = draw(st.sampled_from(["missing", "type", "shape", "object", "value", "compressed", "header"]))
    target = io.BytesIO()
    if kind == "type":
        made[name] = (
            array.astype(draw(st.sampled_from(["<f8", "<U9", "|b1", "<c16", "|S3"])), casting="unsafe")
            if (array.dtype.kind != "U")
            else array.astype("|S9")
        )
    elif kind == "shape":
        made[name] = array[None] if draw(st.booleans()) else array.reshape(-1)[:1]
    elif kind == "object":
        made[name] = array.astype(object)
    elif kind == "value" and array.dtype.kind in "fui":
        made[name] = np.full_like(array, draw(st.sampled_from([0, 1, 255])))
    (np.savez_compressed if kind == "compressed" else np.savez)(target, **made)
    if kind == "header":
        shape = draw(st.sampled_from([(10**9, 10**9), (-1,), (2**62, 4), (0,)]))
        header = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        with zipfile.ZipFile(target, "a") as archive:
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return target.getvalue()


@pytest.fixture(scope="session")
def watched() -> Callable[[Path], AbstractContextManager[None]]:
    """A context for a folder: nothing is written outside it, and time and memory are bounded."""
    return _watched


@pytest.fixture(scope="session")
def damaged() -> Callable[[bytes, str], st.SearchStrategy[bytes]]:
    """A function of a file's content and kind (`json`, `jsonl`, `npz`, anything else) that gives damaged versions."""
    return _damaged
