"""Errors for the user: a message (what failed, and where) and a hint (what to do)."""

import difflib
from collections.abc import Iterable

_LISTED = 25
"""Most valid names that a hint lists."""


class UserError(Exception):
    """An error that the user can correct; the command line shows it without a traceback.

    Attributes:
        message: what failed and where, one line.
        hint: what to do about it, one or two lines, or None.
        exit_code: of the command line.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class MissingExtraError(UserError):
    """An optional dependency is needed but not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the '{extra}' extra", f"pip install 'ga2clip[{extra}]'")


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """The error for a name that is not one of `valid`; the hint has the nearest name, and all names if they are few."""
    names = sorted(valid)
    spelled = {known.lower(): known for known in names}
    near = [spelled[key] for key in difflib.get_close_matches(name.lower(), spelled, n=5, cutoff=0.5)]
    offer = f"did you mean '{near[0]}'? " if near else ""
    if len(names) <= _LISTED:
        return UserError(f"unknown {kind} '{name}'", f"{offer}valid: {', '.join(names)}")
    return UserError(
        f"unknown {kind} '{name}'", f"{offer}nearest of {len(names)}: {', '.join(near) or 'none'}"
    )


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or the name of its type if it has no message."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
