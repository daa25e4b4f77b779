"""Check or generate a dataset and write its `manifest.json`, a report and optionally a frame cache."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ga2clip.data.cache_build import build_cache
from ga2clip.data.check import Checked, check_clips
from ga2clip.data.declaration import Dataset, Entry, Listing, Size
from ga2clip.data.draw import draw_test
from ga2clip.data.groups import suggestion
from ga2clip.data.lineage import Changes, changes, former_splits
from ga2clip.data.listing import scan
from ga2clip.data.manifest import FILE_NAME, WORK_FOLDER, Clip, Manifest
from ga2clip.data.pool import Progress, default_workers, silent
from ga2clip.errors import UserError
from ga2clip.files import write_text
from ga2clip.lock import locked
from ga2clip.registry import DATASETS
from ga2clip.text import counted, csv_lines

logger = logging.getLogger(__name__)

REPORT_NAME = "prepare_report.csv"
_ANCHORS = 120
_ANCHOR_DATASET = "stickfigures"  # reached by name: generators are datasets like others
_ANCHOR_SEED = 0
_MORE_CLIPS = "give more clips or recordings, or mark clips in a list with the column split"


@dataclass(frozen=True)
class PrepareReport:
    """The result of `prepare`.

    Attributes:
        manifest: as it was written.
        checked: number of clips that were decoded, now or in an earlier run.
        broken: (clip, reason) for clips without a decodable frame. They stay in the manifest with 0 frames: not used
            in training, counted as wrong in evaluation.
        damaged: (clip, what is lost) for clips that are used in spite of damage.
        missing: clips of the annotations without a file.
        contradictory: (clip, reason) for clips with several labels or splits in the annotations; they are left out.
        duplicates: (clip, other) with the same content: a test clip and a training clip, or clips of two classes.
        cached: number of clips in the frame cache.
        changes: what came, went and moved since the folder was prepared before.
        notes: sentences about the splits.
    """

    manifest: Manifest
    checked: int
    broken: tuple[tuple[str, str], ...] = ()
    damaged: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()
    contradictory: tuple[tuple[str, str], ...] = ()
    duplicates: tuple[tuple[str, str], ...] = ()
    cached: int = 0
    changes: Changes = field(default_factory=Changes)
    notes: tuple[str, ...] = ()

    def table(self) -> str:
        """A readable table: clips per split, and problems of the dataset."""
        counts = Counter(clip.split for clip in self.manifest.clips)
        lines = [
            f"{self.manifest.dataset}: {counted(len(self.manifest.classes), 'class')} in {self.manifest.root}"
        ]
        lines += [f"  {split:<13} {counts[split]:>8} clips" for split in counts]
        problems = [
            ("missing", len(self.missing), "in the annotations, no file"),
            (
                "broken",
                len(self.broken),
                "not decodable: wrong in evaluation, never trained on; see --recheck",
            ),
            ("damaged", len(self.damaged), "decode with losses; used"),
            ("contradictory", len(self.contradictory), "named with several labels or splits; left out"),
            (
                "duplicates",
                len(self.duplicates),
                "the same content for training and testing, or in two classes",
            ),
            ("came", len(self.changes.came), "since it was prepared before"),
            ("went", len(self.changes.went), "since it was prepared before"),
            (
                "moved",
                len(self.changes.moved),
                "to another split or class: runs trained before may know them",
            ),
        ]
        lines += [f"  {name:<13} {count:>8} {meaning}" for name, count, meaning in problems if count]
        lines += [f"  {'cached':<13} {self.cached:>8} clips"] if self.cached else []
        if any(count for _, count, _ in problems):
            lines.append(f"  details: {self.manifest.root / REPORT_NAME}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def to_csv(self) -> str:
        """CSV with a line `status,clip,reason` per problem; bytes of names that are not UTF-8 are written as \\udc…."""
        rows = [("status", "clip", "reason")]
        rows += [("missing", name, "no file") for name in self.missing]
        rows += [("broken", *item) for item in self.broken]
        rows += [("damaged", *item) for item in self.damaged]
        rows += [("contradictory", *item) for item in self.contradictory]
        rows += [("duplicate", clip, f"same as {other}") for clip, other in self.duplicates]
        for kind in ("came", "went", "moved"):
            rows += [(kind, *item) for item in getattr(self.changes, kind)]
        return csv_lines(rows).encode("utf-8", "backslashreplace").decode()


def prepare(
    dataset: str,
    root: Path,
    *,
    workers: int = 0,
    seed: int | None = None,
    list_file: Path | None = None,
    cache: bool = False,
    recheck: bool = False,
    size: Size | None = None,
    group_pattern: str | None = None,
    progress: Progress = silent,
) -> PrepareReport:
    """Generate or check a dataset and write `<root>/manifest.json` and `<root>/prepare_report.csv`.

    If it is interrupted, the next call continues: no clip is decoded twice. Where splits are drawn, clips that the
    folder's manifest already has keep theirs, unless `seed` is another one.

    Args:
        dataset: its name.
        root: its folder.
        workers: processes; 0: one per processor.
        seed: of a generated dataset, or for drawing test clips if the dataset has no split of its own (a note says
            where it draws none); None: the one that they were drawn with before, else 0.
        list_file: the CSV, for the dataset `csv`.
        cache: also build the frame cache (generated datasets always get one).
        recheck: decode broken clips again, although their files did not change; not for a generated dataset.
        size: of a generated dataset alone.
        group_pattern: finds the group of a clip in its file name, for the user's own clips; see `groups.grouped`. None:
            the pattern of the preparation before, if any; "": none.
        progress: see `pool.Progress`.

    Raises:
        UserError: unknown dataset, a negative seed, an argument that this dataset has no use for, a folder that was
            prepared as another one, a folder without the expected layout (the hint says where to get the data), no
            decodable clip, or a folder that can't be written to.
    """
    declaration: Dataset = DATASETS[dataset]
    if seed is not None and seed < 0:
        raise UserError(f"a seed must be 0 or more, got {seed}")
    _refuse_unused(
        declaration,
        listed=list_file is not None,
        grouped=bool(group_pattern),
        recheck=recheck,
        sized=size is not None,
    )
    workers = workers or default_workers()
    listing = None
    before = _before(root, dataset)
    remembered = before.meta if before is not None and declaration.read else {}
    pattern = remembered.get("group_pattern", "") if group_pattern is None else group_pattern
    given, seed = seed, remembered.get("seed", 0) if seed is None else seed
    if declaration.read:
        listing = scan(declaration, root, list_file=list_file, seed=seed, group_pattern=pattern)
        if given is not None and not any(entry.drawn for entry in listing.entries):
            listing = replace(
                listing, notes=(*listing.notes, "--seed drew nothing: every clip has its split")
            )
        if pattern and group_pattern is None:
            listing = replace(listing, notes=(*listing.notes, f"--group-pattern '{pattern}', as before"))
        _need_writable(root)
    busy = UserError(f"another process is preparing {root}", "wait for it, or stop it")
    with locked(root / WORK_FOLDER / "lock", busy):
        if listing:
            checked = check_clips(
                root,
                list(dict.fromkeys(entry.path for entry in listing.entries)),
                workers=workers,
                recheck=recheck,
                timed={entry.path for entry in listing.entries if entry.span},
                progress=lambda done, total: progress("checking", done, total),
            )
            anchors = _anchors(root, workers, progress)
            listing = _settled(listing, checked, before, seed)
            report = _report(declaration, root, listing, checked, anchors, seed, pattern)
        else:
            assert declaration.generate is not None
            manifest = declaration.generate(root, seed, size or Size(), workers, progress)
            report = PrepareReport(manifest, checked=len(manifest.clips))
        if before is not None:
            report = replace(report, changes=changes(before, report.manifest))
        report.manifest.write()
        write_text(root / REPORT_NAME, report.to_csv())
        if cache or declaration.generate:
            return replace(report, cached=build_cache(report.manifest, workers, progress))
        return report


def _refuse_unused(dataset: Dataset, *, listed: bool, grouped: bool, recheck: bool, sized: bool) -> None:
    """Raises UserError for what was given and has no effect on this dataset."""
    name, made = f"'{dataset.name}'", dataset.generate is not None
    for given, message, hint in (
        (
            listed and not dataset.takes_list,
            f"{name} takes no list",
            "leave --list out, or take --dataset csv",
        ),
        (grouped and made, f"{name} has its own splits and groups", "leave --group-pattern out"),
        (recheck and made, f"{name} is generated: no clip of it is broken", "leave --recheck out"),
        (
            sized and not made,
            f"{name} is not generated: it has the clips it has",
            "leave --clips-per-class out",
        ),
    ):
        if given:
            raise UserError(message, hint)


def _need_writable(root: Path) -> None:
    """Raises UserError before hours of decoding; the hint is for datasets on read-only disks."""
    if not os.access(root, os.W_OK):
        raise UserError(
            f"cannot write the manifest into {root}",
            f"link the data into a folder of your own and pass that as --root: ln -s {root}/* FOLDER",
        )


def _anchors(root: Path, workers: int, progress: Progress) -> list[Clip]:
    """Generated irrelevant clips for a dataset that has none of its own."""
    folder = f"{WORK_FOLDER}/anchors/"
    generate = DATASETS[_ANCHOR_DATASET].generate
    size = Size(train_per_class=0, test_per_class=0, irrelevant=_ANCHORS)

    def show(what: str, done: int, total: int) -> None:
        progress(f"{what} anchors", done, total)

    made = generate(root / folder, _ANCHOR_SEED, size, workers, show)
    return [replace(clip, path=folder + clip.path) for clip in made.clips]


def _before(root: Path, dataset: str) -> Manifest | None:
    """The manifest of an earlier preparation; None if there is none that can be read.

    Raises UserError when the folder was prepared as another dataset.
    """
    if not (root / FILE_NAME).is_file():
        return None
    try:
        manifest = Manifest.read(root)
    except UserError as error:
        logger.warning("%s; splits that were drawn are drawn again", error.message)
        return None
    if manifest.dataset != dataset:
        raise UserError(
            f"{root} is prepared as '{manifest.dataset}', not as '{dataset}'",
            f"take --dataset {manifest.dataset}, or delete {root / FILE_NAME} first",
        )
    return manifest


def _settled(listing: Listing, checked: dict[str, Checked], before: Manifest | None, seed: int) -> Listing:
    """The listing with splits that were drawn as they were before."""
    if before is None or before.meta.get("seed", seed) != seed:
        return listing
    known = former_splits(before, [_clip(entry, checked[entry.path]) for entry in listing.entries])
    return replace(listing, entries=draw_test(listing.entries, seed, known))


def _clip(entry: Entry, result: Checked) -> Clip:
    first, frames, duration = 0, result.frames, result.duration
    if entry.span is not None and frames:
        first, frames = result.frames_of(entry.span)
        duration = round(max(0.0, min(duration, entry.span[1]) - entry.span[0]), 3)
    return Clip(
        path=entry.path,
        label=entry.label,
        split=entry.split,
        frames=frames,
        duration=duration,
        sha256=result.sha256,
        group=entry.group,
        other_splits=entry.other_splits,
        width=result.width,
        height=result.height,
        span=entry.span,
        first=first,
    )


def _fault(result: Checked) -> str:
    """Why a clip has no frame."""
    return result.error or f"the video has no frame in this span: it ends at {result.duration:.3f} s"


def _notes(listing: Listing) -> tuple[str, ...]:
    """What is to be said about the splits of the user's own clips."""
    if not listing.own:
        return listing.notes
    notes = list(listing.notes)
    sides: dict[str, set[str]] = {}
    for entry in listing.entries:
        if entry.group:
            sides.setdefault(entry.group, set()).add(entry.split)
    divided = [group for group, splits in sides.items() if {"train", listing.test_split} <= splits]
    if divided:
        notes.append(
            f"{len(divided)} groups are both trained and tested on, as given, such as '{divided[0]}'"
        )
    for split, what, lack in (
        (listing.test_split, "for testing", "`eval` has nothing to measure"),
        ("train", "for training", "`train` has nothing to train on"),
    ):
        classes = {entry.label for entry in listing.entries if entry.split == split}
        missing = [name for name in listing.classes if name not in classes]
        if len(missing) == len(listing.classes):
            notes.append(f"no clip is {what}: {lack}; {_MORE_CLIPS}")
        elif missing:
            notes.append(
                f"{counted(len(missing), 'class')} without a clip {what}, such as '{missing[0]}'; {_MORE_CLIPS}"
            )
    suspected = suggestion(listing.entries, listing.test_split)
    return (*notes, suspected) if suspected else tuple(notes)


