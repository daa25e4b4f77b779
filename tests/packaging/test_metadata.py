"""What `pip install` reads: a base without torch, extras that exist, an entry point that answers."""

import re
import sys
from importlib.metadata import entry_points, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = requires("ga2clip") or []


def names(extra: str | None) -> set[str]:
    marker = f'extra == "{extra}"' if extra else "extra =="
    chosen = [line for line in REQUIREMENTS if (marker in line.replace("'", '"')) == bool(extra)]
    return {re.match(r"[\w.-]+", line)[0].lower() for line in chosen}  # type: ignore[index]


def test_base_install_is_what_a_bundle_needs() -> None:
    base = names(None)
    assert {"numpy", "av", "typer", "tqdm"} <= base
    assert {"onnxruntime-gpu", "onnxruntime"} <= base
    assert not base & {"torch", "torchvision", "open-clip-torch", "open_clip_torch", "onnx", "matplotlib"}


@pytest.mark.parametrize("extra", ["train", "tensorboard", "openvino", "sign", "dev"])
def test_extras(extra: str) -> None:
    assert names(extra)


@pytest.mark.parametrize(
    ("platform", "machine", "wheel"),
    [
        ("linux", "x86_64", "onnxruntime-gpu"),
        ("linux", "aarch64", "onnxruntime"),
        ("darwin", "arm64", "onnxruntime"),
        ("win32", "AMD64", "onnxruntime-gpu"),
    ],
)
def test_onnxruntime_is_one_wheel_or_the_other(platform: str, machine: str, wheel: str) -> None:
    """Both together overwrite each other's files."""
    environment = {"sys_platform": platform, "platform_machine": machine}
    lines = [Requirement(line) for line in REQUIREMENTS if line.startswith("onnxruntime")]
    assert [line.name for line in lines if line.marker and line.marker.evaluate(environment)] == [wheel]


def test_entry_point() -> None:
    (command,) = entry_points(group="console_scripts", name="ga2clip")
    assert callable(command.load())


def test_the_citation_has_the_version_of_the_project() -> None:
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited is not None
    assert cited[1] == project["version"]
