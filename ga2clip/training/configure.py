"""A dataset, a method and a person's wishes go in, the settings of one run come out.

Later layers win: defaults ← the dataset's sentence ← method ← recipe ← options ← `--set`. A recipe is a TOML file of
settings tables, under `common` and under the name of a protocol, and may extend a shipped one; or it is a plain
settings file, such as the `settings.toml` of a run.
"""

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from ga2clip.errors import UserError, unknown_name
from ga2clip.model.methods import method_settings
from ga2clip.registry import DATASETS
from ga2clip.settings import Protocol, Settings, merge, parse_overrides, read_toml

PROTOCOLS: tuple[str, ...] = get_args(Protocol)
# The sections that a method composes; a recipe that was written for another method keeps out of them.
_OF_THE_METHOD = ("method", "anchors", "loss")
_COMMON = "common"
_EXTENDS = "extends"


def configure(
    *,
    dataset: str | None = None,
    method: str | None = None,
    protocol: str | None = None,
    recipe: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
) -> Settings:
    """The settings of a run.

    dataset, method, protocol: None leaves the recipe's or the default. recipe: a file, or the name of a shipped
    one; None: the dataset's own. options: a nested tree of settings such as {"training": {"seed": 2}}.
    overrides: `section.key=value` strings.
    Errors: UserError for unknown datasets, methods, protocols, recipes and settings, each with the nearest name.
    """
    wishes = merge(options or {}, parse_overrides(overrides))
    data = wishes.get("data", {})
    dataset = data.get("dataset") or dataset
    protocol = data.get("protocol") or protocol
    if protocol is not None and protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    source, tree = _read_recipe(recipe, dataset, protocol)
    dataset = dataset or tree.get("data", {}).get("dataset") or Settings().data.dataset
    sentence = {"method": {"scenario_template": DATASETS[dataset].template}}
    method = wishes.get("method", {}).get("name") or method
    named = tree.get("method", {}).get("name")
    if method and named and method != named:
        tree = {section: values for section, values in tree.items() if section not in _OF_THE_METHOD}
    composed = method_settings(method or named or Settings().method.name)
    # A file that names its method was written for it; others may give lengths to branches that have no prompt.
    tree = tree if named else _within(composed, tree)
    settings = Settings().updated(merge(sentence, composed), "method").updated(tree, source)
    chosen = {"data": {"dataset": dataset} | ({"protocol": protocol} if protocol else {})}
    return settings.updated(merge(chosen, wishes), "the command line")


def _within(composed: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe without prompt lengths for a branch that the method leaves unprompted."""
    absent = {key for key in ("text_length", "vision_length") if composed["method"].get(key) == 0}
    kept = {key: value for key, value in tree.get("method", {}).items() if key not in absent}
    return {**tree, "method": kept}


def imported_settings(dataset: str | None) -> Settings:
    """The published settings for a checkpoint of others; with a dataset its recipe, else one that names none.

    Errors: UserError for an unknown dataset.
    """
    if dataset is not None:
        return configure(dataset=dataset, method="ivlp")
    return configure(recipe="published", method="ivlp").updated({"data": {"dataset": ""}}, "import")


def recipe_names() -> list[str]:
    """The recipes that ship, by dataset."""
    return sorted(file.stem for file in _folder().glob("*.toml"))


def recipe_tree(name: str, protocol: str | None) -> dict[str, Any]:
    """The shipped settings for a protocol, by the name of a dataset or of a recipe.

    Raises:
        UserError: there is no such recipe.
    """
    recipe = DATASETS[name].recipe if name in DATASETS else name
    return _for_protocol(_read_shipped(recipe), protocol)


def _read_recipe(
    recipe: str | Path | None, dataset: str | None, protocol: str | None
) -> tuple[str, dict[str, Any]]:
    """Where the settings are from, for error messages, and their tree."""
    if recipe is None:
        name = dataset or Settings().data.dataset
        return f"recipe {name}", _for_protocol(_read_shipped(DATASETS[name].recipe), protocol)
    path = Path(recipe)
    if path.suffix != ".toml" and not path.exists():
        return f"recipe {recipe}", recipe_tree(str(recipe), protocol)
    if path.is_dir():
        path = path / "settings.toml"
    return str(path), _for_protocol(read_toml(path), protocol)


def _for_protocol(tree: dict[str, Any], protocol: str | None) -> dict[str, Any]:
    """The tables of a recipe that count; a plain settings file counts as a whole."""
    if not tree.keys() & {_COMMON, _EXTENDS, *PROTOCOLS}:
        return tree
    tree = _extended(tree)
    unknown = sorted(tree.keys() - {_COMMON, *PROTOCOLS})
    if unknown:
        valid = f"{_COMMON}, {', '.join(PROTOCOLS)}, each with settings"
        raise UserError(f"unknown table '{unknown[0]}' in a recipe", f"valid: {valid}")
    common = tree.get(_COMMON, {})
    protocol = protocol or common.get("data", {}).get("protocol") or Settings().data.protocol
    return merge(common, tree.get(protocol, {}))


def _extended(tree: dict[str, Any]) -> dict[str, Any]:
    """A recipe laid over the shipped one that it extends."""
    if _EXTENDS not in tree:
        return tree
    below = _extended(_read_shipped(str(tree[_EXTENDS])))
    return merge(below, {key: value for key, value in tree.items() if key != _EXTENDS})


def _read_shipped(name: str) -> dict[str, Any]:
    if name not in recipe_names():
        raise unknown_name("recipe", name, recipe_names())
    return read_toml(_folder() / f"{name}.toml")


def _folder() -> Path:
    return Path(str(resources.files("ga2clip.recipes")))
