"""The usual evaluation protocols: training clips, test clips, and the classes of each (`Task`).

The rules are those of ViFi-CLIP (Rasheed et al., CVPR 2023, section 4). few-shot: K training clips per class.
base-to-novel: training on the more frequent half of the classes (base), testing the base classes and the novel classes
separately, each among themselves. zero-shot: testing all classes without training on them. full: all training clips.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ga2clip.data.anchors import anchor_clips
from ga2clip.data.class_names import named
from ga2clip.data.draw import Candidate, hold_out, unit_of
from ga2clip.data.manifest import Clip, Manifest, read_dataset
from ga2clip.data.splits import read_split_lists
from ga2clip.errors import UserError
from ga2clip.settings import AnchorSettings, DataSettings, Settings
from ga2clip.text import counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalSet:
    """Clips that are classified among `classes`; name: `base`, `novel` or `test`."""

    name: str
    classes: tuple[str, ...]
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class Task:
    """The training, validation and test clips of a run.

    rule: one sentence that says how the clips were chosen, with the seed. classes: the training classes, in the order
    of labels. flip: whether a mirrored clip shows the same action. anchors: anchor clips for the anchor term. val:
    clips that were taken from the training clips, to follow a training with; never tested on. unused: other clips of
    the training classes in the dataset's training part, which the K shots left over.
    """

    protocol: str
    rule: str
    root: Path
    classes: tuple[str, ...]
    train: tuple[Clip, ...]
    anchors: tuple[Clip, ...]
    evals: tuple[EvalSet, ...]
    flip: bool = True
    val: tuple[Clip, ...] = ()
    unused: tuple[Clip, ...] = ()


def load_task(settings: Settings) -> tuple[Manifest, Task]:
    """The dataset, and the clips and classes of the settings' protocol, to train on; there may be no test clips.

    Raises UserError for a dataset that is not prepared or lacks something that the protocol needs.
    """
    manifest = named(read_dataset(settings.data), settings.data.class_names)
    task = make_task(manifest, settings.data, settings.training.seed, settings.anchors, tested=False)
    for part in task.evals:
        if not part.clips:
            logger.warning(
                "there is no test clip for the %s classes: `eval` can't measure this run", part.name
            )
    return manifest, task


def make_task(
    manifest: Manifest,
    data: DataSettings,
    seed: int,
    anchors: AnchorSettings | None = None,
    *,
    tested: bool = True,
) -> Task:
    """The task of the protocol `data.protocol`.

    seed: for drawing K clips per class, and validation clips; the same seed always gives the same clips. anchors: the
    source of anchor clips, which is only read if their weight is not 0; None: no anchors. tested: whether test clips
    are needed.
    Raises UserError for a split that the dataset doesn't have, a split file that doesn't fit the dataset,
    a class without training clips, or classes without any test clip.
    """
    given = bool(data.split_file or data.test_split_file)
    if data.labels and not given:
        raise UserError("data.labels is for the ids of split files", "give split_file or test_split_file too")
    evals: tuple[EvalSet, ...]
    pool = _from_lists(manifest, data) if given else _from_manifest(manifest, data.split)
    if data.protocol == "base-to-novel":
        base, base_rule = _base_classes(pool)
        novel = tuple(name for name in pool.classes if name not in set(base))
        evals = (_eval_set("base", base, pool.test), _eval_set("novel", novel, pool.test))
        train, train_rule = _draw(pool, base, data, seed)
        rule = f"{train_rule}; base classes are {base_rule}; base and novel classes are tested separately"
    elif data.protocol == "zero-shot":
        base, train, evals = pool.classes, (), (_eval_set("test", pool.classes, pool.test),)
        rule = "all classes are tested"
    else:
        base, evals = pool.classes, (_eval_set("test", pool.classes, pool.test),)
        train, rule = _draw(pool, base, data, seed)
    if tested:
        for part in evals:
            _need_clips(part)
    drawn, among = {clip.id for clip in train}, set(base)
    unused = tuple(
        clip for clip in pool.train if clip.label in among and clip.frames and clip.id not in drawn
    )
    val: tuple[Clip, ...] = ()
    if data.val and train:
        train, val = _validation(train, data.val, seed)
        rule += f"; {len(val)} of them are for validation"
    source = anchors.source if anchors and anchors.weight and anchors.per_step else None
    return Task(
        protocol=data.protocol,
        rule=f"{pool.rule}: {rule}",
        root=manifest.root,
        classes=base,
        train=train,
        anchors=anchor_clips(source, manifest, pool.classes) if source else (),
        evals=evals,
        flip=bool(manifest.meta.get("flip", True)),
        val=val,
        unused=unused,
    )


def _validation(train: Sequence[Clip], share: float, seed: int) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    """The training clips, divided into those to train on and those to validate on: whole groups, in each class."""
    units = [unit_of(clip.group, clip.id) for clip in train]
    candidates = [Candidate(unit, str(clip.label)) for unit, clip in zip(units, train, strict=True)]
    held = hold_out(candidates, share, seed)
    parts = tuple(
        tuple(clip for unit, clip in zip(units, train, strict=True) if held[unit] is side)
        for side in (False, True)
    )
    if not parts[1]:
        raise UserError(
            "there are no clips for validation: every class has one training clip, or clips of one group alone",
            "train with more --shots, or without --val",
        )
    return parts[0], parts[1]


@dataclass(frozen=True)
class _Pool:
    """Clips to choose from, labelled among `classes`; base: the declared base classes, or empty."""

    classes: tuple[str, ...]
    base: tuple[str, ...]
    train: tuple[Clip, ...]
    test: tuple[Clip, ...]
    rule: str


def _from_manifest(manifest: Manifest, split: int) -> _Pool:
    clips = manifest.in_split(split)
    train = tuple(clip for clip in clips if clip.split == "train")
    held_out = str(manifest.meta.get("test_split", "test"))
    test = tuple(clip for clip in clips if clip.split == held_out)
    rule = f"{manifest.dataset}, split {split} of {manifest.splits}, tested on its {held_out} clips"
    if missing := manifest.meta.get("missing"):
        rule += f" ({counted(missing, 'clip')} of its lists not on disk)"
    if contradictory := manifest.meta.get("contradictory"):
        rule += f" ({counted(contradictory, 'clip')} with several labels left out)"
    return _Pool(manifest.classes, manifest.base_classes, train, test, rule)


def _from_lists(manifest: Manifest, data: DataSettings) -> _Pool:
    lists = read_split_lists(manifest, data)
    trained = {clip.label for clip in lists.train}
    base = tuple(name for name in lists.classes if name in trained)
    return _Pool(
        lists.classes, base, lists.train, lists.test, f"{manifest.dataset}, lists {lists.description}"
    )


def _base_classes(pool: _Pool) -> tuple[tuple[str, ...], str]:
    """The base classes (declared, or else the half with the most training clips) and a description of the rule.

    Among classes with equally many clips, the later ones in the dataset's order are base, as in ViFi-CLIP's published
    lists (HMDB-51 has 70 training clips in every class).
    """
    if len(pool.classes) < 2:
        raise UserError("base-to-novel needs at least 2 classes", "use --protocol few-shot")
    if pool.base:
        if len(pool.base) == len(pool.classes):
            raise UserError(
                "base-to-novel: there is no novel class", "also give the test list of the novel classes"
            )
        return pool.base, "the declared ones"
    counts = Counter(clip.label for clip in pool.train)
    rising = sorted(pool.classes, key=lambda name: counts[name])
    base = set(rising[len(rising) // 2 :])
    return tuple(name for name in pool.classes if name in base), "the half with the most training clips"


def _draw(pool: _Pool, classes: Sequence[str], data: DataSettings, seed: int) -> tuple[tuple[Clip, ...], str]:
    """K decodable training clips of each class (all for `full` and for given lists), and a description of the rule."""
    by_class: dict[str | None, list[Clip]] = {name: [] for name in classes}
    for clip in pool.train:
        if clip.label in by_class and clip.frames:
            by_class[clip.label].append(clip)
    for name, clips in by_class.items():
        if not clips:
            raise UserError(
                f"class '{name}' has no training clip", "prepare the dataset again, or check its report"
            )
    shots = 0 if data.protocol == "full" or data.split_file else data.shots
    if not shots:
        return tuple(clip for clips in by_class.values() for clip in clips), "all training clips"
    rng = np.random.default_rng(seed)
    drawn: list[Clip] = []
    few = {name: len(clips) for name, clips in by_class.items() if len(clips) < shots}
    if few:
        fewest = min(few, key=lambda name: few[name])
        logger.warning(
            "%d of %d classes have fewer than %d training clips, such as '%s' with %d",
            *(len(few), len(by_class), shots, fewest, few[fewest]),
        )
    for clips in by_class.values():
        chosen = rng.permutation(len(clips))[:shots]
        drawn.extend(clips[index] for index in sorted(chosen))
    return tuple(drawn), f"{counted(shots, 'training clip')} per class drawn with seed {seed}"


def _eval_set(name: str, classes: tuple[str, ...], clips: Iterable[Clip]) -> EvalSet:
    among = set(classes)
    return EvalSet(name, classes, tuple(clip for clip in clips if clip.label in among))


def _need_clips(part: EvalSet) -> None:
    if not part.clips:
        raise UserError(f"there is no test clip for the {part.name} classes", "check the dataset's split")
