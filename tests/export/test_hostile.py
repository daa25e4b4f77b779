"""Damaged and hostile bundles give an error that names the file; they never crash the process or read elsewhere."""

import contextlib
import json
import os
import random
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from pydantic import ValidationError

from ga2clip.errors import UserError
from ga2clip.files import file_sha256
from ga2clip.runtime import Predictor, is_bundle, open_bundle
from ga2clip.runtime.onnx_scan import external_files

REJECT = {"threshold": 0.0, "fitted_on": "nothing", "kept": 1.0, "rejected": None}


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    target = tmp_path / "bundle"
    shutil.copytree(bundle, target)
    return target


def edit_card(folder: Path, change) -> None:
    path = folder / "bundle.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    change(card)
    path.write_text(json.dumps(card), encoding="utf-8")


def rehash(folder: Path, name: str) -> None:
    """What a forger would do after changing a file."""
    entry = {"sha256": file_sha256(folder / name), "bytes": (folder / name).stat().st_size}
    edit_card(folder, lambda card: card["files"].__setitem__(name, entry))


def use(folder: Path, *, text: bool = False) -> dict[str, float]:
    """Probability by class."""
    with Predictor(folder, provider="cpu", cache=False) as predictor:
        frames, classes = np.zeros((2, 8, 8, 3), np.uint8), ["a new class"] if text else None
        return dict(predictor.predict_frames(frames, classes, top=99).predictions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(schema_version=4), "schema version 4"),
        (lambda c: c.update(schema_version=True), "schema version True"),
        (lambda c: c.pop("schema_version"), "schema version None"),
        (lambda c: c["scoring"].update(scale=float("nan")), "NaN"),
        (lambda c: c["scoring"].update(scale=float("inf")), "Infinity"),
        (lambda c: c["scoring"].update(scale=-1), "scoring.scale"),
        (lambda c: c.update(extra="x"), "extra"),
        (lambda c: c["files"].pop("text_bank.npz"), "text_bank.npz"),
        (lambda c: c["files"].__setitem__("../../etc/passwd", c["files"]["text_bank.npz"]), "files"),
        (lambda c: c["files"].__setitem__("/etc/passwd", c["files"]["text_bank.npz"]), "files"),
        (lambda c: c["preprocess"].update(size=10**9), "preprocess.size"),
        (lambda c: c["preprocess"].update(std=[0, 1, 1]), "preprocess.std"),
        (lambda c: c["sampling"].update(frames=0), "sampling.frames"),
        (lambda c: c.update(classes=["a", "a", "b"]), "twice"),
        (lambda c: c.update(classes=["a", "a\u200b"]), "what can't be seen"),
        (lambda c: c.update(classes=[]), "classes"),
        (lambda c: c.update(embedding=7), "features"),
        (lambda c: c["agreement"]["outputs"].pop("video_features"), "video_features"),
        (lambda c: (c["preprocess"].update(size=4096), c["sampling"].update(frames=4096)), "memory"),
        (lambda c: c.update(negatives=[], reject=REJECT), "negative"),
        (lambda c: c.update(reject={**REJECT, "threshold": 1e300}), "threshold"),
    ],
)
def test_a_card_that_lies_is_refused(copy: Path, change, message: str) -> None:
    edit_card(copy, change)
    with pytest.raises(UserError) as caught:
        use(copy)
    assert message in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "1e999", "[" * 100_000, "\ufeff{}", '{"schema_version": 1}']
)
def test_a_card_that_is_no_card_is_refused(copy: Path, text: str) -> None:
    (copy / "bundle.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"bundle\.json"):
        use(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": [0] * 1_000_000}, "classes.0"),
        ({"classes": ["a", "b", "x" * 3000]}, "classes.2"),
        ({"trained": {str(number): number for number in range(1_200_000)}}, "too large"),
        ({f"key {number}": 0 for number in range(100_000)}, "key 0"),
        ({"schema_version": [[[]]] * 500_000}, "schema version list"),
    ],
)
def test_a_card_of_megabytes_is_refused_at_its_first_fault(
    copy: Path, change: dict[str, object], message: str
) -> None:
    edit_card(copy, lambda card: card.update(change))
    with pytest.raises(UserError, match=r"bundle\.json") as caught:
        open_bundle(copy)
    assert message in caught.value.message
    assert len(caught.value.message) < 500
    # A list of a million faults is one fault; only unknown keys are told one by one.
    cause = caught.value.__context__
    if isinstance(cause, ValidationError):
        assert cause.error_count() <= 1 + len(change)


