"""Every text file that is read here, cut, with flipped bits and with swapped types: it is read or refused by name."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from ga2clip.data.cache import FrameStore, cache_folder
from ga2clip.data.check import _read_journal
from ga2clip.data.declaration import Listing
from ga2clip.data.listing import scan
from ga2clip.data.manifest import Clip, Manifest, Split
from ga2clip.data.protocols import make_task
from ga2clip.data.stickfigures.generate import JOURNAL, VERSION
from ga2clip.data.stickfigures.generate import _read_journal as read_generated
from ga2clip.errors import UserError
from ga2clip.label_files import read_clip_list
from ga2clip.labels import read_class_list
from ga2clip.registry import DATASETS
from ga2clip.settings import DataSettings

SWAPS: tuple[Any, ...] = (None, -1, 0, 10**30, 1.5, float("nan"), True, "x", "\ud800", [], {}, [[]], {"a": 1})
FOREIGN = (b"\0", b"\xff\xfe", b'"', b"9" * 5000, b"[" * 50_000, b",", b"\t", b"\r")
NAMES = [f"action {number}" for number in range(6)]


def damaged(text: bytes, count: int = 30) -> Iterator[bytes]:
    """The same copies in every run: cuts, flipped bits, doubled and lost pieces, and foreign bytes."""
    rng = random.Random(5)
    for _ in range(count):
        place = rng.randrange(len(text))
        yield text[:place]
        yield text[:place] + bytes([text[place] ^ (1 << rng.randrange(8))]) + text[place + 1 :]
        end = min(len(text), place + rng.randrange(40))
        yield text[:place] + text[end:]
        yield text[:end] + text[place:]
        yield (text[:place] + rng.choice(FOREIGN) + text[place:])


def swapped(tree: Any) -> Iterator[Any]:
    """Copies of a JSON tree in which one value is of another kind, or gone."""
    for path in list(_paths(tree))[::3][:25]:
        for value in SWAPS:
            changed = copy.deepcopy(tree)
            _at(changed, path[:-1])[path[-1]] = value
            yield changed
        changed = copy.deepcopy(tree)
        del _at(changed, path[:-1])[path[-1]]
        yield changed
    yield from SWAPS


def _paths(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from _paths(value, (*above, key))


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def try_all(path: Path, versions: Iterator[bytes], read: Callable[[], object]) -> int:
    """How many of the damaged versions are refused; any other error than a UserError fails the test."""
    refused = 0
    for content in versions:
        path.write_bytes(content)
        try:
            read()
        except UserError:
            refused += 1
    return refused


def as_json(trees: Iterator[Any]) -> Iterator[bytes]:
    return (json.dumps(tree).encode() for tree in trees)


def manifest(root: Path) -> Manifest:
    clips = [
        Clip(
            f"{name}/{number}.mp4",
            name,
            "train" if number else "test",
            10,
            1.0,
            "ab",
            "1",
            ("train",),
            64,
            48,
        )
        for name in NAMES[:3]
        for number in (0, 1)
    ]
    anchor = Clip("anchor.mp4", None, "anchor", 5, 0.5, other_splits=("anchor",))
    meta = {"rule": "drawn", "flip": True, "test_split": "test", "broken": [["x.mp4", "why"]], "missing": 2}
    return Manifest("mine", root, tuple(NAMES[:3]), (NAMES[0],), (*clips, anchor), meta, tuple(NAMES[:3]))


def test_manifests(tmp_path: Path) -> None:
    path = manifest(tmp_path).write()

    def read() -> None:
        made = Manifest.read(tmp_path)
        dict(made.broken)
        make_task(made, DataSettings(protocol="full"), 1)

    text = path.read_bytes()
    assert try_all(path, damaged(text), read) > 100
    assert try_all(path, as_json(swapped(json.loads(text))), read) > 200
    path.write_bytes(text.replace(b'"test",10', b'"test",-1'))
    with pytest.raises(UserError, match=r"manifest\.json is damaged: clips\.0\.3: Input should be greater"):
        read()


def test_frame_indices_and_journals(tmp_path: Path, make_video) -> None:
    """What `prepare` can make again never stops it."""
    folder = cache_folder(tmp_path)
    folder.mkdir(parents=True)
    index = {
        "recipe": {"schema": 1, "frames": 64, "short_side": 256, "quality": 85, "colour": "4:4:4"},
        "sha256": "ab",
        "clips": {"a.mp4": [0, 100, "ab"], "b.mp4": [512, 100, "cd"]},
    }
    path = folder / "frames-000000.json"
    text = json.dumps(index).encode()
    assert try_all(path, damaged(text), lambda: FrameStore.find(tmp_path)) == 0
    assert try_all(path, as_json(swapped(index)), lambda: FrameStore.find(tmp_path)) == 0

    line = {
        "path": "a.mp4",
        "size": 5,
        "changed": 7,
        "frames": 3,
        "duration": 1.5,
        "warnings": ["x"],
        "error": "",
    }
    journal = tmp_path / "checked.jsonl"
    text = (json.dumps(line) + "\n").encode() * 2
    assert try_all(journal, damaged(text), lambda: _read_journal(journal)) == 0
    assert try_all(journal, as_json(swapped(line)), lambda: _read_journal(journal)) == 0

    record = {"path": "a.mp4", "label": "run", "split": "train", "actor": 1, "frames": 2, "duration": 0.5}
    tree = {"version": VERSION, "clips": [{**record, "pixels_sha256": "ab", "sha256": "cd"}]}
    text = json.dumps(tree).encode()
    assert try_all(tmp_path / JOURNAL, damaged(text), lambda: read_generated(tmp_path)) == 0
    assert try_all(tmp_path / JOURNAL, as_json(swapped(tree)), lambda: read_generated(tmp_path)) == 0


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(NAMES),
        "id,name\n" + "".join(f'{n},"{name}"\n' for n, name in enumerate(NAMES)),
        "".join(f"{n} {name}\n" for n, name in enumerate(NAMES, start=1)),
        json.dumps({name: str(n) for n, name in enumerate(NAMES)}),
        json.dumps(NAMES),
    ],
)
def test_class_lists(tmp_path: Path, text: str) -> None:
    path = tmp_path / "names.txt"
    try_all(path, damaged(text.encode()), lambda: read_class_list(path))
    # Of 41 versions those are read that lack a class, name one "x", or are no list or table but a line of text.
    if text[0] in "[{":
        refused = try_all(path, as_json(swapped(json.loads(text))), lambda: read_class_list(path))
        assert refused == {"[": 30, "{": 29}[text[0]]


def test_split_lists_with_labels(tmp_path: Path) -> None:
    made = manifest(tmp_path)
    lines, names = tmp_path / "train.txt", tmp_path / "names.csv"
    lists = "".join(f'"{clip.path}",{n // 2}\n' for n, clip in enumerate(made.clips[:6])).encode()
    labels = ("id,name\n" + "".join(f"{n},{name}\n" for n, name in enumerate(NAMES[:3]))).encode()
    data = DataSettings(protocol="few-shot", split_file=str(lines), labels=str(names))
    lines.write_bytes(lists)
    names.write_bytes(labels)
    assert len(make_task(made, data, 1).train) == 6
    try_all(lines, damaged(lists), lambda: (read_clip_list(lines), make_task(made, data, 1)))
    lines.write_bytes(lists)
    try_all(names, damaged(labels), lambda: make_task(made, data, 1))


@pytest.mark.parametrize(
    ("name", "refused"),  # of these damaged versions
    [("ucf101", 33), ("hmdb51", 52), ("ssv2", 191), ("kinetics400", 27), ("csv", 38)],
)
def test_annotations_of_datasets(name: str, refused: int, request: pytest.FixtureRequest) -> None:
    """What is not refused lacks clips, or calls them otherwise; none is of a class or in a place that is not there."""
    root = request.getfixturevalue(name)
    list_file = root.parent / "list.csv"
    files = (
        [list_file]
        if name == "csv"
        else [
            path
            for path in sorted(root.rglob("*"))
            if path.suffix in (".txt", ".csv", ".json") and path.is_file()
        ]
    )

    def read() -> Listing:
        listing = scan(DATASETS[name], root, list_file=list_file)
        assert {entry.label for entry in listing.entries} <= set(listing.classes)
        assert all(
            entry.split in get_args(Split) and (root / entry.path).is_file() for entry in listing.entries
        )
        return listing

    whole, count = read(), 0
    for path in files[:4]:
        text = path.read_bytes()
        versions = [*damaged(text, 12)]
        if path.suffix == ".json":
            versions += list(as_json(swapped(json.loads(text))))[::5]
        count += try_all(path, iter(versions), read)
        path.write_bytes(text)
        assert read() == whole
    assert count >= refused
