"""What a dataset declares: how its files lie and what is special about it. One file of `datasets/` holds one.

A reader is given a `Source` and returns a `Listing`; nothing is decoded there. `ga2clip.data.listing` has what readers
share.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ga2clip.data.manifest import Manifest
from ga2clip.data.pool import Progress
from ga2clip.errors import UserError
from ga2clip.labels import SCENARIO_TEMPLATE, readable_name


@dataclass(frozen=True)
class Entry:
    """A clip as the annotations have it.

    Attributes:
        path: below the root, with `/`.
        label: the readable class name.
        split: a `manifest.Split`; with several official splits the first one's.
        group: clips cut from the same source, where the dataset says so.
        other_splits: of split 2, 3, ….
    """

    path: str
    label: str
    split: str
    group: str = ""
    other_splits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        raw_names: each class as the dataset spells it: a folder's name, the label in a list.
        classes: the same classes by readable name, in the same order.
        entries: the clips that have a file.
        missing: clips of the annotations without a file.
        rule: how the splits came about, in words.
        test_split: `test` or `val`, whichever the field tests on.
        contradictory: (clip, reason) of clips that the annotations name with several labels or roles; `scan` finds
            them and leaves them out of the entries.
    """

    raw_names: tuple[str, ...]
    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    missing: tuple[str, ...]
    rule: str
    test_split: str = "test"
    contradictory: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Size:
    """How many clips a generated dataset gets: per class for training and testing, and irrelevant ones."""

    train_per_class: int = 20
    test_per_class: int = 10
    irrelevant: int = 120


Reader = Callable[["Source"], Listing]
Generator = Callable[[Path, int, Size, int, Progress], Manifest]
"""(root, seed, size, workers, progress) → the manifest of the clips that now lie below the root."""


@dataclass(frozen=True)
class Dataset:
    """What the tool has to know about a dataset.

    Attributes:
        name: as `--dataset` has it; the file that declares it is called so (`-` as `_`).
        get_it: where the data is and how the folder must look, for a person who doesn't have it yet.
        read: the reader of a dataset that is found on disk.
        generate: the writer of a dataset that is made; exactly one of the two is given.
        names: readable name by raw label, where splitting a label into words gives poor English.
        flip: whether a mirrored clip shows the same action.
        template: the sentence around a class name where no text prompt is learned.
        classes: how many there must be, 0 for any.
        recipe: the shipped settings that training starts from.
    """

    name: str
    get_it: str
    read: Reader | None = None
    generate: Generator | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    flip: bool = True
    template: str = SCENARIO_TEMPLATE
    classes: int = 0
    recipe: str = "own"

    def readable(self, raw: str) -> str:
        """The name of a raw label that reads well in a sentence."""
        return self.names.get(raw) or readable_name(raw)


@dataclass(frozen=True)
class Source:
    """Where a reader looks.

    Attributes:
        dataset: whose reader it is.
        root: the folder.
        list_file: what `--list` names.
        seed: draws test clips where the dataset has no split of its own.
    """

    dataset: Dataset
    root: Path
    list_file: Path | None = None
    seed: int = 0

    def refuse(self, message: str) -> UserError:
        """The error for a folder that doesn't look as it must; its hint says how it must look."""
        return UserError(message, self.dataset.get_it)
