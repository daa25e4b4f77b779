"""Every setting with its type, default and meaning, read from the models of `ga2clip.settings` themselves."""

import json
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ga2clip.errors import unknown_name
from ga2clip.registry import PARTS, TERMS
from ga2clip.settings import WEIGHTED_ELSEWHERE, Settings

_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


@dataclass(frozen=True)
class SettingLine:
    """One setting. name: `section.key`; type, default: as one writes them in TOML; meaning: one paragraph."""

    name: str
    type: str
    default: str
    meaning: str


@dataclass(frozen=True)
class SectionTable:
    """One section: what it is about, and its settings."""

    name: str
    about: str
    lines: tuple[SettingLine, ...]


def setting_tables(only: str | None = None) -> list[SectionTable]:
    """The sections of the settings; of `loss` and `parts` also the names that are registered.

    Raises:
        UserError: there is no section `only`.
    """
    sections = list(Settings.model_fields)
    if only is not None and only not in sections:
        raise unknown_name("section of settings", only, sections)
    return [_section(name) for name in sections if only in (None, name)]


def as_markdown(tables: Iterable[SectionTable]) -> str:
    """The sections as headed Markdown tables."""
    return "\n\n".join(_markdown(table) for table in tables) + "\n"


def _section(name: str) -> SectionTable:
    field = Settings.model_fields[name]
    model = field.annotation
    if not (isinstance(model, type) and issubclass(model, BaseModel)):  # a table with free names
        registered = f" Registered: {', '.join(PARTS.names())}." if name == "parts" else ""
        return SectionTable(name, _paragraph(field.description) + registered, ())
    lines = tuple(_line(f"{name}.{key}", inner) for key, inner in model.model_fields.items())
    if name == "loss":
        lines += tuple(
            SettingLine(f"loss.{term}", "number ≥ 0", "0", f"Weight of the loss term `{term}`.")
            for term in TERMS.names()
            if term not in WEIGHTED_ELSEWHERE
        )
    return SectionTable(name, _paragraph(model.__doc__), lines)


def _line(name: str, field: FieldInfo) -> SettingLine:
    bounds = [
        f"{sign} {getattr(rule, key):g}"
        for rule in field.metadata
        for key, sign in _BOUNDS.items()
        if getattr(rule, key, None) is not None
    ]
    kind = ", ".join([" ".join([_type(field.annotation), *bounds[:1]]), *bounds[1:]])
    return SettingLine(name, kind, _default(field.default), _paragraph(field.description))


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " | ".join(json.dumps(value) for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type(inner) for inner in arguments if inner is not type(None))
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"list of {_type(arguments[0])}s"
        return f"list of {len(arguments)} {_type(arguments[0])}s"
    return {str: "text", int: "whole number", float: "number", bool: "true | false"}[annotation]


def _default(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


def _paragraph(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip()


def _markdown(table: SectionTable) -> str:
    head = ["setting", "type", "default", "meaning"]
    rows = [[f"`{line.name}`", line.type, f"`{line.default}`", line.meaning] for line in table.lines]
    lines = [head, ["---"] * len(head), *rows]
    text = "\n".join(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in lines)
    return "\n\n".join([f"## {table.name}", table.about, *([text] if rows else [])])


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
