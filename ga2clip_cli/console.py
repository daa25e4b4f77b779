"""Results go in and reach stdout; errors, hints and log records go in and reach stderr in a line or two.

This is the only module that decides what a person sees when something fails: a `UserError` shows what
failed and what to do, anything else one line, and a traceback appears with `--debug` alone.
"""

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from ga2clip.errors import MissingExtraError, UserError

T = TypeVar("T")
_TRAIN_PACKAGES = ("torch", "torchvision", "open_clip", "safetensors", "onnx", "onnxscript", "matplotlib")


class _Plain(logging.Formatter):
    """`warning: text` for what needs attention, plain text for the rest."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


class _StderrHandler(logging.StreamHandler):
    """Writes above a running progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        if "tqdm" in sys.modules:
            sys.modules["tqdm"].tqdm.write(self.format(record), file=sys.stderr)
        else:
            super().emit(record)


def set_up(debug: bool) -> None:
    """Route the project's log records to stderr and make both streams take every file name and class name."""
    for stream in (sys.stdout, sys.stderr):
        # A file name may hold bytes that are not text; an escape is better than an exception while printing.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    handler = _StderrHandler()
    handler.setFormatter(_Plain("%(message)s"))
    for name in ("ga2clip", "ga2clip_export"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.DEBUG if debug else logging.INFO)
        logger.propagate = False
    if not debug:
        # A download that fails is said in one line by our own error, not in forty by the libraries below.
        logging.getLogger().addHandler(logging.NullHandler())
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")


def note(text: str) -> None:
    """One line for the person, on stderr."""
    print(text, file=sys.stderr, flush=True)


def is_first_process() -> bool:
    """Under torchrun every process runs the command; one of them speaks and writes."""
    return os.environ.get("RANK", "0") == "0"


def has_terminal() -> bool:
    """Progress bars are for people: a log file gets the lines alone."""
    return sys.stderr.isatty()


def emit(text: str) -> None:
    """A result, on stdout."""
    if is_first_process():
        print(text, flush=True)


def emit_json(value: Any) -> None:
    """A result as one JSON object on stdout; characters that the stream can't hold are escaped."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    emit(json.dumps(value, indent=2, ensure_ascii=not utf8))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest cell; numbers to the right."""
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    right = [all(row[column][:1].isdigit() for row in rows) for column in range(len(head))]
    padded = (
        [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)]
        for row in cells
    )
    return "\n".join("  ".join(row).rstrip() for row in padded)


def one_line(name: str) -> str:
    """A file name that holds line breaks or control characters, shown with escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def progress(items: Iterable[T], total: int, unit: str) -> Iterator[T]:
    """The same items with a progress bar on stderr, when that is a terminal and there are several."""
    from tqdm import tqdm

    quiet = total < 2 or not has_terminal()
    yield from tqdm(items, total=total, unit=unit, disable=quiet, leave=False)


@contextmanager
def bars(unit: str) -> Iterator[Callable[[str, int, int], None]]:
    """A function of (what, done, total) that shows one progress bar after the other on stderr."""
    from tqdm import tqdm

    shown: dict[str, Any] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in shown:
            close()
            shown[what] = tqdm(total=total, desc=what, unit=unit, disable=None, leave=False)
        shown[what].total = total
        shown[what].update(done - shown[what].n)

    def close() -> None:
        while shown:
            shown.popitem()[1].close()

    try:
        yield show
    finally:
        close()


@contextmanager
def seconds_bar() -> Iterator[Callable[[float], None]]:
    """A function of the seconds of video done so far that shows them on stderr."""
    from tqdm import tqdm

    with tqdm(unit="s", disable=None, leave=False, bar_format="{n:.0f} s of video, {elapsed}") as bar:

        def show(done: float) -> None:
            bar.update(done - bar.n)

        yield show


def report(error: BaseException, *, debug: bool) -> int:
    """Show an error that ended a command on stderr and return the exit code."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        note("interrupted")
        return 130
    error = _as_user_error(error)
    if not isinstance(error, UserError):
        note(f"error: unexpected {type(error).__name__}: {_first_line(error)}")
        note("hint: run again with --debug for the traceback; it belongs into a bug report")
        return 1
    note(f"error: {error.message}")
    if error.hint:
        note(f"hint: {error.hint}")
    return error.exit_code


def _as_user_error(error: BaseException) -> BaseException:
    """An absent optional package and a failed read or write are the user's to fix."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in _TRAIN_PACKAGES:
        return MissingExtraError(f"this command (it uses {(error.name or '').split('.')[0]})", "train")
    if isinstance(error, OSError) and error.filename is not None:
        return UserError(f"{error.filename}: {error.strerror}")
    return error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["(no message)"])[0]
