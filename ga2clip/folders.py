"""Folders that appear whole or not at all, and the one for what can be computed again."""

import logging
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ga2clip.files import sync, sync_tree, writing

SETTINGS_FILE = "settings.toml"
"""The file by which a folder is recognised as a run."""
_log = logging.getLogger(__name__)


def user_cache() -> Path:
    """The folder of what can be computed again: `$GA2CLIP_CACHE`, else `ga2clip` in the user's cache folder (XDG base
    directories; LOCALAPPDATA on Windows).
    """
    if own := os.environ.get("GA2CLIP_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "ga2clip"


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A working folder that replaces `out` (also an older folder) when the block ends without an error.

    Leftovers of killed processes that wrote to the same place are removed first; SIGTERM leaves none. If `out` is a
    link, the folder that it points to is replaced. Raises UserError when files can't be written.
    """
    out = Path(os.path.realpath(out))
    work = out.with_name(f".{out.name}.{os.getpid()}")
    old = _old(work)
    try:
        with writing(out), _unwound_by_sigterm():
            _clear_leftovers(out)
            work.mkdir(parents=True)
            yield work
            sync_tree(work)
            if out.exists():
                out.rename(old)
            work.rename(out)
            sync(out.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if old.exists() and not out.exists():  # stopped between the two renames
            old.rename(out)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _unwound_by_sigterm() -> Iterator[None]:
    """While the block runs, SIGTERM raises SystemExit with the usual exit code; a second one ends the process at once.

    Outside the main thread, and where the caller handles SIGTERM, nothing is changed.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(number: int, _: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _old(work: Path) -> Path:
    """The temporary name of the replaced folder, between the two renames."""
    return work.with_name(f"{work.name}.old")


def _clear_leftovers(out: Path) -> None:
    """Remove the working folders for `out` whose process no longer runs."""
    if not out.parent.is_dir():
        return
    pattern = re.compile(rf"\.{re.escape(out.name)}\.(\d+)(\.old)?")
    for path in out.parent.iterdir():
        kind = pattern.fullmatch(path.name)
        # The same process id can only be an earlier process's: in containers ids are often equal.
        if kind is None or (int(kind[1]) != os.getpid() and _is_running(int(kind[1]))):
            continue
        if (
            kind[2] and not out.exists()
        ):  # killed between the two renames: the old folder is the one that is whole
            path.rename(out)
        else:
            _log.info("removing %s, which a killed process left", path)
            shutil.rmtree(path)


def _is_running(pid: int) -> bool:
    if sys.platform == "win32":  # where os.kill would end it
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
