"""A few trials of `make kill-trials`, always the same."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "kill_trials.py"


@pytest.mark.slow
def test_what_was_killed_goes_on_to_the_same_files() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "5", "--seed", "3"],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 of 5 trials passed" in done.stdout
