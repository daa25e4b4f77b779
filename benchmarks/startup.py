"""Wall time from process start to exit of the commands that must feel immediate: medians of several rounds.

python benchmarks/startup.py [--bundle runs/ga2/bundle --clip clip.mp4] [--rounds 7]
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path


def median_seconds(command: list[str], rounds: int) -> float:
    """One warm-up fills the disk cache; then the median of the rounds."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    command = [sys.executable, "-m", "ga2clip_cli"]
    cases = {"python itself": [sys.executable, "-c", "pass"], "ga2clip --help": [*command, "--help"]}
    cases["ga2clip predict --help"] = [*command, "predict", "--help"]
    if options.bundle and options.clip:
        predict = [*command, "predict", str(options.clip), "--model", str(options.bundle)]
        cases["ga2clip predict CLIP"] = predict
    print("| command | median seconds |\n|---|---|")
    for name, words in cases.items():
        print(f"| `{name}` | {median_seconds(words, options.rounds):.2f} |")


if __name__ == "__main__":
    main()
