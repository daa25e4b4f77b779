"""A prediction is a short process: what it loads decides how long it takes."""

import subprocess
import sys
from pathlib import Path

import numpy as np

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
}


def test_a_prediction_loads_nothing_that_it_does_not_use(tmp_path) -> None:
    clip = tmp_path / "clip.mp4"
    write_video(clip, (np.full((32, 32, 3), 9 * n, np.uint8) for n in range(8)), 8)
    bundle = Path(ga2clip.__file__).parent / "assets" / "tiny" / "bundle"
    command = [sys.executable, "-c", _RUN, "predict", str(clip), "--model", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "%" in done.stdout
    assert _NEEDLESS & set(done.stderr.split()) == set()


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
