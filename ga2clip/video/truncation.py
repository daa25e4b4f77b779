"""Detects video files that were cut off: they hold fewer frames or bytes than their header promises."""

from ga2clip.video.source import OpenVideo

# RIFF (AVI): "RIFF", then the number of bytes that follow (Microsoft RIFF, little endian).
# Matroska, WebM: elements of an id and a size of variable length (RFC 8794); the segment holds all frames.
_EBML_HEADER = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"


def cut_warnings(video: OpenVideo, frames: int) -> tuple[str, ...]:
    """A warning sentence if the file is shorter than its header says; empty if it isn't or the format doesn't tell.

    frames: number of packets in the whole file.
    """
    # Only MP4's header counts the frames that can be decoded; AVI also counts frames without change.
    # An edit list can leave out frames; then they are not in the index either.
    mp4 = video.format.startswith("mov")
    promised = min(video.stream.frames, len(video.stream.index_entries)) if mp4 else 0
    if promised > frames:
        return (f"the file ends early: its header promises {promised} frames, it holds {frames}",)
    with open(video.file, "rb") as file:
        head = file.read(4096)
        size = file.seek(0, 2)
    claimed = claimed_size(head)
    if claimed is not None and size < claimed:
        return (f"the file ends early: its header promises {claimed} bytes, it has {size}",)
    return ()


def claimed_size(head: bytes) -> int | None:
    """The file size in bytes that the header of an AVI, Matroska or WebM file claims; None if it has none."""
    if head[:4] == b"RIFF" and len(head) >= 8:
        return 8 + int.from_bytes(head[4:8], "little")
    at = head.find(_SEGMENT)
    if head[:4] == _EBML_HEADER and at >= 0:
        return _ebml_end(head, at + len(_SEGMENT))
    return None


def _ebml_end(head: bytes, at: int) -> int | None:
    """The end of the element whose size field begins at `at`; None if its size is unknown (all ones: live)."""
    field = head[at : at + 8]
    length = 9 - field[0].bit_length() if field else 9  # the leading zeros of a field encode its length
    if length > len(field):
        return None
    ones = (1 << 7 * length) - 1
    value = int.from_bytes(field[:length], "big") & ones
    return None if value == ones else at + length + value
