"""How settings are read: TOML files and `section.key=value` overrides, their trees merged, and messages about them."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from ga2clip.errors import UserError, unknown_name
from ga2clip.registry import Registry

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dict. Raises UserError for a missing, unreadable or ill-formed file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read settings {path}: {error.strerror}") from None
    # Not TOMLDecodeError alone: numbers of thousands of digits and bytes that are no UTF-8 raise other ValueErrors.
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """`section.key=value` strings as a nested dict; values are TOML (`3`, `true`, `["a"]`), else plain text.

    Raises UserError for a pair without `=` or a key without its section.
    """
    tree: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        *sections, name = key.strip().split(".")
        if not equals or len(sections) != (2 if sections[:1] == ["parts"] else 1):
            raise UserError(
                f"'{pair}' is not a setting", "write --set section.key=value, such as --set training.lr=0.01"
            )
        inner = tree
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = _toml_value(text.strip())
    return tree


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two nested trees: tables are merged, other values of `above` replace those of `below`."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def check_names(
    section: str, names: Iterable[str], known: Registry, but: frozenset[str] = frozenset()
) -> None:
    """For validators: raises PydanticCustomError, which `explain` reads, for a name that is not registered.

    but: registered names that this section doesn't take.
    """
    for name in names:
        if name in but or name not in known:
            valid = [known_name for known_name in known.names() if known_name not in but]
            raise _unknown("setting", f"{section}.{name}", valid)


def check_name(kind: str, name: str, known: Registry) -> None:
    """As `check_names`, for a setting whose value is the name of a `kind` of thing."""
    if name not in known:
        raise _unknown(kind, name, known.names())


def _unknown(kind: str, name: str, valid: Iterable[str]) -> PydanticCustomError:
    return PydanticCustomError(
        "unknown_name", "unknown name", {"kind": kind, "name": name, "valid": list(valid)}
    )


def explain(error: ValidationError, source: str, model: type[BaseModel]) -> UserError:
    """A validation error as a message with the setting's name, and the nearest valid one where it is unknown.

    source: where the settings are from. model: what was validated.
    """
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "unknown_name":
        kind, name, valid = (first["ctx"][key] for key in ("kind", "name", "valid"))
    elif first["type"] == "extra_forbidden":
        kind, name, valid = "setting", where, _fields(model, first["loc"][:-1])
    else:
        return UserError(f"{source}: setting '{where}': {first['msg']} (got {first['input']!r})")
    unknown = unknown_name(kind, name.rpartition(".")[2], valid)
    return UserError(f"{source}: unknown {kind} '{name}'", unknown.hint)


def _fields(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """Names of the settings in the section at `path`."""
    for step in path:
        inner = model.model_fields[str(step)].annotation
        assert isinstance(inner, type)
        model = inner
    return list(model.model_fields)
