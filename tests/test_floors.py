"""The house's table of floors, held true: every import of every module is walked, in functions too."""

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

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
            "settings_reading",
            "settings_table",
            "files",
            "folders",
            "labels",
            "label_files",
            "descriptions",
            "lock",
            "tokenizer",
            "tokenizer_json",
            "tokenizer_schema",
            "tokenizer_files",
            "predictions",
            "registry",
            "deprecation",
            "text",
            "assets",
            "choices",
        ),
    ),
}
STDLIB = sys.stdlib_module_names
TORCH_FREE = ("ground", "video", "runtime")
# What the base install brings, by distribution, where its modules are called otherwise.
MODULES_OF = {
    "onnxruntime-gpu": {"onnxruntime"},
    "opencv-python-headless": {"cv2"},
    "opencv-python": {"cv2"},
    "pillow": {"PIL"},
    "pydantic": {"pydantic", "pydantic_core"},
    "tomli-w": {"tomli_w"},
}
# Optional extras in torch-free rooms: imported inside a function, which says how to install what is missing.
LAZY_EXTRAS = {
    "ga2clip.runtime.signature": "cryptography",
    "ga2clip.runtime.engine": "openvino",
    "ga2clip.runtime.parquet": "pyarrow",
    "ga2clip.tokenizer_json": "tokenizers",
}
ONE_PLACE = {"onnxruntime": "ga2clip.runtime.ort"}  # which silences it before it prints
BY_STRING = {"import_module", "__import__", "exec_module", "load_module", "runpy"}
MAY_IMPORT_BY_STRING = ("ga2clip", "ga2clip.registry", "ga2clip_cli.app")  # the last: files of its own room
# What a command module may import before a command is chosen; more costs start-up time.
CLI_TOP_LEVEL = {
    "typer",
    "ga2clip_cli",
    "ga2clip.choices",
    "ga2clip.errors",
    "ga2clip.predictions",
    "ga2clip.text",
}


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


def imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
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


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Everything but what stands below `if TYPE_CHECKING`."""
    yield tree
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from at_run_time(node)


def parse(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def base_install() -> set[str]:
    """The modules of pyproject's own dependencies, those of no extra."""
    names = [re.split(r"[<>=!~;\[ ]", line)[0] for line in project()["project"]["dependencies"]]
    return {module for name in names for module in MODULES_OF.get(name, {name})}


def foreign(module: str, tree: ast.Module) -> list[str]:
    """What a torch-free module imports beyond the base install, or anywhere but in its one place."""
    lazy = LAZY_EXTRAS.get(module)
    early = {name.split(".")[0] for name in imports(top_level(tree))}
    found = []
    for name in imports(ast.walk(tree)):
        package = name.split(".")[0]
        known = package in STDLIB or package in PACKAGES or package in base_install()
        if package == lazy:
            known = lazy not in early
        if not known or ONE_PLACE.get(package, module) != module:
            found.append(name)
    return found


def by_string(tree: ast.AST) -> list[str]:
    """Ways of importing what no reader of the import lines sees."""
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    names += [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    names += [node.name for node in ast.walk(tree) if isinstance(node, ast.alias)]
    return sorted(BY_STRING.intersection(names))


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Modules that import each other in a round, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def package_of(module: str) -> str:
    """The package of a module; files beside the rooms stand on several floors and count for themselves."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    return module if package == "ga2clip" else package


def test_every_module_has_a_room() -> None:
    assert MODULES
    assert [m for m in MODULES if room_of(m) is None] == []


def test_the_page_has_the_same_floors() -> None:
    """Each place in the table of docs/architecture.md stands on the floor that is held here, and no room is missing."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    told: dict[str, int] = {}
    for floor, cell in re.findall(r"^\| (\d) \| (.+?) \|", page, flags=re.MULTILINE):
        for place in re.findall(r"`([^`]+)`", cell):
            folder, braces, names = place.removesuffix(".py").rpartition("{")
            for name in names.rstrip("}").split(",") if braces else [place]:
                path = f"{folder}{name}".removeprefix("export/").removesuffix(".py").rstrip("/")
                module = path.removesuffix("/__init__").replace("/", ".")
                told[module if module.startswith("ga2clip") else f"ga2clip.{module}"] = int(floor)
    told.pop("ga2clip.…", None)
    assert {module: ROOMS[room_of(module) or ""][0] for module in told} == told
    assert {room_of(module) for module in told} == set(ROOMS)


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
    assert foreign(module, parse(module)) == []


@pytest.mark.parametrize("module", [m for m in MODULES if m not in MAY_IMPORT_BY_STRING])
def test_nothing_is_imported_by_a_string(module: str) -> None:
    assert by_string(parse(module)) == []


def test_modules_and_packages_import_in_no_circle() -> None:
    modules: dict[str, set[str]] = {}
    packages: dict[str, set[str]] = {}
    for module in MODULES:
        used = {name for name in imports(at_run_time(parse(module))) if name in MODULES} - {module}
        modules[module] = used
        own = package_of(module)
        packages.setdefault(own, set()).update({package_of(name) for name in used} - {own})
    assert circle(modules) == []
    assert circle(packages) == []


@pytest.mark.parametrize(
    "line",
    [
        "import onnx",
        "def later():\n    import matplotlib.pyplot",
        "import onnxruntime",
        "import openvino",
        "from cryptography import x509",
    ],
)
def test_what_the_base_install_lacks_is_seen(line: str) -> None:
    assert foreign("ga2clip.runtime.engine", ast.parse(line)) != []


@pytest.mark.parametrize(
    "line",
    [
        "importlib.import_module('ga2clip.training.train')",
        "from importlib import import_module as load",
        "__import__('ga2clip.training')",
        "runpy.run_module('ga2clip.training.train')",
    ],
)
def test_an_import_by_a_string_is_seen(line: str) -> None:
    assert by_string(ast.parse(line)) != []


def test_a_circle_is_seen() -> None:
    assert set(circle({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]})) == {"a", "b", "c"}
    lazy = ast.parse("if TYPE_CHECKING:\n    import ga2clip.run\ndef later():\n    import ga2clip.files")
    assert list(imports(at_run_time(lazy))) == ["ga2clip.files"]


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) == "cli"])
def test_the_command_line_starts_light(module: str) -> None:
    for name in imports(top_level(parse(module))):
        light = name.split(".")[0] in sys.stdlib_module_names or any(
            name == allowed or name.startswith(allowed + ".") for allowed in CLI_TOP_LEVEL
        )
        assert light, f"{module} imports {name} before a command is chosen"


def test_pyproject_lists_every_package() -> None:
    """A folder that is not listed would be missing from the wheel and from nowhere else."""
    listed = project()["tool"]["setuptools"]["packages"]
    folders = {name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0] for name in MODULES}
    assert folders == set(listed)


def test_the_package_loads_nothing_before_it_is_used() -> None:
    loaded = [name for name in imports(top_level(parse("ga2clip"))) if name.split(".")[0] not in STDLIB]
    assert loaded == []
