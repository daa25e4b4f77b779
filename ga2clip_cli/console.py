"""Output of the command line: results on stdout; errors, hints and log records on stderr.

Only this module decides what is shown when something fails: message and hint of a `UserError`, one line for any other
exception, and a traceback only with `--debug`. It also removes terminal control sequences from all untrusted text, such
as names of files and bundles.
"""

import gc
import json
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from ga2clip.errors import MissingExtraError, UserError, first_line
from ga2clip.text import printable, printable_lines

T = TypeVar("T")
_NOT_ASCII = re.compile(r"[^\n -~]")
_TRAIN_PACKAGES = (
    "torch",
    "torchvision",
    "open_clip",
    "safetensors",
    "onnx",
    "onnxscript",
    "matplotlib",
    "jinja2",
    "scipy",
)


class _Plain(logging.Formatter):
    """`warning: text` from level WARNING on, plain text below."""

    def format(self, record: logging.LogRecord) -> str:
        text = printable_lines(super().format(record))
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


class _StderrHandler(logging.StreamHandler):
    """Writes log records above a running progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(self.format(record))


def set_up(debug: bool) -> None:
    """Send the project's log records to stderr, and let both streams accept every file name and class name.

    Warnings of libraries are only shown with `debug`, and are never raised as errors, even with PYTHONWARNINGS=error:
    everything that users should know is a log record of ours.
    """
    warnings.simplefilter("default" if debug else "ignore")
    for stream in (sys.stdout, sys.stderr):
        # A file name may have bytes that are not UTF-8; print an escape instead of raising an exception.
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    handler = _StderrHandler()
    handler.setFormatter(_Plain("%(message)s"))
    for name in ("ga2clip", "ga2clip_export"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.DEBUG if debug else logging.INFO)
        logger.propagate = False
    if not debug:
        # A failed download is reported by our own error in one line, not by forty lines of the libraries.
        logging.getLogger().addHandler(logging.NullHandler())
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")


def keep_stdout_clean() -> None:
    """Redirect descriptor 1 to stderr, so that output of libraries doesn't mix with the results on stdout.

    Closed descriptors (`>&-`) are first opened as /dev/null; otherwise a file that is opened later would get their
    number, and messages would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free
    if sys.stderr is None:  # print would take stdout instead
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (for as long as the process lives)
    if sys.stdout is not None:
        sys.stdout.flush()
        results = os.dup(1)
        os.dup2(2, 1)
        sys.stdout = open(  # noqa: SIM115
            results, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors
        )


@contextmanager
def loading() -> Iterator[None]:
    """A block that loads modules. What they make stays, so searching it for garbage again and again only takes time."""
    if gc.get_freeze_count():  # else another program's process, whose garbage is its own affair
        gc.disable()
    try:
        yield
    finally:
        loaded()


def loaded() -> None:
    """Collect garbage from now on, but not in what is there, if it was not collected until now."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def finish() -> None:
    """Discard output that could not be written, so that Python doesn't report it again when the process ends."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(text: str) -> None:
    """Print a message on stderr."""
    _say(printable_lines(text))


def _say(text: str) -> None:
    """Print text on stderr, above a running progress bar; errors are ignored."""
    with suppress(OSError):
        if "tqdm" in sys.modules:
            sys.modules["tqdm"].tqdm.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr)
        sys.stderr.flush()


def is_first_process() -> bool:
    """Whether this process prints and writes files; under torchrun only the first one does."""
    return os.environ.get("RANK", "0") == "0"


def has_terminal() -> bool:
    """Whether stderr is a terminal, so that progress bars are shown."""
    return sys.stderr.isatty()


def emit(text: str) -> None:
    """Print a result on stdout. Raises UserError when stdout is closed or its disk is full."""
    if not is_first_process():
        return
    if sys.stdout is None:
        raise UserError("stdout is closed: the result cannot be printed", "leave out >&-, or write to a file")
    try:
        print(printable_lines(text), flush=True)
    except BrokenPipeError:
        raise  # the reader of the pipe has closed it
    except OSError as error:
        from ga2clip.files import write_error

        raise write_error(Path("stdout"), error, "free some space on that disk and start again") from error


def emit_json(value: Any) -> None:
    """Print a result as one JSON object on stdout; characters that the stream can't encode are escaped."""
    utf8 = sys.stdout is not None and (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, indent=2, ensure_ascii=not utf8)
    emit(_NOT_ASCII.sub(lambda c: c[0] if c[0].isprintable() else json.dumps(c[0])[1:-1], text))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with columns as wide as their longest cell; numbers are right-aligned."""
    cells = [list(map(printable, row)) for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    right = [all(row[column][:1].isdigit() for row in rows) for column in range(len(head))]
    padded = (
        [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)]
        for row in cells
    )
    return "\n".join("  ".join(row).rstrip() for row in padded)


def progress(items: Iterable[T], total: int, unit: str) -> Iterator[T]:
    """The same items, with a progress bar if stderr is a terminal and there are several items."""
    if total < 2 or not has_terminal():
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, total=total, unit=unit, leave=False)


@contextmanager
def bars(unit: str) -> Iterator[Callable[[str, int, int], None]]:
    """A function of (activity, done, total) that shows a progress bar per activity on stderr."""
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
    """A function that shows the seconds of video done so far on stderr."""
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
        note(f"error: unexpected {type(error).__name__}: {first_line(error)}")
        note("hint: run again with --debug for the traceback; it belongs into a bug report")
        return 1
    note(f"error: {printable(error.message)}")
    if error.hint:
        note(f"hint: {error.hint}")
    return error.exit_code


def _as_user_error(error: BaseException) -> BaseException:
    """A UserError for a missing optional package, a full disk, or a failed read or write; else the error itself."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in _TRAIN_PACKAGES:
        return MissingExtraError(f"this command (it uses {(error.name or '').split('.')[0]})", "train")
    from ga2clip.files import full_disk, write_error

    cause: BaseException | None = error
    while cause is not None:
        if full := full_disk(cause):
            return write_error(Path(str(full.filename or "a file")), full)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, OSError) and error.filename is not None:
        return UserError(f"{error.filename}: {error.strerror}")
    return error
