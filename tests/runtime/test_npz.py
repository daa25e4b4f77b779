"""A damaged .npz gives one of the errors that its readers expect, wherever the damage is."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ga2clip.runtime.npz import NPZ_ERRORS, Expected, read_npz

EXPECTED = {"a": Expected((2, 3), "<f4")}
ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def archive(path: Path, member: bytes) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", member)


def stored(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.lib.format.write_array(data, array, version=(1, 0))
    return data.getvalue()


@pytest.mark.parametrize("character", b"9(['\"\\\n\0#{")
def test_every_byte_of_a_header_may_be_damaged(tmp_path: Path, character: int) -> None:
    whole, path = stored(ARRAY), tmp_path / "x.npz"
    refused = 0
    for place in range(len(whole) - ARRAY.nbytes):
        archive(path, whole[:place] + bytes([character]) + whole[place + 1 :])
        try:
            assert np.array_equal(read_npz(path, EXPECTED)["a"], ARRAY)
        except NPZ_ERRORS:
            refused += 1
    assert refused > 60  # the rest are digits of the shape and blanks that fill the header


def header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "text",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3",  # ends within brackets
        b"{'descr': '<f4', 'fortran_order': False, 'shape': '''",
        b"(" * 9_000,
        b"-" * 9_000 + b"1",
        b"[" + b"9" * 9_000 + b"]",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 3)}",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 3)}",
        b"\xff\xfe",
        b"",
    ],
)
def test_a_header_that_is_no_header(tmp_path: Path, text: bytes) -> None:
    archive(tmp_path / "x.npz", header(text) + ARRAY.tobytes())
    with pytest.raises(NPZ_ERRORS):
        read_npz(tmp_path / "x.npz", EXPECTED)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (1, 2, 3, 4)])
@pytest.mark.parametrize("dtype", ["<f4", "<i8", "|u1", "<U7"])
def test_whole_arrays_come_back(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    for order in "CF":
        np.savez(tmp_path / "x.npz", a=np.array(array, order=order))
        found = read_npz(tmp_path / "x.npz", {"a": Expected(shape, dtype)})["a"]
        assert found.dtype == array.dtype
        assert np.array_equal(found, array)
