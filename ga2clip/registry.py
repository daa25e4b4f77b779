"""Where the toolkit grows: named things of one kind, found in the files of a package or in other people's packages.

Torch-free. Names are known without importing what they stand for, so settings and help texts can be checked before
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
    """Things of one kind by name.

    A name comes from one of three places: a file of `package` (whose name it is), an entry point of `group` in
    somebody's installed package, or a call of `register`. Importing the file or the entry point's module must
    register the thing under that name.

    kind: what a thing is called in messages. separator: what stands in names for the underscores of file names.
    """

    def __init__(self, kind: str, package: str, group: str, separator: str = "_") -> None:
        self.kind, self.package, self.group, self._separator = kind, package, group, separator
        self._things: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator, or a function of the thing, that makes it known under `name`.

        Raises:
            UserError: another thing has that name.
        """

        def keep(thing: T) -> T:
            if self._things.setdefault(name, thing) is not thing:
                raise UserError(
                    f"there are two things of kind '{self.kind}' named '{name}'", "rename one of them"
                )
            return thing

        return keep

    def names(self) -> tuple[str, ...]:
        """Every known name, sorted; nothing is imported."""
        return tuple(sorted({*self._files(), *self._things, *_entry_points(self.group)}))

    def __contains__(self, name: object) -> bool:
        # The metadata of every installed package is read for the last of the three.
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
