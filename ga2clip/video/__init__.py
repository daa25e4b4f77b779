"""Reading and writing video: decoding (PyAV), sampling (pure functions of frame numbers), CLIP's preprocessing.

Torch-free. What needs PyAV is imported on first use: a model opens while it loads. Drawing (`ga2clip.video.draw`) needs
OpenCV and is imported on its own.
"""

from typing import TYPE_CHECKING

from ga2clip.video.errors import VideoError
from ga2clip.video.fetch import LocalFile, is_byte_stream, local_file
from ga2clip.video.find import VIDEO_SUFFIXES, bare_name, find_videos
from ga2clip.video.preprocess import Preprocess, centre_crop, resize_short_side, three_crops
from ga2clip.video.sampling import SamplingRule, sample_indices, segment_indices

if TYPE_CHECKING:
    from ga2clip.video.clock import Gap
    from ga2clip.video.read import SampledClip, VideoInfo, probe, probe_times, read_frames, sample_frames
    from ga2clip.video.stream import Playback, iter_frames
    from ga2clip.video.write import write_video

__all__ = [
    "VIDEO_SUFFIXES",
    "Gap",
    "LocalFile",
    "Playback",
    "Preprocess",
    "SampledClip",
    "SamplingRule",
    "VideoError",
    "VideoInfo",
    "bare_name",
    "centre_crop",
    "find_videos",
    "is_byte_stream",
    "iter_frames",
    "local_file",
    "probe",
    "probe_times",
    "read_frames",
    "resize_short_side",
    "sample_frames",
    "sample_indices",
    "segment_indices",
    "three_crops",
    "write_video",
]

if not TYPE_CHECKING:  # a type checker would take any name for a valid one

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        from ga2clip.video import clock, read, stream, write

        value = next(vars(module)[name] for module in (clock, read, stream, write) if name in vars(module))
        globals()[name] = value
        return value
