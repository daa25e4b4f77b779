"""The frame cache: decoded clips as JPEGs in tar shards, read by clip and frame number as uint8 (T, H, W, 3).

A shard is a plain WebDataset tar (`<key>.json`, `<key>.000.jpg`, …) with a small index file that has the byte offset of
each clip. `<key>.json` lists the lengths of the clip's JPEGs, from which the offset of each frame follows. So any frame
can be read directly, and by any number of processes.
"""

import io
import json
import logging
import os
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from ga2clip.data.clip_frames import read_clip
from ga2clip.data.manifest import WORK_FOLDER, Clip, Count
from ga2clip.errors import UserError
from ga2clip.files import file_sha256, replacing, write_text
from ga2clip.text import printable
from ga2clip.video import SamplingRule, VideoError

logger = logging.getLogger(__name__)

FRAMES = 64
"""Most frames per clip, evenly spread; shorter clips are stored whole. Twice the usual 32 sampled frames."""
SHORT_SIDE = 256
"""Larger frames are scaled down to this short side."""
QUALITY = 85
"""Of the JPEGs, whose colour is stored at full resolution: halving it, as JPEG does by default, costs 2 to 9 dB
for a fifth of the bytes (benchmarks/frame_cache.py)."""
CLIPS_PER_SHARD = 64
"""Small enough that restarting the shards of an interrupted run costs seconds, not minutes."""

_RECIPE = {"schema": 1, "frames": FRAMES, "short_side": SHORT_SIDE, "quality": QUALITY, "colour": "4:4:4"}
_BLOCK = tarfile.BLOCKSIZE
_OPEN = 64
"""Shards that a process holds open: Kinetics has thousands, and systems allow about a thousand open files."""


_Bytes = Annotated[int, Field(strict=True, ge=1, le=2**28)]
"""Largest header or frame in bytes; without a limit, a damaged length could exhaust the memory."""


class _Index(BaseModel):
    """The index beside a shard. clips: id → offset of its first member, length of that one's JSON, video's hash."""

    recipe: dict[str, Any]
    sha256: str
    clips: dict[str, tuple[Count, _Bytes, str]]


class _Header(BaseModel):
    """What a reader needs of a clip's JSON. lengths: bytes of each frame."""

    path: str
    lengths: Annotated[list[_Bytes], Field(min_length=1, max_length=FRAMES)]


@dataclass(frozen=True)
class _Place:
    """Where a clip lies: shard, offset of its first member, length of that member's JSON; hash of the video."""

    shard: Path
    offset: int
    header: int
    sha256: str


class FrameStore:
    """The frame cache of a dataset, for reading. Pickles and forks: every process opens its own files."""

    def __init__(self, folder: Path, places: dict[str, _Place]) -> None:
        self.folder = folder
        self._places = places
        self._recent: tuple[str, list[int]] | None = None
        self._files: dict[tuple[int, Path], BinaryIO] = {}

    @classmethod
    def find(cls, root: Path) -> "FrameStore | None":
        """The frame cache below a dataset's root, or None when there is none (or one of another version)."""
        places: dict[str, _Place] = {}
        for shard, index in _indices(cache_folder(root)):
            for id, (offset, header, sha256) in index.clips.items():
                places[id] = _Place(shard, offset, header, sha256)
        return cls(cache_folder(root), places) if places else None

    def __contains__(self, clip: Clip) -> bool:
        """Whether the clip is in the cache, made from the same file content as in the manifest."""
        place = self._places.get(clip.id)
        return place is not None and place.sha256 == clip.sha256

    def __len__(self) -> int:
        return len(self._places)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}

    def count(self, clip: Clip) -> int:
        """How many frames of the clip are stored."""
        return len(self._lengths(clip))

    def read(self, clip: Clip, numbers: Iterable[int]) -> npt.NDArray[np.uint8]:
        """Stored frames by number, in any order, repeated or not: uint8 (T, H, W, 3) RGB.

        Raises UserError when the shard is gone or damaged.
        """
        place, lengths = self._places[clip.id], self._lengths(clip)
        starts = np.cumsum([_member_size(place.header), *map(_member_size, lengths[:-1])])
        frames = {}
        for number in set(map(int, numbers)):
            data = self._bytes(place, int(starts[number]) + _BLOCK, lengths[number])
            image = decode_frame(data)
            if image is None:
                raise self._damaged(place)
            frames[number] = image
        if len({frame.shape for frame in frames.values()}) > 1:
            raise self._damaged(place)
        return np.stack([frames[int(number)] for number in numbers])

    def _lengths(self, clip: Clip) -> list[int]:
        """The length of each frame's JPEG in bytes; kept for the last clip."""
        if self._recent is None or self._recent[0] != clip.id:
            place = self._places[clip.id]
            try:
                header = _Header.model_validate(json.loads(self._bytes(place, _BLOCK, place.header)))
            except (ValueError, RecursionError):
                raise self._damaged(place) from None
            if header.path != clip.id:
                raise self._damaged(place)
            self._recent = (clip.id, header.lengths)
        return self._recent[1]

    def _bytes(self, place: _Place, offset: int, length: int) -> bytes:
        try:
            file = self._open(place.shard)
            file.seek(place.offset + offset)
            data = file.read(length)
        except OSError as error:
            raise UserError(f"cannot read frame cache {place.shard}: {error.strerror}") from None
        if len(data) != length:
            raise self._damaged(place)
        return data

    def _open(self, shard: Path) -> BinaryIO:
        """The shard's file, opened by this process. If too many are open, the one that was opened first is closed."""
        key = (os.getpid(), shard)
        if key not in self._files:
            if len(self._files) >= _OPEN:
                self._files.pop(next(iter(self._files))).close()
            self._files[key] = shard.open("rb")
        return self._files[key]

    def _damaged(self, place: _Place) -> UserError:
        return UserError(
            f"frame cache {place.shard} is damaged",
            "prepare the dataset again with --cache to rebuild the damaged shard, or train with "
            "--set data.cache=false",
        )


