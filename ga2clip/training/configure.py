"""Composes the settings of a run from the dataset, the method, a recipe and the user's options.

Later ones override earlier ones: defaults, the dataset's template, the method, the recipe, the authors' settings (with
`--preset authors`), options, `--set`. Exception: prompt lengths and depths of a method override those of a recipe. A
recipe is a TOML file with settings tables under `common`, under the names of protocols (there also under `shots.K`) and
under `backbones.NAME` (where that backbone is chosen), and may extend a shipped recipe; a plain settings file, such as
the `settings.toml` of a run, is also accepted.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from ga2clip.data.manifest import dataset_root
from ga2clip.descriptions import read_descriptions
from ga2clip.errors import UserError, unknown_name
from ga2clip.model.methods import method_settings
from ga2clip.registry import DATASETS
from ga2clip.run import SETTINGS, read_settings
from ga2clip.settings import (
    OPTIMISATION,
    AugmentSettings,
    AverageSettings,
    BackboneSettings,
    Preset,
    Protocol,
    Settings,
    TrainingSettings,
)
from ga2clip.settings_reading import merge, parse_overrides, read_toml

PROTOCOLS: tuple[str, ...] = get_args(Protocol)
PRESETS: tuple[str, ...] = get_args(Preset)
# The sections that a method sets; those of a recipe for another method are ignored.
_OF_THE_METHOD = ("method", "anchors", "loss")
_SIZES = frozenset({"text_length", "text_depth", "vision_length", "vision_depth"})
# What a recipe decides about the optimisation, as it is where nobody has decided.
_NOBODYS: dict[str, Any] = {
    "augment": AugmentSettings(scale_min=1.0, flip=0.0).model_dump(),
    "average": AverageSettings().model_dump(),
    "loss": {"label_smoothing": 0.0},
    "training": TrainingSettings().model_dump(include=set(OPTIMISATION)),
}
_RECIPES = "recipes"
_COMMON = "common"
_SHOTS = "shots"
_BACKBONES = "backbones"
_EXTENDS = "extends"


@dataclass(frozen=True)
class Case:
    """The protocol, number of shots and backbone for which a recipe is read; None: the recipe's or the default."""

    protocol: str | None = None
    shots: int | None = None
    backbone: str | None = None


def configure(
    *,
    dataset: str | None = None,
    method: str | None = None,
    protocol: str | None = None,
    recipe: str | Path | None = None,
    preset: str | None = None,
    descriptions: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
) -> Settings:
    """Compose the settings of a run.

    Args:
        dataset, method, protocol: None: the recipe's, or the default.
        recipe: a file, or the name of a shipped recipe; None: the dataset's own.
        preset: `authors`: override the recipe by the settings that the method's authors publish.
        descriptions: a file of class descriptions, or `builtin` for those that come with the dataset; None: the
            recipe's.
        options: a nested tree of settings, such as {"training": {"seed": 2}}.
        overrides: `section.key=value` strings.

    Raises:
        UserError: an unknown dataset, method, protocol, recipe or setting (the hint has the nearest name), or
            descriptions that can't be read.
    """
    wishes = _with_whole_backbone(merge(options or {}, parse_overrides(overrides)))
    data = wishes.get("data", {})
    dataset = data.get("dataset") or dataset
    protocol = data.get("protocol") or protocol
    if protocol is not None and protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    if preset is not None and preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    case = Case(protocol, data.get("shots"), wishes.get("backbone", {}).get("name"))
    source, tree, written = _read_recipe(recipe, dataset, case)
    dataset = dataset or tree.get("data", {}).get("dataset") or Settings().data.dataset
    sentence = {"method": {"scenario_template": DATASETS[dataset].template}}
    method = wishes.get("method", {}).get("name") or method
    chosen_method = method or tree.get("method", {}).get("name") or Settings().method.name
    composed = method_settings(chosen_method)
    # A file that names its method was written for it. Others, also a recipe that it extends, name one for those who ask
    # for none, and their generic numbers give way to what a method declares.
    written_for = written.get("method", {}).get("name")
    if written_for and written_for != chosen_method:
        tree = {section: values for section, values in tree.items() if section not in _OF_THE_METHOD}
    of_its_own = written.get("method", {}).keys() if written_for == chosen_method else ()
    tree = {**tree, "method": {**tree.get("method", {}), "name": chosen_method}}
    tree = _without_sizes(composed["method"], tree, but=of_its_own)
    couples = "coupling" in composed["method"] or "coupling" in of_its_own
    if not couples:  # a recipe says how methods couple, not which
        tree = _without_coupling(tree)
    settings = Settings().updated(merge(sentence, composed), "method").updated(tree, source)
    if preset == "authors":
        settings = _as_authors(settings, chosen_method, dataset, case)
    if descriptions is not None:
        settings = settings.model_copy(update={"descriptions": read_descriptions(descriptions, dataset)})
    chosen: dict[str, Any] = {"data": {"dataset": dataset} | ({"protocol": protocol} if protocol else {})}
    if dataset != settings.data.dataset:  # the folder of a recipe's dataset is not that of another one
        chosen["data"]["root"] = ""
    if "epochs" in wishes.get("training", {}):  # a run that was extended has stages, which a new one has not
        chosen["training"] = {"extended": ()}
    settings = _with_absolute_paths(settings.updated(merge(chosen, wishes), "the command line"))
    _check_parts(settings)
    return settings


