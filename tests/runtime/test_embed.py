"""Features of videos in an .npz file: the predictor's own, resumable, and read back in one line."""

import io
import os
import shutil
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


def interrupted(predictor: Predictor, clips: list[Path], out: Path) -> Path:
    """Embeds in parts of two, with a Ctrl-C after two parts; the folder of parts."""
    seen: list[object] = []

    def stop(result: object) -> None:
        seen.append(result)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed.embed(predictor, clips, out, frames=True, on_result=stop)
    parts = out.with_name(f"{out.name}.parts")
    assert sorted(path.name for path in parts.glob("0*")) == ["00000000.npz", "00000001.npz"]
    return parts


def gone_on(predictor: Predictor, clips: list[Path], out: Path) -> list[str]:
    """The names of the videos that the same call encodes when it goes on."""
    again: list[object] = []
    embed.embed(predictor, clips, out, frames=True, on_result=again.append)
    return [Path(result.file).name for result in again]  # type: ignore[attr-defined]


@pytest.fixture
def own(clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Copies that may be changed, and parts of two videos."""
    monkeypatch.setattr(embed, "_PART", 2)
    folder = tmp_path / "own"
    folder.mkdir()
    for clip in clips:
        (folder / clip.name).write_bytes(clip.read_bytes())
    return sorted(folder.iterdir())


def touched(path: Path, other: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def replaced(path: Path, other: Path) -> None:
    """By another file, with the time of the one before."""
    before = path.stat()
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [touched, replaced])
def test_a_video_that_changed_meanwhile_is_encoded_anew_with_its_part(
    predictor, own, tmp_path, caplog, change
) -> None:
    out = tmp_path / "f.npz"
    interrupted(predictor, own, out)
    change(own[1], own[4])
    assert gone_on(predictor, own, out) == ["0.mp4", "1.mp4", "4.mp4"]
    assert f"{own[1]} changed or is gone; encoding 2 videos of this part anew" in caplog.text
    embed.embed(predictor, own, tmp_path / "whole.npz", frames=True)
    assert out.read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_a_video_that_is_gone_is_not_in_the_result(predictor, own, tmp_path, caplog) -> None:
    """Named still, it can't be read; in a folder that is searched anew, it is no longer there."""
    for name, rest in (("named", own), ("searched", [*own[:2], *own[3:]])):
        own[2].write_bytes(own[3].read_bytes())
        out = tmp_path / f"{name}.npz"
        interrupted(predictor, own, out)
        own[2].unlink()
        again = gone_on(predictor, rest, out)
        assert again == [path.name for path in rest[2:]]
        assert f"{own[2]} changed or is gone" in caplog.text
        assert ga2clip.read_features(out).files == tuple(map(str, [*own[:2], *own[3:]]))
        caplog.clear()


def test_damaged_parts_are_encoded_anew_or_refused(predictor, own, tmp_path, caplog) -> None:
    """Cut at each quarter, garbage, empty, a folder in its place, of an older version, one twice."""
    out = tmp_path / "f.npz"
    embed.embed(predictor, own, tmp_path / "whole.npz", frames=True)
    parts, kept = interrupted(predictor, own, out), tmp_path / "kept"
    shutil.copytree(parts, kept)
    part, note = kept / "00000000.npz", kept / "provenance.json"
    with np.load(part) as archive:
        older = io.BytesIO()
        np.savez(older, **{name: archive[name] for name in archive.files if name != "states"})
    flipped = bytearray(part.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    quarters = [part.read_bytes()[: part.stat().st_size * n // 4] for n in (1, 2, 3)]
    for content in (b"", b"garbage", b"PK\3\4" + b"x" * 99, older.getvalue(), bytes(flipped), *quarters):
        (parts / part.name).write_bytes(content)
        assert gone_on(predictor, own, out) == ["0.mp4", "1.mp4", "4.mp4"]
        assert f"{parts / part.name} is damaged; encoding its videos anew" in caplog.text
        assert out.read_bytes() == (tmp_path / "whole.npz").read_bytes()
        caplog.clear()
        out.unlink()
        shutil.copytree(kept, parts)
    (parts / "00000002.npz").write_bytes(part.read_bytes())
    assert gone_on(predictor, own, out) == ["4.mp4"]
    assert "it has a video of another part" in caplog.text
    assert out.read_bytes() == (tmp_path / "whole.npz").read_bytes()
    out.unlink()
    text = note.read_bytes()
    notes = [text[: len(text) * n // 4] for n in range(4)] + [b"\xff", b"[" * 10**5, None]
    for content in notes:
        shutil.rmtree(parts, ignore_errors=True)
        shutil.copytree(kept, parts)
        (parts / note.name).write_bytes(content) if content is not None else (parts / note.name).unlink()
        with pytest.raises(UserError, match=r"provenance\.json is damaged or missing") as caught:
            embed.embed(predictor, own, out, frames=True)
        assert f"delete {parts}" in str(caught.value.hint)
    for name, message in ((part.name, "cannot remove"), (note.name, "damaged or missing")):
        shutil.rmtree(parts)
        shutil.copytree(kept, parts)
        (parts / name).unlink()
        (parts / name).mkdir()
        with pytest.raises(UserError, match=message) as caught:
            embed.embed(predictor, own, out, frames=True)
        assert f"delete {parts}" in str(caught.value.hint)
    shutil.rmtree(parts)
    parts.write_bytes(b"")
    with pytest.raises(UserError, match="parts is not a folder"):
        embed.embed(predictor, own, out, frames=True)


def test_names_that_are_no_text_fit_an_npz_file_and_are_refused_for_parquet(
    predictor, own, tmp_path, monkeypatch
) -> None:
    names = "bad\udcff.mp4", "line\nbreak.mp4"
    odd = [path.rename(path.with_name(name)) for path, name in zip(own, names, strict=False)]
    embed.embed(predictor, odd, tmp_path / "f.npz")
    assert ga2clip.read_features(tmp_path / "f.npz").files == tuple(map(str, odd))
    monkeypatch.setattr(embed, "pyarrow", lambda: None)
    monkeypatch.setattr(Predictor, "encode_files", lambda *_, **__: pytest.fail("encoded"))
    with pytest.raises(UserError, match=r"udcff.mp4: its name is not UTF-8") as caught:
        embed.embed(predictor, [*own[2:], *odd], tmp_path / "f.parquet")
    assert "write an .npz file" in str(caught.value.hint)
    caught.value.message.encode()  # can be shown
    assert not (tmp_path / "f.parquet.parts").exists()


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


def test_arrays_that_are_not_of_the_same_videos_are_refused(predictor, clips, tmp_path) -> None:
    ga2clip.embed(predictor, clips, tmp_path / "f.npz", frames=True)
    with np.load(tmp_path / "f.npz") as archive:
        whole = {name: archive[name] for name in archive.files}
    wrong: list[dict[str, object]] = [
        {"video": whole["video"][:3]},
        {"video": whole["video"][0]},
        {"video": whole["video"].astype(np.int32)},
        {"files": np.arange(5)},
        {"files": whole["files"][:, None]},
        {"starts": whole["starts"][:-1]},
        {"starts": whole["starts"] + 1},
        {"starts": whole["starts"][[0, 2, 1, 3, 4, 5]]},
        {"starts": np.zeros(0, int)},
        {"frames": whole["frames"][1:]},
        {"frames": whole["frames"][:, 1:]},
        {"times": whole["times"][1:]},
        {"times": None},
        {"provenance": np.array("[]")},
        {"more": np.zeros(3)},
    ]
    for change in wrong:
        arrays = {name: array for name, array in {**whole, **change}.items() if array is not None}
        np.savez(tmp_path / "x.npz", **arrays)
        with pytest.raises(UserError, match="can't be read as features"):
            ga2clip.read_features(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", **whole)
    assert len(ga2clip.read_features(tmp_path / "x.npz").frames) == len(whole["frames"])


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
    table = parquet.read_table(paths[1])
    wrong = {
        "text": ("video", ["a"] * 5),
        "ragged": ("video", [[1.0, 2.0], *[[1.0]] * 4]),
        "empty": ("video", [None, *[[1.0]] * 4]),
        "late": ("times", [[1.0] * 3, [1.0], *[[1.0] * 2] * 3]),
    }
    for name, (column, values) in wrong.items():
        place = table.column_names.index(column)
        parquet.write_table(table.set_column(place, column, [values]), tmp_path / f"{name}.parquet")
    for name in ("other", "no", "missing", *wrong):
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
