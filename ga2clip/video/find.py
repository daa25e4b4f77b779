"""Finds the videos below a folder, by the same rules for all commands, and logs what is left out.

Files with a well-known suffix are taken as videos (or not) by it; of other files the first bytes are checked.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ga2clip.text import printable

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3g2", "3gp", "3gpp", "264", "265", "amv", "asf", "avi", "divx", "dv", "f4v", "flv", "gif", "gxf"),
        *(
            "h264",
            "h265",
            "hevc",
            "ivf",
            "m1v",
            "m2p",
            "m2t",
            "m2ts",
            "m2v",
            "m4v",
            "mj2",
            "mjpeg",
            "mjpg",
            "mkv",
        ),
        *("mov", "mp4", "mpe", "mpeg", "mpg", "mpv", "mts", "mxf", "nut", "obu", "ogg", "ogm", "ogv", "qt"),
        *("rmvb", "ts", "vob", "webm", "wmv", "wtv", "xvid", "y4m"),
    )
)
"""Files with these suffixes count as videos. (A file that is given by name is read whatever its suffix.)"""

# Sound, images, unfinished downloads and other files that are never videos.
_OTHER_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *(
            "aac",
            "flac",
            "m4a",
            "m4b",
            "m4p",
            "mka",
            "mks",
            "mp3",
            "oga",
            "opus",
            "ra",
            "spx",
            "wav",
            "weba",
            "wma",
        ),
        *("bmp", "cr3", "heic", "heif", "jpeg", "jpg", "png", "svg", "tif", "tiff"),
        *("aria2", "crdownload", "download", "filepart", "part", "partial", "tmp", "ytdl"),
        *(
            "csv",
            "gz",
            "json",
            "jsonl",
            "md",
            "npy",
            "npz",
            "pdf",
            "pkl",
            "srt",
            "tar",
            "txt",
            "vtt",
            "xml",
            "zip",
        ),
    )
)
_OURS = ("manifest.json", "prepare_report.csv")
"""What `prepare` writes beside the videos, so that nobody wonders about it."""
_HEAD = 4096
_TS_PACKETS = ((0, 188), (4, 192))
"""Offset and length of the packets of MPEG transport streams, plain and of Blu-ray."""
_SIGNATURES = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG-1 and -2 video
    b"\x00\x00\x01\xb0",  # MPEG-4 part 2
    *(b"\x00\x00\x00\x01" + bytes([kind]) for kind in (0x06, 0x09, 0x27, 0x67)),  # H.264
    b"\x00\x00\x00\x01\x40",  # HEVC
    b"0&\xb2u\x8ef\xcf\x11",  # ASF
    b"FLV\x01",
    b"GIF8",
    b".RMF",
    b"\x06\x0e+4\x02\x05\x01\x01",  # MXF
    b"\x1f\x07\x00",  # DV
    b"DKIF",
    b"YUV4MPEG2",
    b"nut/multimedia",
)
# "avis", an animated AVIF, is none of them.
_STILL_OR_SOUND = (b"avif", b"crx ", b"heic", b"heix", b"heim", b"heis", b"mif1", b"M4A ", b"M4B ", b"M4P ")


def find_videos(folder: Path) -> list[Path]:
    """The video files below a folder, sorted. Links to files and folders are followed, each folder once.

    Hidden files and folders (the cache of `prepare`, waste baskets, `._clip.mp4` of macOS) are skipped silently; other
    files that are not videos are counted by suffix in the log.
    """
    videos: list[Path] = []
    others: Counter[str] = Counter()
    for path in _files(folder):
        if _is_video(path):
            videos.append(path)
        elif path.parent != folder or path.name not in _OURS:
            others[path.suffix.lower() or "without a suffix"] += 1
    if others:
        counts = ", ".join(f"{count} {printable(suffix)}" for suffix, count in sorted(others.items()))
        logger.info("%s: left out, not videos: %s", printable(folder), counts)
    return sorted(videos)


def bare_name(path: str) -> str:
    """A path without its video suffixes; there can be several, as in `clip.mp4.webm`."""
    stem, suffix = os.path.splitext(path)
    while suffix.lower() in VIDEO_SUFFIXES:
        path = stem
        stem, suffix = os.path.splitext(path)
    return path


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder that are not hidden."""

    def refused(error: OSError) -> None:
        logger.warning("cannot look into %s: %s", printable(str(error.filename)), error.strerror)

    visited: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=refused):
        real = os.path.realpath(place)
        if real in visited:  # a link to a folder above it, or a second one to the same folder
            logger.info("%s: left out, because its folder was already searched", printable(place))
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if name[0] != ".")
        yield from (Path(place, name) for name in files if name[0] != ".")


def _is_video(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or suffix in _OTHER_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            return False
        with path.open("rb") as file:
            return _begins_like_a_video(file.read(_HEAD))
    except OSError:
        return False


def _begins_like_a_video(head: bytes) -> bool:
    """Whether a file with these first bytes is a video container or stream."""
    if head[4:8] == b"ftyp":
        return head[8:12] not in _STILL_OR_SOUND
    if head[:4] == b"RIFF":
        animated = head[8:16] == b"WEBPVP8X" and bool(head[20:21]) and bool(head[20] & 2)
        return animated or head[8:12] in (b"AVI ", b"AMV ")
    if head[:4] == b"OggS":
        return b"theora" in head or b"\x01video" in head
    if any(
        all(head[first + n * step : first + n * step + 1] == b"G" for n in range(5))
        for first, step in _TS_PACKETS
    ):
        return True
    return head[4:8] in (b"moov", b"mdat", b"wide") or head.startswith(_SIGNATURES)
