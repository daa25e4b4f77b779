"""Deprecation of public names: the old name keeps working for a while and warns once what replaces it."""

import warnings

_said: set[str] = set()


def warn_deprecated(old: str, instead: str) -> None:
    """Warn once per process that `old` will be removed; the warning points to the code that used it.

    Call this at the top of the old function or module.

    Args:
        old: the old name, as users write it.
        instead: the name to use instead.
    """
    if old in _said:
        return
    _said.add(old)
    # 1 is this function, 2 the old function or module, 3 its caller (Python skips the frames of the import system).
    warnings.warn(f"{old} is deprecated: use {instead}", DeprecationWarning, stacklevel=3)
