"""Clips that are spans of a long file are, frame for frame, what cut files would be."""

import json
import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from ga2clip.data import prepare as prepare_module
from ga2clip.data.anchors import anchor_clips
from ga2clip.data.cache import FrameStore
from ga2clip.data.loader import eval_batches, train_batches
from ga2clip.data.manifest import Manifest
from ga2clip.data.prepare import PrepareReport, prepare
from ga2clip.data.protocols import Task, make_task
from ga2clip.errors import UserError
from ga2clip.runtime import Predictor
from ga2clip.runtime.timeline import Segment, Timeline
from ga2clip.settings import Settings
from ga2clip.video import Gap, Preprocess
from ga2clip_export import accuracy
from ga2clip_export.calibration_clips import from_task

PREPROCESS = Preprocess(24, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
RATE = Fraction(30000, 1001)
BORDERS = (0, 17, 40, 45, 71)  # of the pieces of the long file, in frames


@pytest.fixture(autouse=True)
def few_anchors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_module, "_ANCHORS", 0)


def write_lossless(path: Path, frames: np.ndarray) -> Path:
    """FFV1 in Matroska, whose time stamps are in milliseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format="bgr0")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with a long file of noise and a list of its spans; one with the pieces and their list."""
    frames = np.random.default_rng(0).integers(0, 256, (BORDERS[-1], 36, 48, 3), dtype=np.uint8)
    root = tmp_path_factory.mktemp("footage")
    long, cut = root / "long", root / "cut"
    write_lossless(long / "day.mkv", frames)
    lines, pieces = ["path,label,split,start,end"], ["path,label,split"]
    for number, (first, last) in enumerate(pairwise(BORDERS)):
        write_lossless(cut / f"{number}.mkv", frames[first:last])
        what = ("run,train", "sit,train", "run,test", "sit,test")[number]
        lines.append(f"day.mkv,{what},{float(first / RATE):.3f},{float(last / RATE):.3f}")
        pieces.append(f"{number}.mkv,{what}")
    (long / "list.csv").write_text("\n".join(lines))
    (cut / "list.csv").write_text("\n".join(pieces))
    return long, cut


def prepared(root: Path, **options: object) -> PrepareReport:
    return prepare("csv", root, workers=1, list_file=root / "list.csv", **options)  # type: ignore[arg-type]


def settings(root: Path, **data: object) -> Settings:
    tree = {
        "data": {"dataset": "csv", "root": str(root), "protocol": "full", "frames": 4, **data},
        "training": {"batch_size": 2},
    }
    return Settings.from_dict(tree, "test")


def tensors(report: PrepareReport, **data: object) -> list[torch.Tensor]:
    """What is trained on in two epochs, and what is tested on."""
    chosen = settings(report.manifest.root, **data)
    task = make_task(report.manifest, chosen.data, 1)
    trained = [b for e in (0, 1) for b in train_batches(task, chosen, PREPROCESS, epoch=e)]
    evals = task.evals[0]
    tested = list(eval_batches(evals.clips, evals.classes, chosen, PREPROCESS))
    assert not any(batch.broken for batch in [*trained, *tested])
    return [part for batch in [*trained, *tested] for part in (batch.frames, batch.labels)]


@pytest.mark.parametrize("cache", [False, True])
def test_training_on_spans_equals_training_on_cut_files(footage: tuple[Path, Path], cache: bool) -> None:
    spans, files = (prepared(root, cache=cache) for root in footage)
    clips = spans.manifest.clips
    assert [(clip.first, clip.frames) for clip in clips] == [(0, 17), (17, 23), (40, 5), (45, 26)]
    assert Manifest.read(footage[0]) == spans.manifest
    if cache:
        assert spans.cached == files.cached == 4
        store = FrameStore.find(footage[0])
        assert store is not None
        assert all(clip in store for clip in clips)
    for views in (1, 2):
        ours, theirs = (tensors(report, cache=cache, test_clips=views) for report in (spans, files))
        assert len(ours) == len(theirs) == 6
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)


def test_far_into_a_file_of_many_frames_the_span_is_found_by_seeking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1100 frames with a key frame in ten; each frame's grey says its number."""
    path = tmp_path / "long.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0", "g": "10"})
        stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv444p"
        for number in range(1100):
            frame = np.full((16, 16, 3), number % 250, np.uint8)
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format="yuv444p"))
            )
        container.mux(stream.encode(None))
    (tmp_path / "list.csv").write_text("path,label,start,end\nlong.mp4,run,0,1\nlong.mp4,sit,42,42.16\n")
    report = prepared(tmp_path)
    assert [(clip.first, clip.frames) for clip in report.manifest.clips] == [(0, 25), (1050, 4)]
    task = make_task(report.manifest, settings(tmp_path).data, 1, tested=False)
    *_, batch = eval_batches(task.train[1:], ["sit"], settings(tmp_path), PREPROCESS)
    greys = batch.frames[0].float().mean(dim=(1, 2, 3))
    assert torch.allclose(greys, torch.tensor([50.0, 51, 52, 53]), atol=2)


def test_other_spans_of_a_file_need_no_second_look_at_it(footage: tuple[Path, Path], tmp_path: Path) -> None:
    root = tmp_path / "again"
    root.mkdir()
    (root / "day.mkv").write_bytes((footage[0] / "day.mkv").read_bytes())
    (root / "list.csv").write_text("path,label\nday.mkv,run\n")
    prepared(root)
    journal = root / ".ga2clip" / "checked.jsonl"
    assert len(journal.read_text().splitlines()) == 1
    for start in (0.5, 0.75):
        (root / "list.csv").write_text(f"path,label,start,end\nday.mkv,run,{start},1.25\n")
        clip = prepared(root).manifest.clips[0]
        assert clip.first == math.ceil(start * RATE)
        assert len(journal.read_text().splitlines()) == 2  # the first list did not need the times


