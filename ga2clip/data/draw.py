"""Draws the clips that are held out of a set, for testing or validation: whole groups, in every class.

What is drawn depends on the seed and the names of the clips of a class alone, so other classes don't change it.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ga2clip.data.declaration import Entry

TEST_SHARE = 0.25
"""The share of each class that is drawn for testing."""


@dataclass(frozen=True)
class Candidate:
    """A clip to draw from.

    Attributes:
        unit: its group, or its own name: what must stay together.
        label: its class.
        held_out: whether that is decided already; None: to be drawn.
    """

    unit: str
    label: str
    held_out: bool | None = None


def unit_of(group: str, clip: str) -> str:
    """The `Candidate.unit` of a clip with this group (or "") and id."""
    return f"group {group}" if group else f"clip {clip}"


def hold_out(candidates: Sequence[Candidate], share: float, seed: int) -> dict[str, bool]:
    """Which units are held out; no unit is divided.

    In each class, units are taken in the order of a hash of seed and name, as long as the held-out clips are at most
    the share of the class, and at least one unit where the class has several. Of a class, one unit always stays.
    A unit whose clips are decided differently is drawn again.
    """
    decisions: dict[str, set[bool]] = defaultdict(set)
    classes: dict[str, Counter[str]] = defaultdict(Counter)
    for candidate in candidates:
        classes[candidate.label][candidate.unit] += 1
        if candidate.held_out is not None:
            decisions[candidate.unit].add(candidate.held_out)
    held = {unit: next(iter(ways)) for unit, ways in decisions.items() if len(ways) == 1}
    for label in sorted(classes):
        _hold_out_of(classes[label], held, share, seed)
    return held


def _hold_out_of(sizes: Mapping[str, int], held: dict[str, bool], share: float, seed: int) -> None:
    """Decide the open units of one class in `held`. sizes: clips of the class by unit."""
    order = sorted((unit for unit in sizes if unit not in held), key=lambda unit: _hash(seed, unit))
    wanted = max(1, round(sum(sizes.values()) * share))
    count = sum(size for unit, size in sizes.items() if held.get(unit))
    staying = sum(1 for unit in sizes if not held.get(unit))
    for unit in order:
        held[unit] = staying > 1 and count + sizes[unit] <= wanted
        if held[unit]:
            count += sizes[unit]
            staying -= 1
    if not count and order and staying > 1:  # every unit is larger than the share
        held[min(order, key=lambda unit: sizes[unit])] = True


def _hash(seed: int, unit: str) -> bytes:
    return hashlib.sha256(f"{seed} {unit}".encode("utf-8", "surrogateescape")).digest()


def draw_test(
    entries: Sequence[Entry], seed: int, before: Mapping[str, str] | None = None
) -> tuple[Entry, ...]:
    """The entries with `split` decided, train or test, where it is drawn.

    before: id → split that a clip had before, which it keeps unless its group would be divided.
    """
    known = before or {}
    sides = [entry.split if not entry.drawn else known.get(entry.id, "") for entry in entries]
    held = hold_out(
        [
            Candidate(unit_of(entry.group, entry.id), entry.label, _SIDES.get(side))
            for entry, side in zip(entries, sides, strict=True)
        ],
        TEST_SHARE,
        seed,
    )
    return tuple(
        replace(entry, split="test" if held[unit_of(entry.group, entry.id)] else "train")
        if entry.drawn
        else entry
        for entry in entries
    )


_SIDES = {"train": False, "val": False, "test": True}
