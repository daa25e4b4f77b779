"""A prediction is a short process: what it loads decides how long it takes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ga2clip
from ga2clip.video import write_video

_RUN = """
import sys
from ga2clip_cli.__main__ import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*sys.modules, file=sys.stderr)
"""
_NEEDLESS = {
    "torch",
    "onnx",
    "cv2",
    "ga2clip.settings",
    "ssl",
    "http.client",
    "urllib.request",
    "sqlite3",
} | {
    "numpy.ma",
    "numpy.random",
    "tqdm",
    "ftfy",
    "regex",
    "ga2clip.tokenizer",
    "ga2clip.runtime.feature_cache",
    "ga2clip.runtime.stream",
    "matplotlib",
    "openvino",
    "ga2clip_cli.train",
    "ga2clip_cli.export",
}


def test_a_prediction_loads_nothing_that_it_does_not_use(tmp_path) -> None:
    clip = tmp_path / "clip.mp4"
    write_video(clip, (np.full((32, 32, 3), 9 * n, np.uint8) for n in range(8)), 8)
    bundle = Path(ga2clip.__file__).parent / "assets" / "tiny" / "bundle"
    command = [sys.executable, "-c", _RUN, "predict", str(clip), "--model", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "%" in done.stdout
    loaded = done.stderr.split()
    assert _NEEDLESS & set(loaded) == set()
    assert loaded.index("numpy") < loaded.index("ga2clip.descriptions")  # from as near the start as can be


_OPEN = """
import sys
from pathlib import Path
from ga2clip.runtime.bundle_model import BundleModel
BundleModel(Path(sys.argv[1]), wait=False)
print(*sys.modules)
"""


def test_a_model_begins_to_load_before_the_libraries_that_read_its_videos(tmp_path) -> None:
    bundle = Path(ga2clip.__file__).parent / "assets" / "tiny" / "bundle"
    command = [sys.executable, "-c", _OPEN, str(bundle)]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert "onnxruntime" in loaded
    assert {"av", "PIL", "typer"} & loaded == set()


@pytest.mark.parametrize("own", ["", "20"])
def test_idle_threads_of_numpy_leave_the_cores_to_the_encoder(own: str) -> None:
    """Unless the user says how long they spin. OpenBLAS reads it when NumPy is loaded, and not later."""
    code = f"{_RUN}\nimport os; print(os.environ['OPENBLAS_THREAD_TIMEOUT'], 'numpy' in sys.modules)"
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_THREAD_TIMEOUT"}
    environment |= {"OPENBLAS_THREAD_TIMEOUT": own} if own else {}
    command = [sys.executable, "-c", code, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split()[-2:] == [own or "4", "False"]
