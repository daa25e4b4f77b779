import errno
import multiprocessing
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ga2clip.data import check, clip_frames, loader, reader
from ga2clip.data.loader import batches_per_epoch, eval_batches, plan_epoch, train_batches
from ga2clip.data.manifest import Clip
from ga2clip.data.protocols import EvalSet, Task
from ga2clip.errors import UserError
from ga2clip.settings import Settings
from ga2clip.video import Preprocess, SamplingRule, sample_frames, sample_indices

PREPROCESS = Preprocess(24, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
CLASSES = ("run", "sit", "jump")


@pytest.fixture
def task(tmp_path: Path, make_video) -> Task:
    def clips(kind: str, number: int) -> tuple[Clip, ...]:
        made = []
        for index in range(number):
            path = f"{kind}/{index}.mp4"
            make_video(tmp_path / path, seed=100 + index)
            label = None if kind == "anchor" else CLASSES[index % 3]
            made.append(Clip(path, label, kind, 10, 1.0))
        return tuple(made)

    evals = (EvalSet("test", CLASSES, clips("test", 5)),)
    return Task("few-shot", "", tmp_path, CLASSES, clips("train", 7), clips("anchor", 3), evals)


def settings(root: Path, **sections: dict[str, object]) -> Settings:
    tree = {
        "data": {"root": str(root), "frames": 4},
        "training": {"batch_size": 3},
        "anchors": {"weight": 1.0},
    }
    return Settings.from_dict(tree, "test").updated(sections, "test")


def test_an_epoch_shows_every_clip_once_and_anchors_last(task: Task) -> None:
    batches = list(train_batches(task, settings(task.root), PREPROCESS, epoch=0))
    assert len(batches) == batches_per_epoch(task, settings(task.root)) == 3
    seen = [
        name for batch in batches for name, label in zip(batch.ids, batch.labels, strict=True) if label >= 0
    ]
    assert sorted(seen) == sorted(clip.id for clip in task.train)
    for batch in batches:
        assert batch.frames.shape == (len(batch.ids), 4, 24, 24, 3)
        assert batch.frames.dtype == torch.uint8
        assert batch.labels[-2:].tolist() == [-1, -1]
        for name, label in zip(batch.ids[:-2], batch.labels[:-2].tolist(), strict=True):
            assert CLASSES[label] == next(clip.label for clip in task.train if clip.id == name)


def test_order_and_pixels_follow_from_seed_and_epoch_alone(task: Task) -> None:
    def epoch(number: int, seed: int = 1, workers: int = 0) -> list[torch.Tensor]:
        chosen = settings(task.root, training={"seed": seed, "workers": workers})
        return [batch.frames for batch in train_batches(task, chosen, PREPROCESS, epoch=number)]

    first = epoch(0)
    for again in (epoch(0), epoch(0, workers=1)):
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], epoch(1)[0])
    assert not torch.equal(first[0], epoch(0, seed=2)[0])


def test_skipping_batches_resumes_the_same_epoch(task: Task) -> None:
    whole = list(train_batches(task, settings(task.root), PREPROCESS, epoch=2))
    rest = list(train_batches(task, settings(task.root), PREPROCESS, epoch=2, skip=2))
    assert len(rest) == 1
    assert torch.equal(rest[0].frames, whole[2].frames)


def test_epochs_in_a_row_are_those_epochs(task: Task) -> None:
    chosen = settings(task.root)
    single = [b for epoch in (1, 2) for b in train_batches(task, chosen, PREPROCESS, epoch=epoch)]
    stream = list(train_batches(task, chosen, PREPROCESS, epoch=1, until=3, skip=1))
    assert [b.ids for b in stream] == [b.ids for b in single[1:]]
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(stream, single[1:], strict=True))


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_each_batch_evenly(task: Task, world: int) -> None:
    chosen = settings(task.root)
    shares = [plan_epoch(task, chosen, epoch=0, rank=rank, world=world) for rank in range(world)]
    whole = plan_epoch(task, chosen, epoch=0, rank=0, world=1)
    assert {len(share) for share in shares} == {batches_per_epoch(task, chosen, world)}
    for step in range(len(shares[0])):
        labelled = [[s.clip.id for s in share[step] if s.label >= 0] for share in shares]
        assert len({len(names) for names in labelled}) == 1
        assert all(any(s.label < 0 for s in share[step]) for share in shares)
        together = {name for names in labelled for name in names}
        assert together <= {s.clip.id for s in whole[step] if s.label >= 0}
        assert len(together) == sum(map(len, labelled))


