"""What `import ga2clip` offers: quickly, without torch, and each name where it says."""

import ast
import inspect
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import ga2clip
from ga2clip import registry

NAMES = [
    *("Predictor", "open_predictor", "read_frames", "load_published", "train", "evaluate", "export"),
    *("teach", "embed", "read_features"),
    *("register_part", "register_term", "register_backbone", "register_dataset", "register_logger"),
    "__version__",
]


def loaded_after(code: str) -> set[str]:
    """Top-level packages that are loaded in a fresh process after some code."""
    script = f"import sys; before = set(sys.modules); {code}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_names_are_these() -> None:
    assert sorted(ga2clip.__all__) == sorted(NAMES)
    assert set(NAMES) <= set(dir(ga2clip))
    for name in NAMES:
        assert getattr(ga2clip, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'predictor'"):
        ga2clip.predictor  # type: ignore[attr-defined]  # noqa: B018


def test_type_checkers_are_told_the_same_names() -> None:
    tree = ast.parse(Path(ga2clip.__file__).read_text(encoding="utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    told = {
        alias.asname or alias.name for n in block.body if isinstance(n, ast.ImportFrom) for alias in n.names
    }
    told |= {n.id for n in ast.walk(block) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    assert told - {"PARTS", "TERMS", "BACKBONES", "DATASETS", "LOGGERS"} == set(NAMES)


def test_importing_loads_nothing_heavy() -> None:
    assert loaded_after("import ga2clip; dir(ga2clip)") <= {"ga2clip", *sys.stdlib_module_names}
    # It reads email, zipfile and more, for `__version__` alone.
    loaded_after("import ga2clip; assert 'importlib.metadata' not in set(sys.modules) - before")


@pytest.mark.parametrize(
    "name", ["Predictor", "open_predictor", "read_frames", "teach", "embed", "register_part", "__version__"]
)
def test_what_predicts_needs_no_torch(name: str) -> None:
    heavy = {"torch", "torchvision", "open_clip", "safetensors", "onnx", "onnxruntime", "matplotlib"}
    assert not loaded_after(f"from ga2clip import {name}") & heavy


def test_the_version_is_that_of_the_installed_package() -> None:
    assert ga2clip.__version__ == metadata.version("ga2clip")


def test_registering_reaches_the_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("PARTS", "TERMS", "BACKBONES", "DATASETS"):
        monkeypatch.setattr(getattr(registry, kind), "_things", {})
    assert ga2clip.register_part("a-part")(str) is str
    assert registry.PARTS["a-part"] is str
    for register, kind in (
        (ga2clip.register_term, registry.TERMS),
        (ga2clip.register_backbone, registry.BACKBONES),
        (ga2clip.register_dataset, registry.DATASETS),
    ):
        register("own")(int)
        assert kind["own"] is int


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("register", "__"))])
def test_public_docstrings_have_sections(name: str) -> None:
    thing = getattr(ga2clip, name)
    text = inspect.getdoc(thing) or ""
    assert "\nArgs:\n" in text
    assert "\nRaises:\n" in text
    parameters = [p for p in inspect.signature(thing).parameters if p != "self"]
    missing = [p for p in parameters if f"    {p}: " not in text and f"    {p}, " not in text]
    assert missing == []