def cache_folder(root: Path) -> Path:
    """Where a dataset's frame cache lies."""
    return root / WORK_FOLDER / "frames"


def plan_shards(root: Path, clips: Sequence[Clip]) -> list[tuple[Path, list[Clip]]]:
    """The shards that still have to be written, as (file, clips), without the clips that are already stored.

    Shards of another recipe, damaged shards and leftovers of an interrupted run are deleted. Every shard is read once
    to check it, which takes little time compared with decoding.

    Raises:
        UserError: a file can't be deleted.
    """
    folder = cache_folder(root)
    finished = {shard for shard, index in _indices(folder) if _is_whole(shard, index)}
    for file in [*folder.glob("frames-*"), *folder.glob(".frames-*")]:
        if file.with_suffix(".tar") not in finished:
            try:
                file.unlink()
            except OSError as error:
                raise UserError(f"cannot delete {file}: {error.strerror}") from None
    store = FrameStore.find(root)
    todo = [clip for clip in clips if clip.frames and (store is None or clip not in store)]
    first = 1 + max((int(path.stem.rpartition("-")[2]) for path in finished), default=-1)
    groups = [todo[start : start + CLIPS_PER_SHARD] for start in range(0, len(todo), CLIPS_PER_SHARD)]
    return [(folder / f"frames-{first + number:06d}.tar", group) for number, group in enumerate(groups)]


def write_shard(
    shard: Path, root: Path, clips: Iterable[Clip], before_clip: Callable[[Clip], None]
) -> list[tuple[str, str]]:
    """Decode clips into one shard and its index; returns (id, reason) for each clip that can't be read.

    before_clip: called with each clip before it is decoded. The shard is complete once its index exists.
    Raises UserError when a file can't be written.
    """
    places: dict[str, tuple[int, int, str]] = {}
    broken: list[tuple[str, str]] = []
    with replacing(shard) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, clip in enumerate(clips):
                before_clip(clip)
                try:
                    header, images = _encode(root, clip)
                except VideoError as error:
                    broken.append((clip.id, error.reason))
                    continue
                key = f"{shard.stem.rpartition('-')[2]}{number:04d}"
                places[clip.id] = (tar.offset, len(header), clip.sha256)
                _add(tar, f"{key}.json", header)
                for place, image in enumerate(images):
                    _add(tar, f"{key}.{place:03d}.jpg", image)
        sha256 = file_sha256(temporary)
    index = {"recipe": _RECIPE, "sha256": sha256, "clips": places}
    write_text(shard.with_suffix(".json"), json.dumps(index, separators=(",", ":")))
    return broken


def encode_frame(frame: npt.NDArray[np.uint8], quality: int, colour: str) -> bytes:
    """A frame uint8 (H, W, 3) RGB as JPEG; colour: its resolution, `420`, `422` or `444`."""
    import cv2

    factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{colour}")
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
    return bytes(cv2.imencode(".jpg", frame[..., ::-1], flags)[1])


def decode_frame(data: bytes) -> npt.NDArray[np.uint8] | None:
    """The frame uint8 (H, W, 3) RGB of a JPEG, None when it is damaged."""
    import cv2

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # a damaged header may claim more pixels than OpenCV allows
        return None
    return None if image is None else np.asarray(image, np.uint8)[..., ::-1]


def _encode(root: Path, clip: Clip) -> tuple[bytes, list[bytes]]:
    rule = SamplingRule(min(FRAMES, clip.frames))
    size = SHORT_SIDE if min(clip.width, clip.height) > SHORT_SIDE else None
    frames, times = read_clip(root, clip, rule, size)
    images = [encode_frame(frame, QUALITY, "444") for frame in frames]
    header = {
        "path": clip.id,
        "label": clip.label,
        "split": clip.split,
        "lengths": [len(image) for image in images],
        "times": [round(float(time), 3) for time in times],
    }
    return json.dumps(header, separators=(",", ":")).encode(), images


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _member_size(length: int) -> int:
    """Bytes of a tar member: a header block, then the data in whole blocks."""
    return _BLOCK + -(-length // _BLOCK) * _BLOCK


def _indices(folder: Path) -> list[tuple[Path, _Index]]:
    """The finished shards of this version with their indices. Damaged indices are skipped with a warning."""
    indices = []
    for file in sorted(folder.glob("frames-*.json")):
        try:
            index = _Index.model_validate(json.loads(file.read_text(encoding="utf-8")))
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror}") from None
        except (ValueError, RecursionError):
            logger.warning("%s is damaged: its clips count as not cached", printable(file))
            continue
        if index.recipe == _RECIPE:
            indices.append((file.with_suffix(".tar"), index))
    return indices


def _is_whole(shard: Path, index: _Index) -> bool:
    """Whether the content of a shard matches its index."""
    try:
        whole = file_sha256(shard) == index.sha256
    except OSError:
        whole = False
    if not whole:
        logger.warning("%s is damaged and will be rebuilt", printable(shard))
    return whole
