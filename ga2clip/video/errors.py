"""The error for one video file or stream: its name, and what is wrong with it."""

import os

from ga2clip.errors import UserError


def printable(name: str | bytes | os.PathLike[str]) -> str:
    """The name of a file on one line of plain text: line breaks, control characters and bytes that are not
    UTF-8 are shown as escapes, so that any name can be logged and printed.
    """
    text = os.fsdecode(name)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class VideoError(UserError):
    """A video that cannot be read. path: as it was given; reason: why, as the second half of a sentence."""

    def __init__(self, path: str | bytes | os.PathLike[str], reason: str, hint: str | None = None) -> None:
        super().__init__(f"cannot read the video '{printable(path)}': {reason}", hint)
        self.path = os.fsdecode(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type["VideoError"], tuple[str, str, str | None]]:
        # Worker processes send errors to their parent: the default would call __init__ with the message alone.
        return type(self), (self.path, self.reason, self.hint)
