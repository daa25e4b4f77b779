"""docs/architecture.md names files, functions and settings that exist, and every room of the code."""

import ast
import re
from pathlib import Path

import pytest

from ga2clip.settings import Settings
from tests.test_floors import MODULES, ROOMS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
DECIDED = TEXT.partition("## Where things are decided")[2].partition("\n## ")[0]
FILE = re.compile(r"`((?:\w+/)*[\w*]+\.(?:py|toml|md|ipynb))(?:: ([\w.]+))?`")
SETTING = re.compile(rf"`((?:{'|'.join(Settings.model_fields)})\.(?!py`)\w+)`")


def defined(file: Path) -> set[str]:
    """Names of functions, classes and Class.method in a file."""
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)
            }
    return names


def places(name: str) -> list[Path]:
    """Files that a name on the page means: below the repository's root or below the package."""
    return [path for top in (ROOT, ROOT / "ga2clip") for path in top.glob(name)]


@pytest.mark.parametrize(("name", "thing"), sorted(set(FILE.findall(TEXT))))
def test_files_and_what_they_define_exist(name: str, thing: str) -> None:
    if "NAME" in name or name == "feature_scale.py" or name.endswith(("/feature_scale.py", "/norm.py")):
        return  # of the drills
    found = places(name)
    assert found
    assert not thing or any(thing in defined(file) for file in found)


@pytest.mark.parametrize("name", sorted(set(SETTING.findall(DECIDED))))
def test_settings_exist(name: str) -> None:
    section, key = name.split(".")
    assert key in type(getattr(Settings(), section)).model_fields


def test_members_of_the_model_exist() -> None:
    named = set(re.findall(r"`(VideoCLIP\.\w+)`", DECIDED))
    body = (ROOT / "ga2clip/model/video_clip.py").read_text(encoding="utf-8")
    assert named
    assert all(re.search(rf"(def |    ){name.partition('.')[2]}\b", body) for name in named)


@pytest.mark.parametrize(
    "question",
    [
        *(
            "temperature",
            "template",
            "which frames",
            "negatives",
            "device",
            "frames → video feature",
            "scores",
        ),
        *("descriptions", "base and novel", "held out", "validation"),
    ],
)
def test_a_stranger_finds_a_file_or_a_setting_for(question: str) -> None:
    rows = [row for row in DECIDED.splitlines() if row.startswith("|") and question in row]
    assert rows
    assert FILE.search(rows[0]) or SETTING.search(rows[0])


def test_every_room_is_in_the_table() -> None:
    table = TEXT.partition("| floor |")[2].partition("\n\n")[0]
    packages = {prefix for _, prefixes in ROOMS.values() for prefix in prefixes} & MODULES.keys()
    rooms = {
        MODULES[name].parent.relative_to(ROOT).as_posix() + "/"
        for name in packages
        if MODULES[name].name == "__init__.py"
    }
    missing = {room for room in rooms if f"`{room}`" not in table}
    assert missing == {"ga2clip/assets/", "ga2clip/recipes/"}  # files without code
