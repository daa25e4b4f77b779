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
from ga2clip.data.manifest import Clip, Manifest, read_dataset
from ga2clip.data.splits import read_split_lists
from ga2clip.errors import UserError
from ga2clip.settings import AnchorSettings, DataSettings, Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalSet:
    """Clips that are classified among `classes`; name: `base`, `novel` or `test`."""

    name: str
    classes: tuple[str, ...]
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class Task:
    """The training and test clips of a run.

    rule: one sentence that says how the clips were chosen, with the seed. classes: the training classes, in the order
    of labels. flip: whether a mirrored clip shows the same action. anchors: anchor clips for the anchor term.
    """

    protocol: str
    rule: str
    root: Path
    classes: tuple[str, ...]
    train: tuple[Clip, ...]
    anchors: tuple[Clip, ...]
    evals: tuple[EvalSet, ...]
    flip: bool = True


def load_task(settings: Settings) -> Task:
    """The clips and classes of the settings' protocol.

    Raises UserError for a dataset that is not prepared or lacks something that the protocol needs.
    """
    manifest = named(read_dataset(settings.data), settings.data.class_names)
    return make_task(manifest, settings.data, settings.training.seed, settings.anchors)


def make_task(
    manifest: Manifest, data: DataSettings, seed: int, anchors: AnchorSettings | None = None
) -> Task:
    """The task of the protocol `data.protocol`.

    seed: for drawing K clips per class; the same seed always gives the same clips. anchors: the source of anchor
    clips, which is only read if their weight is not 0; None: no anchors.
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
        rule = "all classes are tested without training on them"
    else:
        base, evals = pool.classes, (_eval_set("test", pool.classes, pool.test),)
        train, rule = _draw(pool, base, data, seed)
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
    )


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
        rule += f" ({missing} clips of its lists are not on disk)"
    if contradictory := manifest.meta.get("contradictory"):
        rule += f" ({contradictory} clips with several labels are left out)"
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
    for name, clips in by_class.items():
        if len(clips) < shots:
            logger.warning("class '%s' has %d training clips, fewer than %d shots", name, len(clips), shots)
        chosen = rng.permutation(len(clips))[:shots]
        drawn.extend(clips[index] for index in sorted(chosen))
    return tuple(drawn), f"{shots} training clips per class drawn with seed {seed}"


def _eval_set(name: str, classes: tuple[str, ...], clips: Iterable[Clip]) -> EvalSet:
    among = set(classes)
    chosen = tuple(clip for clip in clips if clip.label in among)
    if not chosen:
        raise UserError(f"there is no test clip for the {name} classes", "check the dataset's split")
    return EvalSet(name, classes, chosen)
