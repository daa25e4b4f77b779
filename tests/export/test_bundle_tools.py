"""What stands around a bundle: its description, Triton repositories, providers that have to prove themselves."""

import sys
from pathlib import Path

import numpy as np
import pytest

from ga2clip.errors import UserError
from ga2clip.folders import new_folder
from ga2clip.runtime import Predictor, open_bundle
from ga2clip.runtime.engine import check_provider
from ga2clip.runtime.scoring import normalise
from ga2clip_export.export import export_model
from ga2clip_export.triton import write_triton


def test_a_description_names_what_one_must_know(bundle: Path) -> None:
    text = open_bundle(bundle).describe()
    for part in ("ga2 on ", "licence", "kicking a ball", "fp32, opset 20", "cosine", "16×16"):
        assert part in text
    assert str(Path(__file__).parents[2]) not in text


def test_a_triton_repository_has_both_encoders_with_their_shapes(bundle: Path, tmp_path: Path) -> None:
    out = write_triton(bundle, tmp_path / "models")
    video = (out / "ga2clip_video" / "config.pbtxt").read_text()
    assert 'name: "frames" data_type: TYPE_UINT8 dims: [ -1, 16, 16, 3 ]' in video
    assert 'name: "video_features" data_type: TYPE_FP32 dims: [ 32 ]' in video
    assert video.count("{") == video.count("}")
    assert "TYPE_INT64 dims: [ -1 ]" in (out / "ga2clip_text" / "config.pbtxt").read_text()
    for name in ("video", "text"):
        copied = out / f"ga2clip_{name}" / "1" / "model.onnx"
        assert copied.read_bytes() == (bundle / f"{name}_encoder.onnx").read_bytes()
    with pytest.raises(UserError, match="exists"):
        write_triton(bundle, out)


class Wrong:
    """A provider that rounds: it adds an error of a given size."""

    provider = "wrong"

    def __init__(self, error: float, truth: np.ndarray) -> None:
        self._found = truth + error * np.random.default_rng(0).normal(size=truth.shape)

    def run(self, inputs):
        return {"features": self._found}


@pytest.mark.parametrize(("error", "passes"), [(0.001, True), (0.5, False), (float("nan"), False)])
def test_a_provider_that_computes_wrongly_is_refused(error: float, passes: bool) -> None:
    truth = np.random.default_rng(1).normal(size=(3, 16))
    if passes:
        check_provider(Wrong(error, truth), "ids", np.zeros(1), "features", truth, 0.999)
        return
    with pytest.raises(UserError, match="'wrong' computes features wrongly"):
        check_provider(Wrong(error, truth), "ids", np.zeros(1), "features", truth, 0.999)


def test_a_provider_that_loses_rows_is_refused() -> None:
    truth = np.ones((1, 2, 16))
    with pytest.raises(UserError, match=r"features of shape \(0, 0, 16\), not \(1, 2, 16\)"):
        check_provider(Wrong(0, truth[:0, :0]), "ids", np.zeros(1), "features", truth, 0.999)


def test_the_probe_holds_what_torch_computed(bundle: Path) -> None:
    probe = open_bundle(bundle).probe()
    with Predictor(bundle, provider="cpu", cache=False) as predictor:
        found = predictor.encode_frames(probe.frames[0])
    np.testing.assert_allclose(found, probe.frame_features[0], atol=1e-5)


@pytest.mark.slow
def test_a_static_export_takes_one_clip_and_replaces_the_bundle_before_it(model, clip_path, tmp_path) -> None:
    out = export_model(model, tmp_path / "bundle")
    export_model(model, out, static=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
    with Predictor(out, provider="cpu", cache=False) as predictor:
        assert predictor.predict(clip_path).frames == 8
        frames = np.random.default_rng(0).integers(0, 256, (11, 16, 16, 3), dtype=np.uint8)
        together = predictor.encode_frames(frames)
        np.testing.assert_allclose(together[9:], predictor.encode_frames(frames[9:]), atol=1e-5)
        with pytest.raises(UserError, match="takes clips of 8 frames, got 11"):
            predictor.predict_frames(frames)
        answers = list(predictor.predict_many([clip_path, clip_path, clip_path], batch=4))
    assert len(answers) == 3
    config = write_triton(out, tmp_path / "models") / "ga2clip_video" / "config.pbtxt"
    assert "dims: [ 8, 16, 16, 3 ]" in config.read_text()


def test_openvino_gives_the_same_features(bundle: Path, clip_path: Path) -> None:
    pytest.importorskip("openvino")
    with (
        Predictor(bundle, provider="openvino", cache=False) as other,
        Predictor(bundle, provider="cpu", cache=False) as cpu,
    ):
        assert other.provider == "openvino"
        names = ["juggling", "sleeping"]
        theirs, ours = (dict(p.predict(clip_path, names).predictions) for p in (other, cpu))
        np.testing.assert_allclose([theirs[n] for n in names], [ours[n] for n in names], atol=0.01)


def test_an_int8_bundle_in_openvino_agrees_with_torch(model, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    out = export_model(model, tmp_path / "bundle", precision="int8")
    with Predictor(out, provider="openvino", cache=False) as predictor:
        probe = open_bundle(out).probe()
        found = normalise(predictor.encode_frames(probe.frames[0]))
        assert (found * normalise(probe.frame_features[0])).sum(axis=1).min() > 0.998
        truth = normalise(model.encode_classes(["knitting"]).detach().numpy())
        assert (normalise(predictor.encode_classes(["knitting"])) * truth).sum() > 0.998


def test_a_missing_package_names_its_extra(bundle: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError) as caught:
        Predictor(bundle, provider="openvino")
    assert "ga2clip[openvino]" in caught.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="links and permissions")
def test_a_linked_folder_is_replaced_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "disk" / "bundle").mkdir(parents=True)
    (tmp_path / "disk" / "bundle" / "old").touch()
    (tmp_path / "bundle").symlink_to("disk/bundle")
    with new_folder(tmp_path / "bundle") as work:
        (work / "new").touch()
    assert (tmp_path / "bundle").is_symlink()
    assert [path.name for path in (tmp_path / "disk" / "bundle").iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["bundle"]


def test_a_full_disk_is_said_in_whatever_words_a_library_has(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No space left on device"), new_folder(tmp_path / "bundle"):
        raise OSError("10000 requested and 8176 written")  # as NumPy
    assert list(tmp_path.iterdir()) == []
