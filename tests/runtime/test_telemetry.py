"""ONNX Runtime reports nothing: no file in the user's cache, no socket, in a process that is watched."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("ga2clip", "ga2clip_cli", "export", "benchmarks", "scripts", "tests")
WATCHED = """
import json, os, sys, time
import ga2clip.runtime
if sys.argv[2:]:
    import onnxruntime
sockets = []
sys.addaudithook(lambda event, args: sockets.append(event) if event.startswith("socket.") else None)
import numpy as np
from ga2clip.runtime import Predictor
with Predictor(sys.argv[1], provider="cpu", threads=1, cache=False) as predictor:
    predictor.predict_frames(np.zeros((2, 8, 8, 3), np.uint8))
    predictor.predict_frames(np.zeros((2, 8, 8, 3), np.uint8), ["a", "b"])
    time.sleep(1.0)  # the queue is written and sent from threads
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink("/proc/self/fd/" + name))
        except OSError:
            pass  # the folder that was listed
print(json.dumps({"sockets": sockets, "links": links}))
"""


def watch(
    bundle: Path, home: Path, *arguments: str, **variables: str
) -> tuple[dict[str, list[str]], list[str]]:
    """What a process that predicts opens, and the files that it leaves in its home."""
    home.mkdir()
    inherited = {key: value for key, value in os.environ.items() if key not in ("ORT_DISABLE_TELEMETRY",)}
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "TMPDIR": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(bundle), *arguments],
        env=inherited | places | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout), [path.name for path in home.rglob("*") if path.is_file()]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("arguments", [(), ("and a program loads onnxruntime before the first predictor",)])
def test_a_process_that_predicts_writes_nothing_and_opens_no_connection(
    handmade: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    opened, files = watch(handmade, tmp_path / "home", *arguments)
    assert (opened["sockets"], files) == ([], [])
    assert not [link for link in opened["links"] if link.startswith("socket:") or "onnxruntime.db" in link]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_whoever_wants_it_turns_it_on(handmade: Path, tmp_path: Path) -> None:
    """This also shows that the test above sees something where there is something."""
    _, files = watch(handmade, tmp_path / "home", ORT_DISABLE_TELEMETRY="0")
    if not files:
        pytest.skip("this build of ONNX Runtime has no telemetry")
    assert "onnxruntime.db" in files


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}


def test_one_module_loads_onnx_runtime() -> None:
    """Whoever loads it elsewhere loads it with its telemetry."""
    files = [path for place in PLACES for path in sorted((ROOT / place).rglob("*.py"))]
    assert len(files) > 100
    found = [str(path.relative_to(ROOT)) for path in files if "onnxruntime" in imports(path)]
    assert found == [str(Path("ga2clip/runtime/ort.py"))]
