"""The house's table of floors, held true: every import of every module is walked, in functions too."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "ga2clip": ROOT / "ga2clip",
    "ga2clip_cli": ROOT / "ga2clip_cli",
    "ga2clip_export": ROOT / "export" / "ga2clip_export",
}


def under(*names: str) -> tuple[str, ...]:
    return tuple(f"ga2clip.{name}" for name in names)


# room: (floor, module prefixes), docs/architecture.md's table. The first match counts, so longer prefixes stand first.
ROOMS: dict[str, tuple[int, tuple[str, ...]]] = {
    "cli": (6, ("ga2clip_cli",)),
    "front": (6, under("api")),  # and the package itself
    "experiments": (5, under("experiments")),
    "export": (5, ("ga2clip_export",)),
    "training": (4, under("training", "recipes")),
    "evaluation": (4, under("evaluation")),
    "compute": (3, under("compute")),
    "runs": (3, under("run", "run_files", "environment", "interop", "hard_prompt")),
    "runtime": (2, under("runtime")),
    "model": (2, under("model")),
    "data": (2, under("data")),
    "video": (1, under("video")),
    "ground": (
        0,
        under(
            "errors",
            "settings",
            "settings_table",
            "files",
            "labels",
            "label_files",
            "lock",
            "tokenizer",
            "predictions",
            "registry",
            "deprecation",
            "text",
            "assets",
        ),
    ),
}
STDLIB = sys.stdlib_module_names
TORCH_FREE = ("ground", "video", "runtime")
TORCH = ("torch", "torchvision", "open_clip", "safetensors")
# What a command module may import before a command is chosen; more costs start-up time.
CLI_TOP_LEVEL = {"typer", "ga2clip_cli", "ga2clip.errors", "ga2clip.predictions", "ga2clip.text"}


def module_name(package: str, path: Path) -> str:
    parts = (package, *path.relative_to(PACKAGES[package]).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(package, path): path
    for package, folder in PACKAGES.items()
    for path in sorted(folder.rglob("*.py"))
}


def room_of(module: str) -> str | None:
    if module == "ga2clip":
        return "front"
    for room, (_, prefixes) in ROOMS.items():
        if any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes):
            return room
    return None


def imports(nodes: Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which room is entered"
            assert node.module is not None
            # `from ga2clip.video import decode` may name a module or something in one.
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements that run when the module is imported, but not those for type checkers."""
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield from (
            part
            for part in ast.walk(node)
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or part is node
        )


def parse(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def test_every_module_has_a_room() -> None:
    assert MODULES
    assert [m for m in MODULES if room_of(m) is None] == []


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    room = room_of(module)
    assert room is not None
    for imported in imports(ast.walk(parse(module))):
        other = room_of(imported)
        if other is None or other == room:
            continue
        assert ROOMS[other][0] < ROOMS[room][0], f"{module} ({room}) imports {imported} ({other})"


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) in TORCH_FREE])
def test_torch_free_rooms(module: str) -> None:
    heavy = [name for name in imports(ast.walk(parse(module))) if name.split(".")[0] in TORCH]
    assert heavy == []


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) == "cli"])
def test_the_command_line_starts_light(module: str) -> None:
    for name in imports(top_level(parse(module))):
        light = name.split(".")[0] in sys.stdlib_module_names or any(
            name == allowed or name.startswith(allowed + ".") for allowed in CLI_TOP_LEVEL
        )
        assert light, f"{module} imports {name} before a command is chosen"


def test_pyproject_lists_every_package() -> None:
    """A folder that is not listed would be missing from the wheel and from nowhere else."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0] for name in MODULES}
    assert folders == set(listed)


def test_the_package_loads_nothing_before_it_is_used() -> None:
    loaded = [name for name in imports(top_level(parse("ga2clip"))) if name.split(".")[0] not in STDLIB]
    assert loaded == []
