"""The entry point; exit codes are 0 done, 1 failed, 2 wrong usage, 130 interrupted."""

import sys

from ga2clip_cli import console


def main() -> None:
    """Entry point of `ga2clip` and `python -m ga2clip_cli`."""
    if sys.stdout is sys.__stdout__:  # not in a process that is somebody else's, such as that of a test
        console.keep_stdout_clean()
    debug = _take_debug(sys.argv)
    console.set_up(debug)
    try:
        from ga2clip_cli.app import app

        app()
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(console.report(error, debug=debug))
    finally:
        console.finish()


def _take_debug(argv: list[str]) -> bool:
    """Remove `--debug` wherever it stands before a `--`: people append it to the line that failed."""
    end = argv.index("--") if "--" in argv else len(argv)
    found = "--debug" in argv[:end]
    argv[:end] = [word for word in argv[:end] if word != "--debug"]
    return found


if __name__ == "__main__":
    main()
