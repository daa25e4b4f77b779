"""The entry point of the command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""

import gc
import os
import sys

from ga2clip_cli import console


def main() -> None:
    """Entry point of `ga2clip` and `python -m ga2clip_cli`."""
    own = sys.stdout is sys.__stdout__  # and not called inside another process, such as a test
    if own:
        console.keep_stdout_clean()
        gc.disable()  # until the command begins, see `console.loaded`
    # Looking for plugins of pydantic reads the metadata of all installed packages; none is of use to a command.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Threads of NumPy's OpenBLAS spin for a tenth of a second after they start and after each larger product: time that
    # the encoder wants. With 4, the least, they sleep at once; the same threads compute the same bits.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    debug = _take_debug(sys.argv)
    console.set_up(debug)
    try:
        from ga2clip_cli.app import app

        app()
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(console.report(error, debug=debug))
    finally:
        if own:
            gc.freeze()  # the process ends: no last search for garbage
        console.finish()


def _take_debug(argv: list[str]) -> bool:
    """Remove `--debug` anywhere before a `--`, and return whether it was there: users append it to a failed command."""
    end = argv.index("--") if "--" in argv else len(argv)
    debug = "--debug" in argv[:end]
    argv[:end] = [word for word in argv[:end] if word != "--debug"]
    return debug


if __name__ == "__main__":
    main()
