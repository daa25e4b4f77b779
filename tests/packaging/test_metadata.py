"""What `pip install` reads: a base without torch, extras that exist, an entry point that answers."""

import re
from importlib.metadata import entry_points, requires

import pytest

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


@pytest.mark.parametrize("extra", ["train", "tensorboard", "openvino", "dev"])
def test_extras(extra: str) -> None:
    assert names(extra)


def test_onnxruntime_is_one_wheel_or_the_other() -> None:
    """Both together overwrite each other's files."""
    from packaging.requirements import Requirement

    lines = [Requirement(line) for line in REQUIREMENTS if line.startswith("onnxruntime")]
    for platform, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64")):
        environment = {"sys_platform": platform, "platform_machine": machine}
        chosen = [line.name for line in lines if line.marker and line.marker.evaluate(environment)]
        assert len(chosen) == 1
        assert chosen == ["onnxruntime-gpu" if (platform, machine) in {("linux", "x86_64"), ("win32", "AMD64")} else "onnxruntime"]


def test_entry_point() -> None:
    (command,) = entry_points(group="console_scripts", name="ga2clip")
    assert callable(command.load())
