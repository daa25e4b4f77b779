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
    """What `prepare` found.

    Attributes:
        manifest: as it was written.
        checked: clips on disk that were decoded, now or in an earlier run.
        broken: (clip, reason) of clips without a frame; they stay in the manifest with 0 frames: never trained on,
            wrong in evaluation.
        damaged: (clip, what is lost), usable.
        missing: clips of the annotations without a file.
        contradictory: (clip, reason) of clips that the annotations name with several labels or roles, left out.
        duplicates: (clip, other) with the same content: a test clip and a training clip, or clips of two classes.
        cached: clips in the frame cache.
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
        """Clips per split and what is wrong with the dataset, for a terminal."""
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
        """One line per problem: status,clip,reason; bytes of names that are no text are written as \\udc…."""
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

    Interrupted, it goes on where it was: no clip is decoded twice. workers: processes, 0: one per processor.
    seed: of a generated dataset, or of a split that the dataset doesn't have itself. list_file: the list of
    the dataset `csv`. cache: make the frame cache too (generated datasets always get one). recheck: decode
    the clips that were broken again, though they didn't change. size: of a generated dataset.
    Errors: UserError for an unknown dataset, a folder that isn't it (with where to get it), nothing
    decodable, a disk that can't be written to.
    """
    declaration: Dataset = DATASETS[dataset]
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
    """Said before hours of decoding, with the way out for a dataset on a medium that is only read."""
    if not os.access(root, os.W_OK):
        raise UserError(
            f"cannot write into {root}, where the manifest goes",
            f"link the data into a folder of your own and give that as --root: ln -s {root}/* FOLDER",
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
        found = checked[entry.path]
        clips.append(
            Clip(
                path=entry.path,
                label=entry.label,
                split=entry.split,
                frames=found.frames,
                duration=found.duration,
                sha256=found.sha256,
                group=entry.group,
                other_splits=entry.other_splits,
                width=found.width,
                height=found.height,
            )
        )
    broken = [(path, found.error) for path, found in checked.items() if found.error]
    if len(broken) == len(clips):
        path, reason = broken[0]
        raise UserError(
            f"none of the {len(clips)} clips in {root} can be decoded, such as {path}: {reason}",
            "when the reason is gone, start again with --recheck",
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
        damaged=tuple((path, "; ".join(found.warnings)) for path, found in checked.items() if found.warnings),
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
