"""Single frames of a long file, decoded only from the key frame before each, found by the time stamps of packets.

Frames are numbered in display order. Whatever makes these numbers doubtful (missing, repeated or inexact time
stamps, damage) makes this module decline; the caller then decodes the file from its beginning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from ga2clip.video.decode import read_packets
from ga2clip.video.source import OpenVideo

# Seeking has to leave out at least this share of the decoding to be worth its own cost.
_WORTH = 0.5


@dataclass(frozen=True)
class PacketTable:
    """The frames of a file as its packets announce them, in display order.

    Attributes:
        stamps: int64 (n,) time stamps in units of the stream's time base.
        keys: int64 (k,) numbers of the key frames.
        last_duration: of the last frame, in the same units; 0 where the packet does not say.
        packets: all that are in the file, also those that are not to be shown.
        exact: whether the stamps are strictly increasing, begin with a key frame, never jump back and come from an
            undamaged file, so that they can stand for the frames themselves.
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
        """Splits sorted frame numbers into runs; each one is decoded without a gap, from a key frame on.

        frames    K....K....K....K....
        wanted      xx   x      x  x
        decoded   rrrr rrr  rrrrr rr      three runs: the third key frame lies before the frames it leads to
        """
        runs: list[list[int]] = []
        for number in wanted:
            if runs and self.key_before(number) <= runs[-1][-1]:
                runs[-1].append(number)
            else:
                runs.append([number])
        return runs

    def worth_seeking(self, wanted: Sequence[int]) -> bool:
        """Whether seeking is safe and decodes at most half of what reading from the beginning would."""
        if not self.exact:
            return False
        cost = sum(run[-1] - self.key_before(run[0]) + 1 for run in self.runs(wanted))
        return cost <= _WORTH * len(self)


def read_packet_table(video: OpenVideo) -> PacketTable:
    """Reads through the whole file without decoding."""
    shown: list[tuple[int, int, bool]] = []  # time stamp, duration, key frame
    packets = 0
    exact = video.format not in ("avi", "hls")  # no presentation times; parts of other files
    latest = decoded = None
    try:
        for packet in read_packets(video):
            packets += 1
            stamp = packet.pts
            exact = exact and stamp is not None and not packet.is_corrupt
            # Within a recording no key frame is shown before what came earlier, and nothing is decoded before it.
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
    """Puts the file at a key frame that is shown at or before a time stamp. False when it did not get there."""
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
    """Calls keep(number, frame) for each wanted frame; wanted: sorted, without repetition, table.exact.

    Returns False to decline: a frame was not where the table has it, or something is damaged. Raises VideoError
    when the time limit is over.
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
    """Decodes on from where the file stands until all targets (time stamp → number) were seen."""
    packets = read_packets(video)
    try:
        while targets:
            packet = next(packets, None)
            for frame in video.stream.decode(packet):
                # Frames that are shown before the key frame may lack what they are built on; none is wanted.
                if frame.is_corrupt and (frame.pts is None or frame.pts >= key):
                    return False
                if frame.pts in targets:
                    keep(targets.pop(frame.pts), frame)
            if packet is None:
                break
    except av.FFmpegError:
        return False
    return not targets
