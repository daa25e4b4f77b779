"""What went wrong, as a person can act on it: a message (what, where) and a hint (what to do)."""

import difflib
from collections.abc import Iterable

_LISTED = 25
"""So many valid names still fit into a hint."""


class UserError(Exception):
    """A mistake or a circumstance that the user can change; the command line shows it without a traceback.

    message: what failed and where, one line. hint: what to do about it, one or two lines. exit_code: what the
    command line returns.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class MissingExtraError(UserError):
    """An optional dependency is needed and not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the '{extra}' extra", f"pip install 'ga2clip[{extra}]'")


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """The error for a name that is not one of `valid`: it offers the nearest and lists them, if they are few."""
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
    """The first line of what an exception says, or its type where it says nothing."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
