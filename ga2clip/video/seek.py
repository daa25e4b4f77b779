"""Reads single frames of a long file by seeking: only the frames from the last key frame on are decoded.

Frames are numbered in display order, by the time stamps of their packets. If these numbers are unreliable (missing,
repeated or inexact time stamps, damage), the functions decline, and the caller decodes the file from its beginning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from ga2clip.video.decode import read_packets
from ga2clip.video.source import OpenVideo

# Seeking must save at least this fraction of the decoding to be worth its own cost.
_WORTH = 0.5


@dataclass(frozen=True)
class PacketTable:
    """The frames of a file by its packets, in display order.

    Attributes:
        stamps: int64 (n,) time stamps in units of the stream's time base.
        keys: int64 (k,) numbers of the key frames.
        last_duration: of the last frame, in the same units; 0 if the packet has none.
        packets: number of all packets in the file, including frames that are not shown.
        exact: whether the file is undamaged and its stamps start with a key frame, strictly increase and never jump
            back, so that each stamp identifies one frame.
    """

    stamps: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64]
    last_duration: int
    packets: int
    exact: bool

    def __len__(self) -> int:
        return len(self.stamps)

    def key_before(self, number: int) -> int:
        """The number of the last key frame at or before a frame."""
        return int(self.keys[np.searchsorted(self.keys, number, side="right") - 1])

    def runs(self, wanted: Sequence[int]) -> list[list[int]]:
        """Splits sorted frame numbers into runs; each run is decoded continuously from one key frame.

        frames    K....K....K....K....
        wanted      xx   x      x  x
        decoded   rrrr rrr  rrrrr rr      three runs
        """
        runs: list[list[int]] = []
        for number in wanted:
            if runs and self.key_before(number) <= runs[-1][-1]:
                runs[-1].append(number)
            else:
                runs.append([number])
        return runs

    def worth_seeking(self, wanted: Sequence[int]) -> bool:
        """Whether seeking is safe and decodes at most half of the frames that reading from the beginning would."""
        if not self.exact:
            return False
        cost = sum(run[-1] - self.key_before(run[0]) + 1 for run in self.runs(wanted))
        return cost <= _WORTH * len(self)


def read_packet_table(video: OpenVideo) -> PacketTable:
    """Reads the packets of the whole file, without decoding them."""
    shown: list[tuple[int, int, bool]] = []  # time stamp, duration, key frame
    packets = 0
    exact = video.format not in ("avi", "hls")  # AVI has no presentation times; HLS consists of other files
    latest = decoded = None
    try:
        for packet in read_packets(video):
            packets += 1
            stamp = packet.pts
            exact = exact and stamp is not None and not packet.is_corrupt
            # In a regular recording no key frame is shown before earlier frames, and decoding times don't decrease.
            forward = latest is None or stamp is None or stamp > latest or not packet.is_keyframe
            exact = exact and forward and (decoded is None or packet.dts is None or packet.dts >= decoded)
            latest = stamp if latest is None else max(latest, stamp or latest)
            decoded = packet.dts if packet.dts is not None else decoded
            if not packet.is_discard:
                shown.append((stamp or 0, packet.duration or 0, packet.is_keyframe))
    except av.FFmpegError:
        exact = False
    shown.sort()
    stamps = np.array([stamp for stamp, _, _ in shown], dtype=np.int64)
    keys = np.array([number for number, (_, _, is_key) in enumerate(shown) if is_key], dtype=np.int64)
    exact = (
        exact
        and packets >= video.stream.frames
        and bool(np.all(np.diff(stamps) > 0))
        and keys[:1].tolist() == [0]
    )
    return PacketTable(stamps, keys, shown[-1][1] if shown else 0, packets, exact)


def seek_before(video: OpenVideo, stamp: int) -> bool:
    """Seeks to a key frame that is shown at or before a time stamp. Returns False if that failed."""
    try:
        video.container.seek(stamp, stream=video.stream)
        first = next(read_packets(video), None)
        if first is None or not first.is_keyframe or first.pts is None or first.pts > stamp:
            return False
        video.container.seek(stamp, stream=video.stream)
    except av.FFmpegError:
        return False
    return True


def pick_by_seeking(
    video: OpenVideo, table: PacketTable, wanted: Sequence[int], keep: Callable[[int, VideoFrame], None]
) -> bool:
    """Calls keep(number, frame) for each wanted frame.

    table must be exact; wanted: sorted numbers without repetitions. Returns False to decline: a frame was not where the
    table says, or data is damaged. Raises VideoError when the time limit has passed.
    """
    for run in table.runs(wanted):
        key = int(table.stamps[table.key_before(run[0])])
        targets = {int(table.stamps[number]): number for number in run}
        if not seek_before(video, key) or not _decode_run(video, key, targets, keep):
            return False
    return True


def _decode_run(
    video: OpenVideo, key: int, targets: dict[int, int], keep: Callable[[int, VideoFrame], None]
) -> bool:
    """Decodes from the current position until all targets (time stamp → number) were seen."""
    packets = read_packets(video)
    try:
        while targets:
            packet = next(packets, None)
            for frame in video.stream.decode(packet):
                # Frames shown before the key frame may depend on frames that were not decoded; none of them is wanted.
                if frame.is_corrupt and (frame.pts is None or frame.pts >= key):
                    return False
                if frame.pts in targets:
                    keep(targets.pop(frame.pts), frame)
            if packet is None:
                break
    except av.FFmpegError:
        return False
    return not targets