def test_anchors_come_in_the_first_of_so_many_updates_and_all_have_their_turn(task: Task) -> None:
    """Three updates an epoch: with `every` 2 those with the numbers 0, 2, 4, … of the run have anchors."""
    chosen = settings(task.root, anchors={"every": 2, "per_step": 1})

    def anchors(epoch: int, rank: int = 0, world: int = 1) -> list[list[str]]:
        plan = plan_epoch(task, chosen, epoch=epoch, rank=rank, world=world)
        return [[sample.clip.id for sample in batch if sample.label < 0] for batch in plan]

    assert [len(batch) for epoch in range(4) for batch in anchors(epoch)] == [1, 0] * 6
    first, _, second = anchors(0)
    assert first != second
    assert {name for epoch in range(4) for batch in anchors(epoch) for name in batch} == {
        clip.id for clip in task.anchors
    }
    for rank in (0, 1):  # two processes agree on the updates
        counts = [len(batch) for epoch in range(4) for batch in anchors(epoch, rank, 2)]
        assert counts == [1, 0] * (len(counts) // 2)
    every = plan_epoch(task, settings(task.root), epoch=1, rank=0, world=1)
    assert [sum(sample.label < 0 for sample in batch) for batch in every] == [2, 2, 2]


def test_a_resumed_epoch_has_its_anchors_where_they_were(task: Task) -> None:
    chosen = settings(task.root, anchors={"every": 2})
    whole = [batch.ids for batch in train_batches(task, chosen, PREPROCESS, epoch=0, until=2)]
    rest = [batch.ids for batch in train_batches(task, chosen, PREPROCESS, epoch=0, until=2, skip=1)]
    assert [len(ids) for ids in whole] == [5, 3, 3, 3, 5, 1]
    assert rest == whole[1:]


def test_no_anchors_without_weight(task: Task) -> None:
    chosen = settings(task.root, anchors={"weight": 0.0})
    assert all((batch.labels >= 0).all() for batch in train_batches(task, chosen, PREPROCESS, epoch=0))


def test_evaluation_sees_each_clip_once_with_the_one_recipe(task: Task) -> None:
    chosen, clips = settings(task.root), task.evals[0].clips
    names = []
    for rank in range(2):
        for batch in eval_batches(clips, CLASSES, chosen, PREPROCESS, rank=rank, world=2, batch_size=2):
            names += batch.ids
            for name, frames in zip(batch.ids, batch.frames, strict=True):
                sampled = sample_frames(task.root / name, SamplingRule(4)).frames
                np.testing.assert_array_equal(frames.numpy(), PREPROCESS.frames(sampled))
    assert sorted(names) == sorted(clip.id for clip in clips)


def test_views_are_temporal_times_spatial(task: Task) -> None:
    chosen = settings(task.root, data={"test_clips": 2, "test_crops": 3})
    batch = next(iter(eval_batches(task.evals[0].clips, CLASSES, chosen, PREPROCESS)))
    assert batch.frames.shape == (5, 6, 4, 24, 24, 3)
    assert batch.clip_tensor(PREPROCESS, "cpu").shape == (5, 6, 4, 3, 24, 24)


def test_clip_tensor_is_normalised_as_the_recipe_says(task: Task) -> None:
    batch = next(iter(eval_batches(task.evals[0].clips, CLASSES, settings(task.root), PREPROCESS)))
    expected = PREPROCESS.normalise(batch.frames.numpy())
    np.testing.assert_allclose(batch.clip_tensor(PREPROCESS, "cpu").numpy(), expected, atol=1e-6)


def test_broken_clips_are_reported_not_replaced(task: Task, caplog: pytest.LogCaptureFixture) -> None:
    clips = task.evals[0].clips
    (task.root / clips[1].path).write_bytes(b"no video")
    (task.root / clips[3].path).unlink()
    batches = list(eval_batches(clips, CLASSES, settings(task.root), PREPROCESS, batch_size=1))
    assert [len(batch.ids) for batch in batches] == [1, 0, 1, 0, 1]
    assert [name for batch in batches for name, _ in batch.broken] == [clips[1].id, clips[3].id]
    assert clips[1].id in caplog.text


def test_training_goes_on_without_a_broken_clip_but_not_without_any(task: Task) -> None:
    (task.root / task.train[0].path).write_bytes(b"")
    batches = list(train_batches(task, settings(task.root), PREPROCESS, epoch=0))
    assert sum(int((batch.labels >= 0).sum()) for batch in batches) == 6
    for clip in task.train:
        (task.root / clip.path).write_bytes(b"")
    with pytest.raises(UserError, match="no clip of a training batch"):
        list(train_batches(task, settings(task.root), PREPROCESS, epoch=0))


def test_clips_get_the_time_in_which_prepare_found_them_whole(
    tmp_path: Path, make_video, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_video(tmp_path / "1.mp4")
    limits: list[float] = []
    sample = clip_frames.sample_frames

    def noted(*args: object, time_limit: float, **options: object) -> object:
        limits.append(time_limit)
        return sample(*args, time_limit=time_limit, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(clip_frames, "sample_frames", noted)
    clip = Clip("1.mp4", "run", "test", 10, 1.0)
    reader.ClipReader(tmp_path, settings(tmp_path), PREPROCESS).evaluation_clip(clip)
    assert limits == [check.time_limit((tmp_path / "1.mp4").stat().st_size)]


def frames_of(task: Task, workers: int) -> list[torch.Tensor]:
    chosen = settings(task.root, training={"workers": workers})
    return [batch.frames for batch in train_batches(task, chosen, PREPROCESS, epoch=0)]


def test_batches_of_loader_processes_need_no_shared_memory(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container has 64 MB of it by default, or none that can be written."""

    def full(*_: object) -> None:
        raise RuntimeError("unable to write to file </torch_1_2>: No space left on device (28)")

    alone = frames_of(task, 0)
    for name in ("_share_fd_cpu_", "_share_filename_cpu_"):
        monkeypatch.setattr(torch.UntypedStorage, name, full)
    for one, other in zip(alone, frames_of(task, 2), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EAGAIN])
def test_where_no_loader_process_can_be_started_clips_are_read_without(
    task: Task, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def refused(_: int) -> None:
        raise OSError(number, os.strerror(number))

    alone = frames_of(task, 0)
    monkeypatch.setattr(loader, "_try_semaphores", refused)
    for one, other in zip(alone, frames_of(task, 2), strict=True):
        assert torch.equal(one, other)
    assert f"no loader processes can be started ({os.strerror(number)})" in caplog.text


def test_a_batch_that_cannot_be_sent_is_an_error_and_no_hang(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails in a thread of the loader process, which the parent does not see."""

    def unpicklable(_: loader.Batch) -> None:
        raise MemoryError("no room for a copy")

    monkeypatch.setattr(loader.Batch, "__getstate__", unpicklable)
    with pytest.raises(UserError, match="could not send a batch: MemoryError: no room for a copy") as caught:
        frames_of(task, 2)
    assert "training.workers=0" in (caught.value.hint or "")


def test_loader_processes_let_signals_pass_and_end_with_the_parent(task: Task) -> None:
    chosen = settings(task.root, training={"workers": 2})
    batches = train_batches(task, chosen, PREPROCESS, epoch=0, until=20)
    first = next(batches)
    children = multiprocessing.active_children()
    assert children
    for number in (signal.SIGTERM, signal.SIGINT):
        for child in children:
            # From another process, as `kill` does it; what the parent itself sends ends a loader.
            subprocess.run(["kill", f"-{int(number)}", str(child.pid)], check=True)
    assert torch.equal(first.frames, frames_of(task, 0)[0])
    assert len(list(batches)) == 20 * 3 - 1
    batches = train_batches(task, chosen, PREPROCESS, epoch=0, until=1000)
    next(batches)
    (child, *_) = multiprocessing.active_children()
    child.terminate()
    child.join(10)
    assert child.exitcode == 0


@pytest.mark.parametrize("may_flip", [True, False])
def test_training_mirrors_clips_only_where_the_dataset_allows_it(task: Task, may_flip: bool) -> None:
    """With a probability of 1 every clip is mirrored, and none where left and right matter."""
    still = {"scale_min": 1.0, "grey": 0.0}

    def pixels(flip: float, allowed: bool) -> list[torch.Tensor]:
        chosen = settings(task.root, augment={**still, "flip": flip}, anchors={"weight": 0.0})
        batches = train_batches(replace(task, flip=allowed), chosen, PREPROCESS, epoch=0)
        return [batch.frames for batch in batches]

    for plain, found in zip(pixels(0.0, True), pixels(1.0, may_flip), strict=True):
        assert torch.equal(found, plain.flip(dims=[3]) if may_flip else plain)
        assert not torch.equal(plain, plain.flip(dims=[3]))


def test_training_takes_a_random_frame_of_each_segment_and_evaluation_its_centre(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 frames, 4 segments of 10: over many seeds every frame of a segment is taken, in evaluation the sixth."""
    taken: list[np.ndarray] = []

    def numbered(path: Path, rule: SamplingRule, **_: object) -> object:
        indices = sample_indices(40, rule).ravel()
        taken.append(indices)
        return SimpleNamespace(
            frames=np.zeros((len(indices), 24, 24, 3), dtype=np.uint8), times=np.zeros(len(indices))
        )

    monkeypatch.setattr(clip_frames, "sample_frames", numbered)
    one = reader.ClipReader(tmp_path, settings(tmp_path), PREPROCESS)
    clip = Clip("clip.mp4", "run", "train", 40, 4.0)
    for seed in range(200):
        one.training_clip(clip, (seed,))
    segments = np.stack(taken)
    for number in range(4):
        assert set(segments[:, number]) == set(range(10 * number, 10 * number + 10))
    one.evaluation_clip(clip)
    assert taken[-1].tolist() == [5, 15, 25, 35]
