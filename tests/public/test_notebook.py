"""docs/own-ideas.ipynb: its cells run as they stand, in order, without a network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "own-ideas.ipynb"


def test_holds_no_outputs() -> None:
    """They would be wrong some day."""
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path) -> None:
    """In a process of its own, since what it registers stays."""
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    script = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    (tmp_path / "cells.py").write_text(script, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "cells.py"],
        cwd=tmp_path,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert "squares: 3 classes" in ended.stdout
    assert "'norm': " in ended.stdout
    assert "top-1" in ended.stdout
