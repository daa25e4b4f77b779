"""Registries of parts, loss terms, backbone families, datasets and loggers: ours and those of other installed packages.

Torch-free. Names are listed without importing the things themselves, so settings and help texts can be checked before
torch is loaded.
"""

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any, TypeVar

from ga2clip.errors import UserError, unknown_name

T = TypeVar("T")


class Registry:
    """The registered things of one kind, by name.

    A name comes from one of three places: a file of `package` (the name is the file's), an entry point of `group` in an
    installed package, or a call of `register`. Importing the file or the entry point's module must register the thing
    under that name.

    kind: the word for one of them in messages. separator: replaces the underscores of file names in names.
    """

    def __init__(self, kind: str, package: str, group: str, separator: str = "_") -> None:
        self.kind, self.package, self.group, self._separator = kind, package, group, separator
        self._things: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Register a thing under `name`. Works as a decorator, or as a call: `register(name)(thing)`.

        Args:
            name: the name in settings, options and help texts.

        Returns:
            A function that registers its argument and returns it unchanged.

        Raises:
            UserError: another thing is registered under that name (raised when the returned function is called).

        Example:
            >>> @ga2clip.register_part("feature_scale")
            ... class FeatureScale(Part): ...
        """

        def keep(thing: T) -> T:
            if self._things.setdefault(name, thing) is not thing:
                raise UserError(f"the {self.kind} '{name}' is registered twice", "rename one of them")
            return thing

        return keep

    def names(self) -> tuple[str, ...]:
        """Every known name, sorted; nothing is imported."""
        return tuple(sorted({*self._files(), *self._things, *_entry_points(self.group)}))

    def __contains__(self, name: object) -> bool:
        # Entry points come last: finding them reads the metadata of every installed package.
        return name in self._things or name in self._files() or name in _entry_points(self.group)

    def __getitem__(self, name: str) -> Any:
        """The thing of that name. Raises UserError with the nearest valid name for an unknown one."""
        if name not in self._things:
            self._import(name)
        if name not in self._things:
            raise UserError(
                f"'{name}' was found as a {self.kind}, but importing it does not register that name",
                f"its file must call the registry with '{name}'",
            )
        return self._things[name]

    def _import(self, name: str) -> None:
        if name in self._files():
            importlib.import_module(f"{self.package}.{name.replace(self._separator, '_')}")
        elif name in (points := _entry_points(self.group)):
            points[name].load()
        else:
            raise unknown_name(self.kind, name, self.names())

    def _files(self) -> frozenset[str]:
        return frozenset(name.replace("_", self._separator) for name in _modules(self.package))


@cache
def _modules(package: str) -> frozenset[str]:
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return frozenset(module.name for module in pkgutil.iter_modules(places or []))


@cache
def _entry_points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


PARTS = Registry("part", "ga2clip.model.parts", "ga2clip.parts")
TERMS = Registry("loss term", "ga2clip.model.terms", "ga2clip.terms")
BACKBONES = Registry("backbone family", "ga2clip.model.backbones", "ga2clip.backbones")
DATASETS = Registry("dataset", "ga2clip.data.datasets", "ga2clip.datasets", separator="-")
LOGGERS = Registry("logger", "ga2clip.training.loggers", "ga2clip.loggers")