@pytest.mark.parametrize(
    "name", ["video_encoder.onnx", "text_encoder.onnx", "text_bank.npz", "tokenizer.json"]
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "bit", "directory", "fifo", "link out"])
def test_a_damaged_file_is_named(copy: Path, name: str, damage: str) -> None:
    path = copy / name
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "bit":
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    elif damage == "directory":
        path.mkdir()
    elif damage == "fifo":
        os.mkfifo(path)
    elif damage == "link out":
        outside = copy.parent / "outside"
        outside.write_bytes(content)
        path.symlink_to(outside)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        use(copy, text=name.startswith("t"))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["text_bank.npz", "tokenizer.json", "bundle.json", "video_encoder.onnx"])
def test_random_damage_with_matching_hashes_never_escapes_as_another_error(
    copy: Path, name: str, seed: int
) -> None:
    rng = random.Random(seed)
    content = bytearray((copy / name).read_bytes())
    if seed < 2:
        del content[rng.randrange(len(content)) :]
    for _ in range(rng.randrange(1, 30)):
        if content:
            content[rng.randrange(min(len(content), 4096))] = rng.randrange(256)
    (copy / name).write_bytes(content)
    if name != "bundle.json":
        rehash(copy, name)
    refusal, answer = "", dict[str, float]()
    try:
        answer = use(copy, text=name == "tokenizer.json")
    except UserError as error:
        refusal = f"{error.message} {error.hint}"
    # Some damage is harmless, such as a changed weight.
    assert name in refusal or sum(answer.values()) == pytest.approx(1)


