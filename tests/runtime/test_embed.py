"""Features of videos in an .npz file: the predictor's own, resumable, and read back in one line."""

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
    with pytest.raises(UserError, match=r"\.npz file"):
        ga2clip.embed(predictor, clips, tmp_path / "x.csv")
