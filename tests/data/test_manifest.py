from pathlib import Path

import pytest

from ga2clip.data.manifest import Clip, Manifest, dataset_root
from ga2clip.errors import UserError
from ga2clip.settings import DataSettings


def manifest(root: Path) -> Manifest:
    clips = (
        Clip("a/1.mp4", "kicking a ball", "train", 24, 2.0, "ab", "7", ("test", "unused"), 64, 48),
        Clip("b/ä\udcff.mp4", "waving", "test", 0, 0.0, other_splits=("train", "train")),
        Clip("n/3.mp4", None, "anchor", 5, 0.5),
    )
    return Manifest("ucf101", root, ("kicking a ball", "waving"), ("waving",), clips, {"flip": False})


def test_what_is_written_is_read_even_undecodable_names(tmp_path: Path) -> None:
    written = manifest(tmp_path)
    written.write()
    assert Manifest.read(tmp_path) == written


def test_splits_change_the_role_of_a_clip_but_not_of_anchors(tmp_path: Path) -> None:
    made = manifest(tmp_path)
    assert made.splits == 3
    assert [clip.split for clip in made.in_split(1)] == ["train", "test", "anchor"]
    assert [clip.split for clip in made.in_split(2)] == ["test", "train", "anchor"]
    assert [clip.split for clip in made.in_split(3)] == ["unused", "train", "anchor"]
    with pytest.raises(UserError, match="no split 4"):
        made.in_split(4)


def test_unprepared_folder_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        Manifest.read(tmp_path)
    assert "ga2clip prepare" in str(caught.value.hint)


@pytest.mark.parametrize("content", ["{", '{"schema": 99}', "[]"])
def test_damaged_and_foreign_manifests_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json"):
        Manifest.read(tmp_path)


def test_default_root() -> None:
    assert dataset_root(DataSettings(dataset="hmdb51")) == Path("data/hmdb51")
    assert dataset_root(DataSettings(root="/x")) == Path("/x")