def test_weights_outside_the_bundle_are_not_read(copy: Path, bundle: Path) -> None:
    path = copy / "video_encoder.onnx"
    for location in ("../secret.bin", "/etc/passwd", "unlisted.bin"):
        model = onnx.load(str(bundle / path.name))
        tensor = next(t for t in model.graph.initializer if t.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        path.write_bytes(model.SerializeToString())
        rehash(copy, path.name)
        with pytest.raises(UserError, match="not a file of this bundle"):
            use(copy)


def test_a_tensor_hides_nowhere_in_a_graph(tmp_path: Path) -> None:
    def tensor(location: str = "secret") -> onnx.TensorProto:
        found = onnx.TensorProto(name="t", data_type=1, data_location=onnx.TensorProto.EXTERNAL)
        found.external_data.add(key="offset", value="0")
        found.external_data.add(key="location", value=location)
        return found

    def within(attribute: onnx.AttributeProto) -> onnx.GraphProto:
        return onnx.GraphProto(node=[onnx.NodeProto(op_type="If", attribute=[attribute])])

    sparse, inner = onnx.SparseTensorProto(values=tensor()), onnx.GraphProto(initializer=[tensor()])
    function = onnx.FunctionProto(node=[onnx.NodeProto(attribute=[onnx.AttributeProto(t=tensor())])])
    hidden = [
        onnx.ModelProto(graph=within(onnx.AttributeProto(name="v", t=tensor()))),
        onnx.ModelProto(graph=within(onnx.AttributeProto(name="vs", tensors=[tensor()]))),
        onnx.ModelProto(graph=within(onnx.AttributeProto(name="g", g=inner))),
        onnx.ModelProto(graph=within(onnx.AttributeProto(name="gs", graphs=[inner]))),
        onnx.ModelProto(graph=within(onnx.AttributeProto(name="s", sparse_tensor=sparse))),
        onnx.ModelProto(graph=onnx.GraphProto(sparse_initializer=[sparse])),
        onnx.ModelProto(graph=onnx.GraphProto(), functions=[function]),
        onnx.ModelProto(training_info=[onnx.TrainingInfoProto(algorithm=inner)]),
    ]
    path = tmp_path / "m.onnx"
    for model in hidden:
        path.write_bytes(model.SerializeToString())
        with pytest.raises(UserError, match="is not read"):
            external_files(path)
    path.write_bytes(
        onnx.ModelProto(graph=onnx.GraphProto(initializer=[tensor("w.data")])).SerializeToString()
    )
    assert external_files(path) == {"w.data"}


def test_a_field_number_that_parsers_cut_to_32_bits_is_refused(tmp_path: Path) -> None:
    def length(count: int) -> bytes:
        return bytes([count & 0x7F | 0x80, count >> 7])

    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret.bin")
    hidden = tensor.SerializeToString()
    key = bytes([5 << 3 | 2 | 0x80, 0x80, 0x80, 0x80, 1 << 5])  # field 5 of a graph, with bit 33 set
    graph = key + length(len(hidden)) + hidden
    path = tmp_path / "m.onnx"
    path.write_bytes(bytes([7 << 3 | 2]) + length(len(graph)) + graph)
    with pytest.raises(UserError, match="field number"):
        external_files(path)


def test_a_bank_that_could_unpack_to_anything_or_run_code_is_refused(copy: Path) -> None:
    path = copy / "text_bank.npz"
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez_compressed(path, **content)
    rehash(copy, path.name)
    with pytest.raises(UserError, match="compressed"):
        use(copy)
    np.savez(path, **{**content, "classes": np.array(list(content["classes"]), dtype=object)})
    rehash(copy, path.name)
    with pytest.raises(UserError, match=r"text_bank\.npz"):
        use(copy)
    for value, message in ((1e38, "length 1"), (np.nan, "not finite")):
        content["features"][0, 0] = value
        np.savez(path, **content)
        rehash(copy, path.name)
        with pytest.raises(UserError, match=message):
            use(copy)


def test_a_bank_whose_header_promises_terabytes_is_refused(copy: Path) -> None:
    path = copy / "text_bank.npz"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    member = b"\x93NUMPY\x01\x00" + len(header + b"\n").to_bytes(2, "little") + header + b"\n" + b"0000"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("features.npy", member)
    rehash(copy, path.name)
    with pytest.raises(UserError, match=r"text_bank\.npz"):
        use(copy)


def test_what_is_no_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError) as caught:
            open_bundle(path)
        assert "ga2clip export" in str(caught.value.hint)
        assert not is_bundle(path)


NASTY = (
    None,
    True,
    -1,
    0,
    1e308,
    2**70,
    "",
    "x" * 5000,
    "\x1b[2J\n",
    [],
    {},
    [[]],
    ["a", "a"],
    "../../etc/passwd",
)


def test_any_value_anywhere_in_the_card_is_refused_or_harmless(copy: Path) -> None:
    """Every leaf and branch of the card, replaced by every odd value: a clear error, or finite answers and text
    that a terminal can show."""
    path = copy / "bundle.json"
    original = path.read_text(encoding="utf-8")
    places = list(walk(json.loads(original)))
    rng = random.Random(0)
    for place in places:
        for value in rng.sample(NASTY, 5):
            card = json.loads(original)
            parent = card
            for key in place[:-1]:
                parent = parent[key]
            parent[place[-1]] = value
            path.write_text(json.dumps(card), encoding="utf-8")
            with contextlib.suppress(UserError):
                opened = open_bundle(copy)
                assert all(line.isprintable() for line in opened.describe().splitlines())
                probe = opened.probe()
                with Predictor(copy, provider="cpu", threads=1, cache=False) as predictor:
                    answer = predictor.predict_frames(
                        probe.frames[0], reject=predictor.model.threshold is not None
                    )
                assert all(0 <= p <= 1 for _, p in answer.predictions)


def walk(tree: object, above: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from walk(value, (*above, key))
