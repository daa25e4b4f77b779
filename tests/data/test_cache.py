import pickle
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ga2clip.data import cache
from ga2clip.data.cache import FrameStore, cache_folder, plan_shards, write_shard
from ga2clip.data.manifest import Clip
from ga2clip.errors import UserError
from ga2clip.files import file_sha256
from ga2clip.video import read_frames


@pytest.fixture
def clips(tmp_path: Path, make_video) -> list[Clip]:
    made = []
    for number, frames in enumerate((10, 10, 90)):
        path = make_video(tmp_path / f"{number}.mp4", seed=number, frames=frames)
        made.append(Clip(path.name, "run", "train", frames, 1.0, file_sha256(path), width=64, height=48))
    return made


def build(root: Path, clips: list[Clip]) -> list[str]:
    """Write what is missing; the paths of the clips that were decoded for it."""
    written: list[str] = []
    for shard, group in plan_shards(root, clips):
        write_shard(shard, root, group, lambda clip: written.append(clip.path))
    return written


def test_stored_frames_are_those_of_the_file_up_to_jpeg(tmp_path: Path, clips: list[Clip]) -> None:
    build(tmp_path, clips)
    store = FrameStore.find(tmp_path)
    assert store is not None
    assert [store.count(clip) for clip in clips] == [10, 10, cache.FRAMES]
    numbers = [7, 0, 3, 3]
    frames = store.read(clips[1], numbers)
    original, _ = read_frames(tmp_path / "1.mp4", numbers)
    assert frames.dtype == np.uint8
    assert np.abs(frames.astype(int) - original).mean() < 4
    assert (frames[2] == frames[3]).all()
    long = store.read(clips[2], [0, cache.FRAMES - 1])
    ends, _ = read_frames(tmp_path / "2.mp4", [0, 89])
    assert np.abs(long.astype(int) - ends).mean() < 4


