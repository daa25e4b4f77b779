"""Time from process start to exit of the commands that must feel immediate: seconds and processor seconds, medians of
rounds in which all take turns.

    python benchmarks/startup.py [--bundles runs/ga2/bundle bundle-int8 --clip clip.mp4] [--rounds 7]
    python benchmarks/startup.py --bundles … --clip clip.mp4 --before ../old/.venv/bin/ga2clip    # beside another one
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds and processor seconds of a process."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    # Modules keep their compiled form, as where the command is installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    taken, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cases(ga2clip: str, options: argparse.Namespace) -> dict[str, list[str]]:
    """The command lines by name."""
    found = {"ga2clip --help": [ga2clip, "--help"], "ga2clip predict --help": [ga2clip, "predict", "--help"]}
    for bundle in options.bundles:
        predict = [ga2clip, "predict", str(options.clip), "--model", str(bundle), "--json"]
        found[f"ga2clip predict CLIP --model {bundle}"] = predict
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundles", type=Path, nargs="*", default=[])
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--before", help="the command of another version")
    options = parser.parse_args()
    if options.bundles and not options.clip:
        parser.error("--bundles need a --clip")
    own = cases(str(Path(sys.executable).with_name("ga2clip")), options)
    commands = {"python itself": [sys.executable, "-c", "pass"], **own}
    if options.before:
        commands |= {f"{name}, before": words for name, words in cases(options.before, options).items()}
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(options.rounds + 1):  # the first fills the disk's cache
        for name, command in commands.items():
            rounds[name].append(timed(command))
    print("| command | s | processor s |\n|---|---|---|")
    for name, taken in rounds.items():
        seconds, work = (statistics.median(column) for column in zip(*taken[1:], strict=True))
        print(f"| `{name}` | {seconds:.2f} | {work:.2f} |")


if __name__ == "__main__":
    main()
