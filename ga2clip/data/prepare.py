"""Check or generate a dataset and write its `manifest.json`, a report and optionally a frame cache."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ga2clip.data.cache_build import build_cache
from ga2clip.data.check import Checked, check_clips
from ga2clip.data.declaration import Dataset, Listing, Size
from ga2clip.data.listing import scan
from ga2clip.data.manifest import WORK_FOLDER, Clip, Manifest
from ga2clip.data.pool import Progress, default_workers, silent
from ga2clip.errors import UserError
from ga2clip.files import write_text
from ga2clip.lock import locked
from ga2clip.registry import DATASETS
from ga2clip.text import csv_lines

REPORT_NAME = "prepare_report.csv"
_ANCHORS = 120
_ANCHOR_DATASET = "stickfigures"  # reached by name: generators are datasets like others
_ANCHOR_SEED = 0


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
    """

    manifest: Manifest
    checked: int
    broken: tuple[tuple[str, str], ...] = ()
    damaged: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()
    contradictory: tuple[tuple[str, str], ...] = ()
    duplicates: tuple[tuple[str, str], ...] = ()
    cached: int = 0

    def table(self) -> str:
        """A readable table: clips per split, and problems of the dataset."""
        counts = Counter(clip.split for clip in self.manifest.clips)
        lines = [f"{self.manifest.dataset}: {len(self.manifest.classes)} classes in {self.manifest.root}"]
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
        ]
        lines += [f"  {name:<13} {count:>8} {meaning}" for name, count, meaning in problems if count]
        lines += [f"  {'cached':<13} {self.cached:>8} clips"] if self.cached else []
        if any(count for _, count, _ in problems):
            lines.append(f"  details: {self.manifest.root / REPORT_NAME}")
        return "\n".join(lines)

    def to_csv(self) -> str:
        """CSV with a line `status,clip,reason` per problem; bytes of names that are not UTF-8 are written as \\udc…."""
        rows = [("status", "clip", "reason")]
        rows += [("missing", name, "no file") for name in self.missing]
        rows += [("broken", *item) for item in self.broken]
        rows += [("damaged", *item) for item in self.damaged]
        rows += [("contradictory", *item) for item in self.contradictory]
        rows += [("duplicate", clip, f"same as {other}") for clip, other in self.duplicates]
        return csv_lines(rows).encode("utf-8", "backslashreplace").decode()


def prepare(
    dataset: str,
    root: Path,
    *,
    workers: int = 0,
    seed: int = 0,
    list_file: Path | None = None,
    cache: bool = False,
    recheck: bool = False,
    size: Size | None = None,
    progress: Progress = silent,
) -> PrepareReport:
    """Generate or check a dataset and write `<root>/manifest.json` and `<root>/prepare_report.csv`.

    If it is interrupted, the next call continues: no clip is decoded twice.

    Args:
        dataset: its name.
        root: its folder.
        workers: processes; 0: one per processor.
        seed: of a generated dataset, or for drawing test clips if the dataset has no split of its own.
        list_file: the CSV, for the dataset `csv`.
        cache: also build the frame cache (generated datasets always get one).
        recheck: decode broken clips again, although their files did not change.
        size: of a generated dataset.
        progress: see `pool.Progress`.

    Raises:
        UserError: unknown dataset, a negative seed, a folder without the expected layout (the hint says where to get
            the data), no decodable clip, or a folder that can't be written to.
    """
    declaration: Dataset = DATASETS[dataset]
    if seed < 0:
        raise UserError(f"a seed must be 0 or more, got {seed}")
    workers = workers or default_workers()
    listing = None
    if declaration.read:
        listing = scan(declaration, root, list_file=list_file, seed=seed)
        _need_writable(root)
    busy = UserError(f"another process is preparing {root}", "wait for it, or stop it")
    with locked(root / WORK_FOLDER / "lock", busy):
        if listing:
            checked = check_clips(
                root,
                [entry.path for entry in listing.entries],
                workers=workers,
                recheck=recheck,
                progress=lambda done, total: progress("checking", done, total),
            )
            anchors = _anchors(root, workers, progress)
            report = _report(declaration, root, listing, checked, anchors)
        else:
            assert declaration.generate is not None
            manifest = declaration.generate(root, seed, size or Size(), workers, progress)
            report = PrepareReport(manifest, checked=len(manifest.clips))
        report.manifest.write()
        write_text(root / REPORT_NAME, report.to_csv())
        if cache or declaration.generate:
            return replace(report, cached=build_cache(report.manifest, workers, progress))
        return report


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


def _report(
    dataset: Dataset, root: Path, listing: Listing, checked: dict[str, Checked], anchors: Iterable[Clip]
) -> PrepareReport:
    clips = []
    for entry in listing.entries:
        result = checked[entry.path]
        clips.append(
            Clip(
                path=entry.path,
                label=entry.label,
                split=entry.split,
                frames=result.frames,
                duration=result.duration,
                sha256=result.sha256,
                group=entry.group,
                other_splits=entry.other_splits,
                width=result.width,
                height=result.height,
            )
        )
    broken = [(path, result.error) for path, result in checked.items() if result.error]
    if len(broken) == len(clips):
        path, reason = broken[0]
        raise UserError(
            f"none of the {len(clips)} clips in {root} can be decoded, such as {path}: {reason}",
            "when that is mended, run it again with --recheck",
        )
    meta = {
        "rule": listing.rule,
        "flip": dataset.flip,
        "test_split": listing.test_split,
        "broken": [list(item) for item in broken],
        "missing": len(listing.missing),
        "contradictory": len(listing.contradictory),
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
    )


def _duplicates(clips: Sequence[Clip], test_split: str) -> tuple[tuple[str, str], ...]:
    """(clip, other) pairs with the same content: a test clip and a training clip, or clips of two classes."""
    trained = {clip.sha256: clip for clip in clips if clip.split == "train"}
    first: dict[str, Clip] = {}
    pairs = []
    for clip in clips:
        if not clip.sha256:
            continue
        other = trained.get(clip.sha256, clip) if clip.split == test_split else clip
        if other is clip:
            other = first.setdefault(clip.sha256, clip)
        if other.label != clip.label:
            pairs.append((clip.path, f"{other.path}, which is '{other.label}'"))
        elif clip.split == test_split and other.split == "train":
            pairs.append((clip.path, other.path))
    return tuple(pairs)
