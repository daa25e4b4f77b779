"""How a name of the public surface is given up: it keeps working for a while and says once what replaces it."""

import warnings

_said: set[str] = set()


def warn_deprecated(old: str, instead: str) -> None:
    """Warn that `old` will go away; the warning points at the code that used it and comes once per process.

    Call it first thing in the old function or module.

    Args:
        old: the name as its users write it.
        instead: what to write in its place.
    """
    if old in _said:
        return
    _said.add(old)
    # 1 is this function, 2 the old function or module, 3 whoever used it (Python skips the import system's frames).
    warnings.warn(f"{old} is deprecated: use {instead}", DeprecationWarning, stacklevel=3)
