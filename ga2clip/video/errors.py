"""`VideoError`, the error for one video file or stream."""

import os

from ga2clip.errors import UserError
from ga2clip.text import printable


class VideoError(UserError):
    """A video that cannot be read. path: as the caller gave it; reason: text behind the colon of the message."""

    def __init__(self, path: str | bytes | os.PathLike[str], reason: str, hint: str | None = None) -> None:
        super().__init__(f"cannot read the video '{printable(path)}': {reason}", hint)
        self.path = os.fsdecode(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type["VideoError"], tuple[str, str, str | None]]:
        # Worker processes send errors to their parent: the default would call __init__ with the message alone.
        return type(self), (self.path, self.reason, self.hint)