def test_spans_of_one_file_stay_together_and_faults_are_said(
    footage: tuple[Path, Path], tmp_path: Path
) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.mkv").write_bytes((footage[1] / "3.mkv").read_bytes() + name.encode())
    lines = ["path,start,end,label,score"]
    for name in ("a", "b", "c", "d"):
        lines += [f"{name}.mkv,0.0,0.3,run,0.9", f"{name}.mkv,0.3,0.6,,", f"{name}.mkv,0.6,0.8,sit,0.7"]
    lines += ["a.mkv,8,9,sit,0.5", "a.mkv,0.1,0.2,none of these,0.5"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    report = prepared(tmp_path)
    sides: dict[str, set[str]] = {}
    for clip in report.manifest.clips:
        sides.setdefault(clip.path, set()).add(clip.split)
    assert sorted(next(iter(side)) for side in sides.values() if len(side) == 1) == [
        "test",
        *["train"] * 3,
    ]
    assert report.broken == (
        ("a.mkv#t=8.000,9.000", "the video has no frame in this span: it ends at 0.867 s"),
    )
    assert "5 spans without a class are left out" in report.table()
    assert report.manifest.classes == ("run", "sit")


@pytest.mark.parametrize("span", ["2,1", "1,1", "-1,2", "one,2", "1,", "0,inf", "nan,1"])
def test_impossible_spans_are_refused_with_their_line(
    footage: tuple[Path, Path], tmp_path: Path, span: str
) -> None:
    (tmp_path / "list.csv").write_text(f"path,label,start,end\nday.mkv,run,{span}\n")
    with pytest.raises(UserError, match=r"list\.csv, line 2: .* is no span"):
        prepared(tmp_path)


def test_a_manifest_with_an_impossible_span_is_damaged(footage: tuple[Path, Path], tmp_path: Path) -> None:
    manifest = replace(prepared(footage[0]).manifest, root=tmp_path)
    clip = replace(manifest.clips[0], span=(3.0, 2.0))
    replace(manifest, clips=(clip, *manifest.clips[1:])).write()
    with pytest.raises(UserError, match="has an impossible span"):
        Manifest.read(tmp_path)


def test_a_timeline_is_a_list_of_spans_and_subtitles(footage: tuple[Path, Path], tmp_path: Path) -> None:
    """A file name that a spreadsheet would run, a gap, and a label with marks of WebVTT."""
    file = tmp_path / "=day.mkv"
    file.write_bytes((footage[0] / "day.mkv").read_bytes())
    segments = (Segment(0.0, 1 / 3, "run & <hide>", 0.876), Segment(0.5, 2.369, "sit", 0.5))
    found = Timeline("=day.mkv", 2.369, 1, 1, 4, 9, ("sit",), segments, (), (Gap(1 / 3, 0.5),))
    (tmp_path / "list.csv").write_text(found.to_csv())
    clips = prepared(tmp_path).manifest.clips
    assert [(clip.label, clip.span, clip.first, clip.frames) for clip in clips] == [
        ("run & <hide>", (0.0, 0.333), 0, 10),
        ("sit", (0.5, 2.369), 15, 56),
    ]
    assert found.to_vtt() == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:00.333\nrun &amp; &lt;hide&gt; (88 %)\n\n"
        "00:00:00.500 --> 00:00:02.369\nsit (50 %)\n"
    )


def test_a_whole_file_and_its_spans_have_their_own_places_in_the_journal_and_the_cache(
    footage: tuple[Path, Path],
) -> None:
    report = prepared(footage[0], cache=True)
    names = [
        name
        for index in (footage[0] / ".ga2clip" / "frames").glob("*.json")
        for name in json.loads(index.read_text())["clips"]
    ]
    assert sorted(names) == sorted(clip.id for clip in report.manifest.clips)
    assert names[0].startswith("day.mkv#t=")


def task_of(report: PrepareReport) -> Task:
    return make_task(report.manifest, settings(report.manifest.root).data, 1)


def test_calibration_clips_and_unused_anchors_are_spans_too(footage: tuple[Path, Path]) -> None:
    spans, files = (prepared(root) for root in footage)
    ours, theirs = (from_task(task_of(report), PREPROCESS, 4, 9) for report in (spans, files))
    assert ours is not None
    assert theirs is not None
    assert ours.shape == (2, 4, 24, 24, 3)
    assert np.array_equal(ours, theirs)
    [anchor] = anchor_clips("unused", spans.manifest, {"run"})
    assert (anchor.label, anchor.split, anchor.first, anchor.frames) == (None, "anchor", 17, 23)


def test_a_bundle_answers_spans_as_it_answers_cut_files(footage: tuple[Path, Path], bundle: Path) -> None:
    """What `export --verify-accuracy` measures; the names that are chosen from differ between the two clips."""
    classes = ("running", "sitting", "throwing a ball", "drinking", "a dance", "sleeping")
    spans, files = (task_of(prepared(root)) for root in footage)
    with Predictor(bundle, provider="cpu", cache=False) as predictor:
        (_, one), (_, other) = (
            accuracy._encoded(predictor, task.root, task.evals[0].clips) for task in (spans, files)
        )
        scorer = predictor.scorer(classes)
        assert len(one) == len(other) == 2
        np.testing.assert_allclose(scorer.probabilities(one), scorer.probabilities(other), atol=1e-5)
    broken = replace(spans.evals[0].clips[0], path="none.mkv")
    task = replace(spans, evals=(replace(spans.evals[0], clips=(broken,)),))
    assert accuracy.measure_accuracy(bundle, task).accuracy == {"test": 0.0}
