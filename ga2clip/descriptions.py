"""Class descriptions: a class is a name and any number of sentences, from a file, a mapping or the built-in lists.

Files: JSON `{"name": ["sentence", …]}`, the format of the lists that CuPL (ICCV 2023) publishes, TOML with the same
keys and lists, or a CSV with the columns `name` and `description` and a line for each sentence.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ga2clip.errors import UserError
from ga2clip.label_files import JSON_TEXT, JsonPairs, read_rows, read_text
from ga2clip.labels import check_class_names, fill, is_unicode, letters, names_or_file, read_class_list
from ga2clip.text import counted, some

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Descriptions = dict[str, tuple[str, ...]]
"""Sentences by class name; a class without any is described by its name in the template."""

BUILTIN = "builtin"
_FORMS = 'such as {"juggling": ["a person throws balls into the air.", "balls fly in a circle."]}'
_NAME = ("name", "class", "class_name", "label")
_SENTENCE = ("description", "descriptions", "sentence", "sentences")
_ID = re.compile(r"\d+")
_LONGEST = 2000  # characters, far more than fit into a context


class ClassTexts:
    """The texts of a class: its sentences, or the template filled with its name.

    Names are found whatever their case, blanks and punctuation: `ApplyEyeMakeup` has the sentences of
    `Apply Eye Makeup`.
    """

    def __init__(self, table: Mapping[str, Sequence[str]]) -> None:
        """Raises UserError for two names that only differ in case, blanks and punctuation."""
        self._sentences: dict[str, tuple[str, ...]] = {}
        owner: dict[str, str] = {}
        for name, sentences in table.items():
            key = letters(name)
            if key in owner:
                raise UserError(
                    f"the descriptions name one class twice: '{owner[key]}' and '{name}'",
                    "delete one of them",
                )
            owner[key], self._sentences[key] = name, tuple(sentences)

    def __bool__(self) -> bool:
        return any(self._sentences.values())

    def of(self, name: str, template: str) -> tuple[str, ...]:
        """The texts of a class, at least one."""
        return self._sentences.get(letters(name)) or (fill(template, name),)

    def missing(self, names: Iterable[str]) -> list[str]:
        """The names that are not described; a name with an empty list counts as described."""
        return [name for name in names if letters(name) not in self._sentences]


def read_classes(path: Path) -> Descriptions:
    """The classes in a file, with their sentences where the file has some: name → sentences, in the file's order.

    Raises:
        UserError: as `labels.read_class_list`, or for sentences that can't be used.
    """
    table = _described(path, f"class list {path}")
    return dict.fromkeys(read_class_list(path), ()) if table is None else table


def given_classes(text: str) -> Descriptions:
    """The classes of `--classes`: names separated by commas, or a file. Raises as `names_or_file`, `read_classes`."""
    given = names_or_file(text)
    return read_classes(given) if isinstance(given, Path) else dict.fromkeys(given, ())


def read_descriptions(source: str | Path, dataset: str) -> Descriptions:
    """The descriptions in a file, or with `builtin` those that come with a dataset.

    Raises:
        UserError: the file can't be read or holds no sentence, or the dataset has no built-in descriptions.
    """
    if str(source) == BUILTIN:
        folder = resources.files("ga2clip.assets") / "descriptions"
        file = folder / f"{dataset}.json"
        if not file.is_file():
            known = sorted(
                Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".json")
            )
            raise UserError(
                f"no descriptions come with the dataset {dataset}",
                f"give a file; built in: {', '.join(known)}",
            )
        with resources.as_file(file) as path:
            return read_descriptions(path, dataset)
    table = _described(Path(source), f"descriptions {source}")
    if not table or not any(table.values()):
        raise UserError(f"{source} holds no sentence about a class", f"write JSON {_FORMS}")
    return table


def described_classes(classes: object) -> Descriptions:
    """Class names in the order given, each with its sentences: those of a mapping, else none.

    Raises:
        UserError: as `labels.check_class_names` and `checked`.
    """
    if not isinstance(classes, Mapping):
        return dict.fromkeys(check_class_names(classes), ())
    table = checked(classes, "classes")
    return dict(zip(check_class_names(list(table)), table.values(), strict=True))


def checked(table: Mapping[Any, Any], where: str) -> Descriptions:
    """Names with their sentences, blanks and line breaks joined.

    Args:
        table: class name → list of sentences, perhaps empty.
        where: for messages.

    Raises:
        UserError: a name or sentence that is no text or is blank, or a sentence in place of a list.
    """
    result: Descriptions = {}
    for name, sentences in table.items():
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{where}: a class name must be a text, got {name!r:.40}", _FORMS)
        if isinstance(sentences, str | bytes | Mapping | JsonPairs) or not isinstance(sentences, Iterable):
            raise UserError(f"{where}: '{name}' must have a list of sentences, got {sentences!r:.60}", _FORMS)
        result[name] = tuple(
            _sentence(sentence, f"{where}: sentence {number} of '{name}'")
            for number, sentence in enumerate(sentences, start=1)
        )
    return result


def blamed(
    error: UserError, texts: Mapping[str, Sequence[str]], encode: Callable[[str], object]
) -> UserError:
    """The error of the first text that `encode` refuses, with the class and the sentence; `error` where none is.

    texts: those of each class, of which one could not be encoded.
    """
    for name, own in texts.items():
        for number, text in enumerate(own, start=1):
            try:
                encode(text)
            except UserError as reason:
                return UserError(
                    f"class '{name}', text {number} of {len(own)}: {reason.message}", reason.hint
                )
    return error


def no_class(table: Iterable[str], names: Sequence[str]) -> list[str]:
    """The described names that are not among the class names."""
    return ClassTexts(dict.fromkeys(names, ())).missing(table)


def refuse_missing(table: Mapping[str, Sequence[str]], names: Sequence[str]) -> None:
    """Raises UserError that lists the classes which are not described, where there are descriptions at all."""
    if not table:
        return
    if missing := ClassTexts(table).missing(names):
        strangers = no_class(table, names)
        more = f"; described, but no class: {some(strangers)}" if strangers else ""
        raise UserError(
            f"the descriptions lack {len(missing)} of {counted(len(names), 'class')}: {some(missing)}{more}",
            "add them; an empty list describes a class by its name alone",
        )


def said(table: Mapping[str, Sequence[str]]) -> str:
    """How many sentences describe how many classes, in words."""
    sentences, classes = sum(map(len, table.values())), sum(map(bool, table.values()))
    return f"{counted(sentences, 'sentence')} about {counted(classes, 'class')}"


def _sentence(sentence: Any, where: str) -> str:
    if not isinstance(sentence, str):
        raise UserError(f"{where} must be a text, got {sentence!r:.40}", _FORMS)
    if not is_unicode(sentence):
        raise UserError(f"{where} is not Unicode text: {sentence!a:.60}")
    text = " ".join(sentence.split())
    if not text or len(text) > _LONGEST:
        fault = f"has {len(text):,} characters" if text else "is empty"
        raise UserError(f"{where} {fault}", "write one sentence; CLIP reads some sixty words")
    return text


def _described(path: Path, where: str) -> Descriptions | None:
    """The table of a file with sentences; None for a file of another form."""
    text = read_text(path, "class list")
    if path.suffix.lower() == ".toml":
        try:
            tree = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where} is not valid TOML: {error}", f"write JSON {_FORMS}") from None
        return checked({name: _listed(value) for name, value in tree.items()}, where)
    if path.suffix.lower() == ".json" or JSON_TEXT.match(text):
        return _from_json(text, where)
    return _from_columns(path, text, where)


def _from_json(text: str, where: str) -> Descriptions | None:
    try:
        tree = json.loads(text, object_pairs_hook=JsonPairs)
    except (ValueError, RecursionError):
        return None  # refused with the reason by the reader of class lists
    if not isinstance(tree, JsonPairs) or not any(_tells(name, value) for name, value in tree):
        return None
    names = [name for name, _ in tree]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{where}: '{twice[0]}' occurs twice", "put all sentences of a class into one list")
    return checked({name: _listed(value) for name, value in tree}, where)


def _tells(name: str, value: Any) -> bool:
    """Whether an entry holds sentences, and not the number of a name."""
    plain = isinstance(value, str) and not _ID.fullmatch(value) and not _ID.fullmatch(name)
    return plain or (isinstance(value, list) and not isinstance(value, JsonPairs))


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _from_columns(path: Path, text: str, where: str) -> Descriptions | None:
    first = text.partition("\n")[0].lower()
    if not any(word in first for word in _SENTENCE):
        return None
    (_, head), *rows = read_rows(path, "class list")
    words = [cell.lower() for cell in head]
    places = [[words.index(word) for word in kind if word in words] for kind in (_NAME, _SENTENCE)]
    if not all(places):
        return None
    if (several := sum(word in _SENTENCE for word in words)) > 1:
        raise UserError(
            f"{where}: {several} columns of the header hold sentences",
            "write a line for each sentence of a class, with its name",
        )
    name_at, sentence_at = places[0][0], places[1][0]
    table: dict[str, list[str]] = {}
    for number, cells in rows:
        if len(cells) == sentence_at == len(head) - 1:  # lines are stripped, a tab at the end with them
            cells = [*cells, ""]
        if len(cells) != len(head):
            raise UserError(
                f"{where}, line {number}: {counted(len(cells), 'column')} where the header has {len(head)}",
                "quote a sentence that holds the separator",
            )
        own = table.setdefault(cells[name_at], [])
        own += [cells[sentence_at]] if cells[sentence_at] else []
    return checked(table, where)
