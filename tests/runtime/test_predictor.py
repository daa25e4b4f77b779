"""What a user of the runtime relies on: order, failures, threads, shapes."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ga2clip.errors import UserError
from ga2clip.files import file_sha256
from ga2clip.runtime import NONE_LABEL, Failure, Predictor, open_bundle
from ga2clip.runtime.card import VIDEO_ENCODER, FileEntry
from ga2clip.runtime.scoring import Scorer, rejection_margin
from ga2clip_export.quantise import to_int8


@pytest.fixture(scope="module")
def predictor(bundle: Path):
    with Predictor(bundle, provider="cpu", threads=1, cache=False) as opened:
        yield opened


def test_many_files_keep_their_order_and_broken_ones_do_not_stop_them(predictor, clip_path, tmp_path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    other = tmp_path / "other.mp4"
    other.write_bytes(clip_path.read_bytes())
    paths = [clip_path, broken, tmp_path / "missing.mp4", other, clip_path]
    for batch, workers in [(1, 1), (2, 2), (10, 3)]:
        answers = list(predictor.predict_many(paths, batch=batch, workers=workers))
        assert [answer.file for answer in answers] == [str(path) for path in paths]
        assert [isinstance(answer, Failure) for answer in answers] == [False, True, True, False, False]
        alone = predictor.predict(clip_path)
        assert answers[0].predictions[0][0] == alone.predictions[0][0]
        np.testing.assert_allclose(
            [p for _, p in answers[3].predictions], [p for _, p in alone.predictions], atol=1e-5
        )
    assert "broken.mp4" in answers[1].error
    assert list(predictor.predict_many([])) == []


def test_an_int8_answer_does_not_depend_on_the_clips_beside_it(bundle, tmp_path) -> None:
    copy = tmp_path / "int8"
    shutil.copytree(bundle, copy)
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (3, 2, 16, 16, 3), dtype=np.uint8)
    clips[1] //= 8
    to_int8(bundle / VIDEO_ENCODER, copy / VIDEO_ENCODER, {"frames": clips[:1]}, lambda path: True)
    card = open_bundle(bundle).card
    entry = FileEntry(sha256=file_sha256(copy / VIDEO_ENCODER), bytes=(copy / VIDEO_ENCODER).stat().st_size)
    changed = card.model_copy(update={"precision": "int8", "files": {**card.files, VIDEO_ENCODER: entry}})
    (copy / "bundle.json").write_text(changed.to_text(), encoding="utf-8")
    with Predictor(copy, provider="cpu", threads=1, cache=False) as predictor:
        together = predictor.encode_clips(clips)
        alone = np.concatenate([predictor.encode_clips(clip[None]) for clip in clips])
    np.testing.assert_array_equal(together, alone)


def test_decoding_stays_only_a_little_ahead(predictor, clip_path) -> None:
    asked = []

    def paths():
        for index in range(100):
            asked.append(index)
            yield clip_path

    answers = predictor.predict_many(paths(), batch=2, workers=1)
    next(answers)
    assert len(asked) < 20
    answers.close()


def test_top_and_classes(predictor, clip_path) -> None:
    assert len(predictor.predict(clip_path, top=2).predictions) == 2
    everything = predictor.predict(clip_path, classes=["running", "sleeping"], top=5).predictions
    assert sum(p for _, p in everything) == pytest.approx(1)
    assert everything[0][1] >= everything[1][1]
    for classes in (["a", "A"], [], ["  "]):
        with pytest.raises(UserError):
            predictor.predict(clip_path, classes=classes)
    with pytest.raises(UserError, match="must have exactly one"):
        predictor.predict(clip_path, classes=["a"], template="no place")


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 4), np.uint8),
        [[1]],
    ],
)
def test_frames_of_another_kind_are_refused(predictor, frames) -> None:
    with pytest.raises(UserError, match="frames must be"):
        predictor.predict_frames(frames)


def test_any_picture_size_and_number_of_frames(predictor) -> None:
    rng = np.random.default_rng(0)
    for shape in [(1, 5, 90, 3), (3, 90, 5, 3), (20, 16, 16, 3)]:
        answer = predictor.predict_frames(rng.integers(0, 256, shape, dtype=np.uint8))
        assert answer.frames == shape[0]


def test_the_video_feature_is_the_mean_of_the_frame_features(predictor) -> None:
    clips = np.random.default_rng(1).integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8)
    means = np.stack([predictor.encode_frames(clip).mean(axis=0) for clip in clips])
    np.testing.assert_allclose(predictor.encode_clips(clips), means, atol=1e-5)


def test_one_predictor_serves_several_threads(bundle, clip_path) -> None:
    with Predictor(bundle, provider="cpu", threads=1, cache=False) as shared:
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(shared.predict, clip_path, ["running", f"class {i % 3}"]) for i in range(12)]
            answers = [job.result() for job in jobs]
        for index, answer in enumerate(answers):
            assert (
                answer.predictions == shared.predict(clip_path, ["running", f"class {index % 3}"]).predictions
            )


def test_a_closed_predictor_says_so_and_closes_again(bundle) -> None:
    with Predictor(bundle, provider="cpu", cache=False) as predictor:
        predictor.close()
    for ask in (
        lambda: predictor.encode_classes(["a"]),
        lambda: predictor.encode_clips(np.zeros((1, 1, 16, 16, 3))),
    ):
        with pytest.raises(UserError, match="is closed"):
            ask()


def test_an_unknown_provider_names_the_nearest(bundle) -> None:
    with pytest.raises(UserError, match="cdua") as caught:
        Predictor(bundle, provider="cdua")
    assert "cuda" in caught.value.hint


def test_none_of_these_wins_exactly_below_the_threshold() -> None:
    rng = np.random.default_rng(0)
    unit = rng.normal(size=(9, 6)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    classes, negatives, videos = unit[:3], unit[3:5], rng.normal(size=(200, 6)).astype(np.float32)
    margins = rejection_margin(videos, classes, negatives)
    threshold = float(np.median(margins)) + 1e-6
    labels = ("a", "b", "c", NONE_LABEL)
    ranked = Scorer(labels, classes, negatives, 50.0, threshold).probabilities(videos).argmax(axis=1)
    np.testing.assert_array_equal(ranked == 3, margins < threshold)


def test_a_bundle_without_a_threshold_says_so(predictor, clip_path) -> None:
    assert predictor.model.threshold is None
    with pytest.raises(UserError, match="no threshold"):
        predictor.predict(clip_path, reject=True)