def test_large_pictures_are_scaled_down_small_ones_never_up(
    tmp_path: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SHORT_SIDE", 24)
    build(tmp_path, clips[:1])
    store = FrameStore.find(tmp_path)
    assert store is not None
    assert store.read(clips[0], [0]).shape == (1, 24, 32, 3)


def test_shards_are_plain_tars_that_others_read(tmp_path: Path, clips: list[Clip]) -> None:
    build(tmp_path, clips)
    with tarfile.open(cache_folder(tmp_path) / "frames-000000.tar") as tar:
        names = tar.getnames()
    assert names[:3] == ["0000000000.json", "0000000000.000.jpg", "0000000000.001.jpg"]
    assert len({name.partition(".")[0] for name in names}) == 3


def test_only_what_is_missing_or_changed_is_decoded(
    tmp_path: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "CLIPS_PER_SHARD", 2)
    assert build(tmp_path, clips[:2]) == ["0.mp4", "1.mp4"]
    assert build(tmp_path, clips) == ["2.mp4"]
    assert build(tmp_path, clips) == []
    changed = [Clip(**{**clips[0].__dict__, "sha256": "other"}), *clips[1:]]
    store = FrameStore.find(tmp_path)
    assert store is not None
    assert changed[0] not in store
    assert build(tmp_path, changed) == ["0.mp4"]


def test_an_interrupted_shard_leaves_no_trace(tmp_path: Path, clips: list[Clip]) -> None:
    folder = cache_folder(tmp_path)

    def interrupt(clip: Clip) -> None:
        if clip is clips[1]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(folder / "frames-000000.tar", tmp_path, clips, interrupt)
    assert FrameStore.find(tmp_path) is None
    assert list(folder.iterdir()) == []
    # A kill leaves temporary files, or a shard without its index.
    (folder / ".frames-000000.17.tar").write_bytes(b"half")
    (folder / "frames-000000.tar").write_bytes(b"whole, but not vouched for")
    assert [path.name for path, _ in plan_shards(tmp_path, clips)] == ["frames-000000.tar"]
    assert list(folder.iterdir()) == []


def test_another_recipe_is_made_again(
    tmp_path: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path, clips)
    monkeypatch.setattr(cache, "_RECIPE", {"schema": 2})
    assert FrameStore.find(tmp_path) is None
    assert len(build(tmp_path, clips)) == 3


def test_damage_is_noticed(tmp_path: Path, clips: list[Clip]) -> None:
    build(tmp_path, clips)
    store = FrameStore.find(tmp_path)
    assert store is not None
    shard = cache_folder(tmp_path) / "frames-000000.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(UserError, match="damaged"):
        FrameStore(store.folder, store._places).read(clips[1], [0])


@pytest.mark.parametrize(
    "damage", ["flipped bit", "cut tar", "no tar", "cut index", "index of something else"]
)
def test_a_damaged_shard_is_made_again(
    tmp_path: Path, clips: list[Clip], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    build(tmp_path, clips)
    shard = cache_folder(tmp_path) / "frames-000000.tar"
    index, whole = shard.with_suffix(".json"), shard.read_bytes()
    if damage == "flipped bit":
        shard.write_bytes(whole[:9000] + bytes([whole[9000] ^ 4]) + whole[9001:])
    elif damage == "cut tar":
        shard.write_bytes(whole[:-600])
    elif damage == "no tar":
        shard.unlink()
    elif damage == "cut index":
        index.write_text(index.read_text()[:-30])
        assert FrameStore.find(tmp_path) is None  # the videos are decoded then, which is said
    else:
        index.write_text('{"recipe": 3}')
    assert build(tmp_path, clips) == ["0.mp4", "1.mp4", "2.mp4"]
    assert "is damaged" in caplog.text
    assert shard.read_bytes() == whole
    assert build(tmp_path, clips) == []


def test_damage_inside_a_shard_is_an_error_that_names_it(tmp_path: Path, clips: list[Clip]) -> None:
    """Flipped bits in the JSON of a clip and in its first frame: frames, or an error that says what to do.

    Damage of the JSON is an error or changes nothing; every byte of the path and of the lengths counts.
    """
    build(tmp_path, clips[:1])
    shard = cache_folder(tmp_path) / "frames-000000.tar"
    whole = shard.read_bytes()
    store = FrameStore.find(tmp_path)
    assert store is not None
    right = store.read(clips[0], [0, 9])
    errors: dict[int, UserError] = {}
    for place in [*range(512, 1024), *range(1536, 2200, 11)]:
        shard.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            found = FrameStore(store.folder, store._places).read(clips[0], [0, 9])
        except UserError as error:
            errors[place] = error
        else:
            assert found.shape == right.shape
            assert place > 1024 or np.array_equal(found, right)
    for value in (b'"0.mp4"', re.search(rb'"lengths":(\[[\d,]+\])', whole)[1]):  # type: ignore[index]
        start = whole.index(value, 512)
        assert set(range(start, start + len(value))) <= errors.keys()
    assert {error.message for error in errors.values()} == {f"frame cache {shard} is damaged"}
    assert all("--cache" in str(error.hint) for error in errors.values())


def test_a_broken_clip_does_not_end_a_shard(tmp_path: Path, clips: list[Clip]) -> None:
    (tmp_path / "1.mp4").write_bytes(b"gone bad")
    [(shard, group)] = plan_shards(tmp_path, clips)
    broken = write_shard(shard, tmp_path, group, lambda clip: None)
    assert [path for path, _ in broken] == ["1.mp4"]
    store = FrameStore.find(tmp_path)
    assert store is not None
    assert [clip in store for clip in clips] == [True, False, True]


def test_a_store_travels_to_other_processes(tmp_path: Path, clips: list[Clip]) -> None:
    build(tmp_path, clips)
    store = FrameStore.find(tmp_path)
    assert store is not None
    expected = store.read(clips[0], range(10))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).read(clips[0], range(10)), expected)


def test_few_shards_are_open_at_a_time(
    tmp_path: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "CLIPS_PER_SHARD", 1)
    monkeypatch.setattr(cache, "_OPEN", 2)
    build(tmp_path, clips)
    store = FrameStore.find(tmp_path)
    assert store is not None
    expected = [store.read(clip, [0, 5]) for clip in clips]
    for clip, frames in zip(clips, expected, strict=True):
        np.testing.assert_array_equal(store.read(clip, [0, 5]), frames)
    assert len(store._files) == 2
    assert not any(file.closed for file in store._files.values())
