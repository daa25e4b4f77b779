"""`Dataset`: the declaration of a dataset (how to read its folder, class names, template); one per file of `datasets/`.

A reader gets a `Source` and returns a `Listing`, without decoding anything. `ga2clip.data.listing` has functions that
several readers use.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ga2clip.data.manifest import Manifest, clip_id
from ga2clip.data.pool import Progress
from ga2clip.errors import UserError
from ga2clip.labels import SCENARIO_TEMPLATE, readable_name


@dataclass(frozen=True)
class Entry:
    """A clip of the annotations.

    Attributes:
        path: relative to the root, with `/`.
        label: the readable class name.
        split: a `manifest.Split`; if there are several official splits, its role in the first.
        group: identifies clips cut from the same source video; empty if the dataset doesn't say.
        other_splits: its roles in the official splits 2, 3, ….
        span: (start, end) in seconds, if the clip is a part of the file.
        drawn: whether `split` was drawn, not given; `prepare` then keeps what it was before.
    """

    path: str
    label: str
    split: str
    group: str = ""
    other_splits: tuple[str, ...] = ()
    span: tuple[float, float] | None = None
    drawn: bool = False

    @property
    def id(self) -> str:
        """As `Clip.id`."""
        return clip_id(self.path, self.span)


@dataclass(frozen=True)
class Listing:
    """What a reader returns: the classes and clips of a folder.

    Attributes:
        raw_names: the classes as the dataset spells them: names of folders, or labels in a list.
        classes: the readable names of the same classes, in the same order.
        entries: the clips that have a file.
        missing: clips of the annotations without a file.
        rule: a sentence that says how the splits were made.
        test_split: `test` or `val`, whichever is usually tested on.
        contradictory: (clip, reason) for clips to which the annotations give several labels or splits. `scan` fills
            this and removes them from `entries`.
        own: whether these are clips of the user's own, without official splits; set by `own_splits`.
        notes: sentences that `prepare` shows.
    """

    raw_names: tuple[str, ...]
    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    missing: tuple[str, ...]
    rule: str
    test_split: str = "test"
    contradictory: tuple[tuple[str, str], ...] = ()
    own: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Size:
    """The number of clips in a generated dataset: for training and testing per class, and irrelevant clips in all."""

    train_per_class: int = 20
    test_per_class: int = 10
    irrelevant: int = 120


Reader = Callable[["Source"], Listing]
Generator = Callable[[Path, int, Size, int, Progress], Manifest]
"""(root, seed, size, workers, progress) → the manifest of the clips that it wrote below the root."""


@dataclass(frozen=True)
class Dataset:
    """The declaration of a dataset; `ga2clip.register_dataset` registers it.

    Attributes:
        name: the value of `--dataset`; also the name of the declaring file (with `_` for `-`).
        get_it: where to download the data and how the folder must look; shown as a hint.
        read: the reader, for a dataset that is on disk.
        generate: the generator, for a dataset that is synthesised. Exactly one of `read` and `generate` is given.
        names: raw label → readable name, for labels that don't give good English when split into words.
        flip: whether a mirrored clip shows the same action.
        template: the sentence around a class name if no text prompt is learned.
        classes: the number of classes that there must be; 0: any.
        recipe: the name of the shipped recipe that training starts from.
        takes_list: whether the reader takes `Source.list_file`; for other datasets `--list` is refused.
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
    takes_list: bool = False

    def readable(self, raw: str) -> str:
        """The readable name of a raw label."""
        return self.names.get(raw) or readable_name(raw)


@dataclass(frozen=True)
class Source:
    """The argument of a reader.

    Attributes:
        dataset: the dataset that is read.
        root: its folder.
        list_file: the value of `--list`.
        seed: for drawing test clips if the dataset has no split of its own.
        group_pattern: the value of `--group-pattern`.
    """

    dataset: Dataset
    root: Path
    list_file: Path | None = None
    seed: int = 0
    group_pattern: str = ""

    def refuse(self, message: str) -> UserError:
        """The error for a folder without the expected layout; the hint is `Dataset.get_it`."""
        return UserError(message, self.dataset.get_it)