def _with_absolute_paths(settings: Settings) -> Settings:
    """The settings with the paths of the dataset made absolute, since the run may be read from other folders."""
    data = settings.data
    files = {
        key: ",".join(str(Path(part.strip()).absolute()) for part in value.split(",") if part.strip())
        for key in ("split_file", "test_split_file", "labels")
        if (value := getattr(data, key))
    }
    if Path(data.class_names).is_file():
        files["class_names"] = str(Path(data.class_names).absolute())
    files["root"] = str(dataset_root(data).absolute())
    tree: dict[str, Any] = {"data": files}
    if Path(settings.anchors.source).is_dir() and settings.anchors.source not in ("builtin", "unused"):
        tree["anchors"] = {"source": str(Path(settings.anchors.source).absolute())}
    return settings.updated(tree, "the working folder")


def _check_parts(settings: Settings) -> None:
    """Raises UserError for unknown settings of a part, before anything is loaded."""
    if settings.parts:
        from ga2clip.model.part import part_options  # loads torch

        for name in settings.parts:
            part_options(name, settings)


def _with_whole_backbone(wishes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options with a consistent pair of architecture and weights.

    If only a weights file is given, the recipe's architecture is dropped, since the file may hold any; if only `tiny`
    is given, its built-in weights are used. Paths become absolute, since the run may be read from other folders.
    """
    wish = {key: _absolute(key, value) for key, value in wishes.get("backbone", {}).items()}
    weights, built_in = wish.get("pretrained"), BackboneSettings()
    if weights is None and wish.get("name") == built_in.name:
        wish["pretrained"] = built_in.pretrained
    elif isinstance(weights, str) and BackboneSettings(pretrained=weights).from_file:
        wish.setdefault("name", "")
    return {**wishes, "backbone": wish} if wish else wishes


def _absolute(key: str, value: Any) -> Any:
    """A setting of the backbone with its path made absolute, if it is one."""
    if not isinstance(value, str):
        return value
    file = value.endswith(".json") if key == "name" else BackboneSettings(pretrained=value).from_file
    return str(Path(value).expanduser().absolute()) if file else value


def _without_sizes(
    declared: Mapping[str, Any], tree: Mapping[str, Any], *, but: Collection[str]
) -> dict[str, Any]:
    """The recipe without the lengths and depths of prompts that the method declares itself, except those in `but`."""
    gone = _SIZES & declared.keys() - set(but)
    return {**tree, "method": {k: v for k, v in tree.get("method", {}).items() if k not in gone}}


def _without_coupling(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {**tree, "method": {k: v for k, v in tree.get("method", {}).items() if k != "coupling"}}


def _as_authors(settings: Settings, method: str, dataset: str, case: Case) -> Settings:
    """The settings of a method's authors instead of the recipe's, where a recipe is not their own.

    What depends on the machine and the data stays: frames, micro-batches, loader processes, the backbone.
    """
    theirs = dataset in _authors_recipes(method)
    tree = authors_tree(method, case, alone=theirs)
    if not theirs:
        settings = settings.updated(_NOBODYS, "no recipe")
    source = f"the authors' settings of {method}"
    mine = merge(method_settings(method), {"method": {"preset": "authors"}})
    return settings.updated(merge(mine, tree), source)


def authors_tree(method: str, case: Case, *, alone: bool = False) -> dict[str, Any]:
    """The settings that a method's authors publish, for a protocol and a number of shots.

    alone: without the recipe that their file extends. Raises UserError for a method or a protocol for which its
    authors publish none.
    """
    tree = read_toml(_authors_file(method))
    published = [name for name in PROTOCOLS if name in tree]
    protocol = case.protocol or Settings().data.protocol
    if protocol not in published:
        raise UserError(
            f"the authors of '{method}' publish no settings for the protocol {protocol}",
            f"they do for {', '.join(published)}; leave --preset away to take the recipe's",
        )
    left_out = {_RECIPES, _EXTENDS} if alone else {_RECIPES}
    return _for_case({key: value for key, value in tree.items() if key not in left_out}, case)


def _authors_recipes(method: str) -> list[str]:
    """The datasets whose recipes are the settings of the method's authors."""
    recipes: list[str] = read_toml(_authors_file(method)).get(_RECIPES, [])
    return recipes


def authors_text(method: str) -> str:
    """The file of a method's published settings: TOML, with its sources as comments. Raises as `authors_tree`."""
    return _authors_file(method).read_text(encoding="utf-8")


def authors_methods() -> list[str]:
    """The methods whose authors' settings ship."""
    return sorted(file.stem for file in (_folder() / "authors").glob("*.toml"))


def _authors_file(method: str) -> Path:
    if method not in authors_methods():
        known = ", ".join(authors_methods())
        raise UserError(f"there are no published settings of '{method}' to take", f"there are of {known}")
    return _folder() / "authors" / f"{method}.toml"


def imported_settings(dataset: str | None) -> Settings:
    """The published settings for an imported checkpoint, with the dataset's recipe if a dataset is given.

    Raises UserError for an unknown dataset.
    """
    if dataset is not None:
        return configure(dataset=dataset, method="ivlp")
    return configure(recipe="published", method="ivlp").updated(
        {"data": {"dataset": "", "root": ""}}, "import"
    )


def recipe_names() -> list[str]:
    """The recipes that ship, by dataset."""
    return sorted(file.stem for file in _folder().glob("*.toml"))


def recipe_tree(name: str, case: Case) -> dict[str, Any]:
    """The shipped settings for a case, by the name of a dataset or of a recipe.

    Raises:
        UserError: there is no such recipe.
    """
    recipe = DATASETS[name].recipe if name in DATASETS else name
    return _for_case(_read_shipped(recipe), case)


def _read_recipe(
    recipe: str | Path | None, dataset: str | None, case: Case
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Where the settings are from, for error messages; their tree; and what of it the file itself holds."""
    if recipe is None:
        name = dataset or Settings().data.dataset
        return f"recipe {name}", _for_case(_read_shipped(DATASETS[name].recipe), case), {}
    path = Path(recipe)
    if path.suffix != ".toml" and not path.exists():
        return f"recipe {recipe}", recipe_tree(str(recipe), case), {}
    if path.is_dir():  # a run, whose settings are checked: cut ones would be those of another training
        tree = read_settings(path).model_dump(mode="json")
        return str(path / SETTINGS), tree, tree
    tree = read_toml(path)
    alone = {key: value for key, value in tree.items() if key != _EXTENDS}
    return str(path), _for_case(tree, case), _for_case(alone, case)


def _for_case(tree: dict[str, Any], case: Case) -> dict[str, Any]:
    """The tables of a recipe for a case, merged; a plain settings file unchanged."""
    if not tree.keys() & {_COMMON, _EXTENDS, _BACKBONES, *PROTOCOLS}:
        return tree
    tree = _extended(tree)
    unknown = sorted(tree.keys() - {_COMMON, _BACKBONES, *PROTOCOLS})
    if unknown:
        valid = f"{_COMMON}, {', '.join(PROTOCOLS)}, {_BACKBONES}.NAME, each with settings"
        raise UserError(f"unknown table '{unknown[0]}' in a recipe", f"valid: {valid}")
    common = tree.get(_COMMON, {})
    data = {**Settings().data.model_dump(), **common.get("data", {})}
    own = dict(tree.get(case.protocol or data["protocol"], {}))
    by_shots = own.pop(_SHOTS, {})
    shots = data["shots"] if case.shots is None else case.shots
    chosen = merge(merge(common, own), by_shots.get(str(shots), {}))
    name = chosen.get("backbone", {}).get("name") if case.backbone is None else case.backbone
    return merge(chosen, tree.get(_BACKBONES, {}).get(name, {}))


def _extended(tree: dict[str, Any]) -> dict[str, Any]:
    """A recipe merged over the shipped one that it extends."""
    if _EXTENDS not in tree:
        return tree
    below = _extended(_read_shipped(str(tree[_EXTENDS])))
    own = {key: value for key, value in tree.items() if key != _EXTENDS}
    whole = {key: table if key == _BACKBONES else _with_whole_backbone(table) for key, table in own.items()}
    return merge(below, whole)


def _read_shipped(name: str) -> dict[str, Any]:
    if name not in recipe_names():
        raise unknown_name("recipe", name, recipe_names())
    return read_toml(_folder() / f"{name}.toml")


def _folder() -> Path:
    return Path(str(resources.files("ga2clip.recipes")))