def _report(
    dataset: Dataset,
    root: Path,
    listing: Listing,
    checked: dict[str, Checked],
    anchors: Iterable[Clip],
    seed: int,
    pattern: str,
) -> PrepareReport:
    clips = [_clip(entry, checked[entry.path]) for entry in listing.entries]
    broken = [(clip.id, _fault(checked[clip.path])) for clip in clips if not clip.frames]
    if len(broken) == len(clips):
        path, reason = broken[0]
        raise UserError(
            f"none of the {counted(len(clips), 'clip')} in {root} can be decoded, such as {path}: {reason}",
            "when that is mended, run it again with --recheck",
        )
    meta = {
        "rule": listing.rule,
        "flip": dataset.flip,
        "test_split": listing.test_split,
        "broken": [list(item) for item in broken],
        "missing": len(listing.missing),
        "contradictory": len(listing.contradictory),
        **({"seed": seed} if any(entry.drawn for entry in listing.entries) else {}),
        **({"group_pattern": pattern} if pattern else {}),
    }
    return PrepareReport(
        manifest=Manifest(
            dataset.name, root, listing.classes, (), (*clips, *anchors), meta, listing.raw_names
        ),
        checked=len(clips),
        broken=tuple(broken),
        damaged=tuple(
            (path, "; ".join(result.warnings)) for path, result in checked.items() if result.warnings
        ),
        missing=listing.missing,
        contradictory=listing.contradictory,
        duplicates=_duplicates(clips, listing.test_split),
        notes=_notes(listing),
    )


def _duplicates(clips: Sequence[Clip], test_split: str) -> tuple[tuple[str, str], ...]:
    """(clip, other) pairs with the same content: a test clip and a training clip, or clips of two classes."""
    trained = {clip.identity: clip for clip in clips if clip.split == "train"}
    first: dict[str, Clip] = {}
    pairs = []
    for clip in clips:
        if not clip.sha256:
            continue
        other = trained.get(clip.identity, clip) if clip.split == test_split else clip
        if other is clip:
            other = first.setdefault(clip.identity, clip)
        if other.label != clip.label:
            pairs.append((clip.id, f"{other.id}, which is '{other.label}'"))
        elif clip.split == test_split and other.split == "train":
            pairs.append((clip.id, other.id))
    return tuple(pairs)
