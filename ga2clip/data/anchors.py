"""Anchor videos: clips that belong to no class."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ga2clip.data.manifest import Clip, Manifest, relative_path
from ga2clip.errors import UserError
from ga2clip.video import find_videos


def anchor_clips(source: str, manifest: Manifest, used: Collection[str]) -> tuple[Clip, ...]:
    """The anchor clips of a source, all with label None.

    source: `builtin`: the irrelevant clips that `prepare` generated; `unused`: training clips of those classes of the
    manifest that are not in `used`; otherwise a folder of videos.
    Raises UserError when the source has no clip.
    """
    if source == "builtin":
        clips = tuple(clip for clip in manifest.clips if clip.split == "anchor")
        hint = "prepare the dataset again: that generates them"
    elif source == "unused":
        clips = tuple(
            replace(clip, label=None, split="anchor", other_splits=())
            for clip in manifest.clips
            if clip.split == "train" and clip.label not in used and clip.frames
        )
        hint = "every class of this dataset is used; set anchors.source to builtin or to a folder of videos"
    else:
        folder = Path(source)
        if not folder.is_dir():
            raise UserError(
                f"anchors.source '{source}' is not a folder", "use builtin, unused, or a folder of videos"
            )
        clips = tuple(
            Clip(relative_path(path, manifest.root), None, "anchor", 0, 0.0) for path in find_videos(folder)
        )
        hint = "put videos into it that show none of your classes"
    if not clips:
        raise UserError(f"anchors.source '{source}' has no clip", hint)
    return clips
