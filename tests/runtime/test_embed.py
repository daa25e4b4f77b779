"""Features of videos in an .npz file: the predictor's own, resumable, and read back in one line."""

import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import ga2clip
from ga2clip.errors import UserError
from ga2clip.runtime import Predictor, embed
from ga2clip.video import SamplingRule, sample_frames, write_video
from ga2clip_cli.app import app


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    return [
        write_video(folder / f"{n}.mp4", rng.integers(0, 256, (n + 1, 16, 16, 3), dtype=np.uint8), 5)
        or folder / f"{n}.mp4"
        for n in range(5)
    ]


@pytest.fixture
def predictor(handmade: Path):
    with Predictor(handmade, provider="cpu", threads=1, cache=False) as opened:
        yield opened


def expected(predictor: Predictor, clip: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sampled = sample_frames(clip, SamplingRule(frames=2), size=8)
    frames = predictor.prepare(sampled.frames)
    return predictor.encode_clips(frames[None])[0], predictor.encode_frames(frames), sampled.times


def test_features_and_frame_features(predictor, clips, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(embed, "_PART", 2)
    assert ga2clip.embed(predictor, clips, tmp_path / "f.npz", frames=True) == []
    features = ga2clip.read_features(tmp_path / "f.npz")
    assert features.files == tuple(map(str, clips))
    assert features.provenance["model_sha256"] == predictor.fingerprint
    for row, clip in enumerate(clips):
        video, frames, times = expected(predictor, clip)
        own = slice(*features.starts[row : row + 2])
        assert features.video[row] == pytest.approx(video, abs=1e-6)
        assert (features.frames[own] == frames).all()
        assert (features.times[own] == times).all()
    assert len(features.frames) == features.starts[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]
    ga2clip.embed(predictor, clips, tmp_path / "plain.npz")
    plain = ga2clip.read_features(tmp_path / "plain.npz")
    assert plain.frames is None
    assert plain.video == pytest.approx(features.video, abs=1e-6)
    with np.load(tmp_path / "plain.npz") as archive:
        assert (archive["video"] == plain.video).all()


def test_it_continues_where_it_was_stopped(predictor, clips, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(embed, "_PART", 2)
    seen = []

    def stop(result: object) -> None:
        seen.append(result)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed.embed(predictor, clips, tmp_path / "f.npz", on_result=stop)
    assert not (tmp_path / "f.npz").exists()
    with pytest.raises(UserError, match="other options"):
        embed.embed(predictor, clips, tmp_path / "f.npz", frames=True)
    with pytest.raises(UserError, match="other videos"):
        embed.embed(predictor, clips[1:], tmp_path / "f.npz")
    (tmp_path / "f.npz.parts" / ".00000001.1-aa.npz").write_bytes(b"cut off by a kill")
    again: list[object] = []
    embed.embed(predictor, clips, tmp_path / "f.npz", on_result=again.append)
    assert len(again) == 3
    embed.embed(predictor, clips, tmp_path / "whole.npz")
    assert (tmp_path / "f.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_command_line_with_a_broken_video(handmade, clips, tmp_path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    out = tmp_path / "f.npz"
    asked = ["embed", str(clips[0].parent), str(broken), "--model", str(handmade), "--out", str(out)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 1
    assert "broken.mp4" in result.output
    assert len(ga2clip.read_features(out).files) == 5
    assert CliRunner().invoke(app, asked).exit_code == 1  # it exists
    alone = CliRunner().invoke(
        app, ["embed", str(broken), "--model", str(handmade), "--out", str(tmp_path / "g.npz")]
    )
    assert alone.exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.mp4", "f.npz"]


def test_other_files_are_refused(predictor, clips, tmp_path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no archive")
    for path in (tmp_path / "x.npz", tmp_path / "gone.npz", predictor.model.bundle.path / "probe.npz"):
        with pytest.raises(UserError, match="can't be read as features"):
            ga2clip.read_features(path)
    with pytest.raises(UserError, match=r"\.npz or \.parquet file"):
        ga2clip.embed(predictor, clips, tmp_path / "x.csv")


def test_a_parquet_file_holds_the_same(predictor, clips, tmp_path, monkeypatch) -> None:
    """A row per video, in parts of two; read by our reader and as a table."""
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(embed, "_PART", 2)
    for frames in (False, True):
        paths = [tmp_path / f"{frames}.{kind}" for kind in ("npz", "parquet")]
        for path in paths:
            ga2clip.embed(predictor, clips, path, frames=frames)
        ours, theirs = map(ga2clip.read_features, paths)
        assert ours.files == theirs.files
        assert ours.provenance == theirs.provenance
        for name in ("video", "frames", "times", "starts"):
            one, other = getattr(ours, name), getattr(theirs, name)
            assert (one is None) == (other is None) == (not frames and name != "video")
            if one is not None:
                assert one.dtype == other.dtype
                np.testing.assert_array_equal(one, other)
    assert parquet.ParquetFile(paths[1]).num_row_groups == 3
    rows = parquet.read_table(paths[1]).to_pylist()
    assert rows[3]["file"] == str(clips[3])
    assert rows[3]["video"] == ours.video[3].tolist()
    assert len(rows[3]["frames"]) == len(rows[3]["times"]) == 2
    parquet.write_table(
        parquet.read_table(paths[1]).replace_schema_metadata(None), tmp_path / "other.parquet"
    )
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    for name in ("other", "no", "missing"):
        with pytest.raises(UserError, match="can't be read as features"):
            ga2clip.read_features(tmp_path / f"{name}.parquet")


def test_without_pyarrow_the_extra_is_named_before_anything_is_encoded(
    predictor, clips, tmp_path, monkeypatch
) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    for act in (
        lambda: ga2clip.embed(predictor, clips, tmp_path / "f.parquet"),
        lambda: ga2clip.read_features(tmp_path / "f.parquet"),
    ):
        with pytest.raises(UserError, match="needs the 'parquet' extra") as caught:
            act()
        assert "ga2clip[parquet]" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_videos(predictor, clips, tmp_path, monkeypatch) -> None:
    """Features of a video are dropped once their part is written, and one array of a part is read at once."""
    monkeypatch.setattr(embed, "_PART", 10)
    one = next(iter(predictor.encode_files(clips[:1], frames=True)))
    big = np.zeros((64, 256), np.float32)

    def many(self: object, paths: list[str], **_: object) -> object:
        return (replace(one, file=path, video=big[0], frames=big, times=np.zeros(64)) for path in paths)

    monkeypatch.setattr(Predictor, "encode_files", many)
    peaks = []
    for count in (100, 400):
        tracemalloc.start()
        embed.embed(predictor, [f"{n}.mp4" for n in range(count)], tmp_path / f"{count}.npz", frames=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 64 kB a video: 20 MB more, were they kept. Names and numbers take some 300 bytes each.
    assert peaks[1] - peaks[0] < 300 * 1000
    assert len(ga2clip.read_features(tmp_path / "400.npz").frames) == 400 * 64
