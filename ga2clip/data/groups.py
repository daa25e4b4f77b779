"""Groups of clips that are pieces of one recording, by a pattern of their file names; and names that suggest some."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from ga2clip.data.declaration import Entry
from ga2clip.errors import UserError
from ga2clip.video import bare_name

_PIECE = re.compile(
    r"(?P<key>.*[^\W_].*?)(?:[-_. ]+|(?<=\d))(?P<word>parts?|pt|piece|segment|seg|chunk|scene)[-_. ]?(?P<piece>\d+)",
    re.IGNORECASE,
)
"""`walk_01_part3`, `talk-Scene-002`: a word for a piece and its number, behind the name of a recording."""
_NUMBERED = re.compile(r"(?P<key>.*[A-Za-z]\d{1,5})[-_. ]+(?P<word>[A-Za-z]{0,4})(?P<piece>\d{1,6})")
"""`cam1_0001`, `v_YoYo_g01_c02`: a numbered recording, then the number of a piece, perhaps with letters before it."""
_MOST_STEP = 2  # numbers of pieces count up, perhaps with single ones missing; times of the day don't


def grouped(entries: Sequence[Entry], pattern: str) -> tuple[tuple[Entry, ...], int]:
    """The entries with the group that a pattern finds in their file name, and how many have none.

    Args:
        entries: those that have a group already keep it.
        pattern: a regular expression, searched in the file name. The group is what its parentheses match, or all
            that it matches.

    Raises:
        UserError: the pattern is no regular expression, or no name matches it.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--group-pattern '{pattern}' is no regular expression: {error}", _HINT) from None
    named = [
        entry if entry.group else replace(entry, group=_group(compiled, entry.path)) for entry in entries
    ]
    without = [entry for entry in named if not entry.group]
    if len(without) == len(named):
        raise UserError(f"--group-pattern '{pattern}' matches no file name, such as {_name(named[0])}", _HINT)
    return tuple(named), len(without)


_HINT = r"such as '(.+)_part\d+': the group is what the parentheses match"


def _group(pattern: re.Pattern[str], path: str) -> str:
    match = pattern.search(_name(path))
    return "" if match is None else " ".join(part for part in match.groups() if part) or match[0]


def _name(path: "str | Entry") -> str:
    return (path if isinstance(path, str) else path.path).rpartition("/")[2]


def suggestion(entries: Iterable[Entry], test_split: str) -> str:
    """A sentence if names suggest that pieces of one recording are trained and tested on; else "".

    entries: of the user's own clips. Those with a group are left out, since the user has said it.
    """
    alone = [entry for entry in entries if not entry.group]
    for pattern, found in ((_PIECE, _by_word(alone)), (_NUMBERED, _by_numbers(alone))):
        divided = [
            pieces for pieces in found.values() if {"train", test_split} <= {entry.split for entry in pieces}
        ]
        if divided:
            first, second = (
                next(entry for entry in divided[0] if entry.split == split) for split in ("train", test_split)
            )
            match = pattern.fullmatch(bare_name(_name(first)))
            assert match is not None
            return (
                f"{_name(first)} and {_name(second)} look like pieces of one recording, but one is for training and "
                f"the other for testing (as in {len(divided)} of {len(found)} recordings): accuracies would be too "
                f"high. Keep recordings together, such as by --group-pattern '{_pattern(match)}'"
            )
    return ""


def _by_word(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """The recordings whose pieces are named as such."""
    return {key: pieces for key, pieces in _by_key(_PIECE, entries).items() if len(pieces) > 1}


def _by_numbers(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """The recordings of numbered pieces, where most clips are such and a class has pieces of several recordings.

    A counter behind the name of each class is no recording.
    """
    found = {
        key: pieces
        for key, pieces in _by_key(_NUMBERED, entries).items()
        if len(pieces) > 1 and _count_up(pieces)
    }
    per_class = Counter(label for pieces in found.values() for label in {entry.label for entry in pieces})
    several = max(per_class.values(), default=0) > 1
    most = 2 * sum(map(len, found.values())) > len(entries)
    return found if several and most else {}


def _by_key(pattern: re.Pattern[str], entries: Iterable[Entry]) -> Mapping[str, list[Entry]]:
    keys: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if match := pattern.fullmatch(bare_name(_name(entry))):
            keys[match["key"] + match["word"]].append(entry)
    return keys


def _count_up(pieces: Iterable[Entry]) -> bool:
    """Whether the numbers of the pieces follow one another, in each class."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for entry in pieces:
        if match := _NUMBERED.fullmatch(bare_name(_name(entry))):
            numbers[entry.label].append(int(match["piece"]))
    return all(
        0 < later - earlier <= _MOST_STEP
        for of_class in numbers.values()
        for earlier, later in pairwise(sorted(of_class))
    )


def _pattern(match: re.Match[str]) -> str:
    """A `--group-pattern` for names like this one."""
    gap = match.string[match.end("key") : match.start("word" if match["word"] else "piece")]
    return rf"(.+){re.escape(gap)}{match['word']}{match.string[match.end('word') : match.start('piece')]}\d+"
