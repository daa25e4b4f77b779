"""`method.teach`: a run learns where its classes lie from its training clips, and answers by that everywhere."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ga2clip.run as run_module
from ga2clip.data.manifest import FILE_NAME, Manifest
from ga2clip.data.protocols import load_task
from ga2clip.errors import UserError
from ga2clip.evaluation.evaluate import evaluate_run
from ga2clip.evaluation.open_predictor import open_predictor
from ga2clip.files import file_sha256
from ga2clip.run import PROMPTS, load_run, read_record
from ga2clip.run_files import read_tensors
from ga2clip.runtime import Predictor, open_bundle
from ga2clip.runtime.learn import TaughtModel
from ga2clip.runtime.taught_calibration import TaughtProbabilities
from ga2clip.training.examples import check_examples
from ga2clip.training.train import resume_settings
from tests.small_training import BASE, CLASSES
from tests.training.small_runs import assert_same_run, run, signal_after
from tests.training.test_distributed import _train, in_two_processes

pytestmark = pytest.mark.usefixtures("traced_once")

Make = Callable[..., Any]
CLIP = "1_4.mp4"


@pytest.fixture
def taught(settings: Make, tmp_path: Path) -> Path:
    """A run that trained nothing but learned from eight clips of two classes."""
    return run(settings("zero-shot", method={"teach": True}), tmp_path / "run")


def test_the_recommended_method_learns_from_its_clips(settings: Make, tmp_path: Path) -> None:
    chosen = settings("recommended")
    assert (chosen.method.teach, chosen.average.kind) == (True, "uniform")
    path = run(chosen, tmp_path / "run")
    examples = load_run(path).examples()
    assert examples is not None
    assert [example.label for example in examples.items] == ["kicking a ball"] * 4 + ["waving a flag"] * 4
    assert load_run(path).state().keys() == load_run(path).model().trainable_state().keys()


def test_examples_are_the_training_clips_as_the_tuned_model_sees_them(taught: Path, dataset: Path) -> None:
    examples = load_run(taught).examples()
    assert examples is not None
    clips = load_run(taught).task().train
    with open_predictor(taught) as predictor:
        encoded = list(predictor.encode_files([dataset / clip.path for clip in clips]))
    expected = dict(zip((clip.id for clip in clips), (e.video for e in encoded), strict=True))
    found = {example.sha256: row for example, row in zip(examples.items, examples.features, strict=True)}
    for clip in clips:
        unit = expected[clip.id] / np.linalg.norm(expected[clip.id])
        # This dataset has no hashes of its files, so a clip is known by its path.
        np.testing.assert_allclose(found[hashlib.sha256(clip.path.encode()).hexdigest()], unit, atol=1e-5)


def test_scores_are_those_of_examples_with_as_many_unseen_classes(
    taught: Path, settings: Make, dataset: Path, tmp_path: Path
) -> None:
    """The same features through `Predictor.teach` of the zero-shot model; its head knows of no unseen classes."""
    plain = run(settings("zero-shot"), tmp_path / "plain")
    clips = load_run(taught).task().train
    shown = {name: [dataset / clip.path for clip in clips if clip.label == name] for name in BASE}
    with open_predictor(plain) as predictor, open_predictor(taught) as ours:
        head, own = predictor.teach(shown).model.taught, ours.model.taught
        assert head is not None
        assert own is not None
        texts = ours.model.encode_classes(CLASSES, None, {})
        assert (head.unseen, own.unseen) == (0, len(BASE))
        assert (own.share, own.probe) == (1, 0)  # clips that it was tuned on answer no question
        expected = replace(head, unseen=len(BASE)).rows(CLASSES, texts)
        found = own.rows(CLASSES, texts)
        np.testing.assert_allclose(found.rows, expected.rows, atol=1e-4)
        np.testing.assert_allclose(found.offsets, expected.offsets, atol=1e-4)


def test_evaluation_prediction_and_bundle_answer_alike(taught: Path, dataset: Path) -> None:
    from ga2clip_export.export import export_run

    bundle = export_run(taught)
    report = evaluate_run(taught, device="cpu", progress=False)
    assert report.setting().endswith(f"examples {len(load_run(taught).task().train)}")
    with open_predictor(taught) as ours, Predictor(bundle) as exported:
        for part in report.sets:
            for clip in part.clips:
                answers = dict(clip.answers)
                for predictor in (ours, exported):
                    given = predictor.predict(dataset / clip.file, classes=part.classes)
                    assert dict(given.predictions) == pytest.approx(answers, abs=2e-4)
        assert exported.model.taught.unseen == len(BASE)
        named = {example.label for example in exported.model.taught.examples.items}
        assert named == set(BASE)


def test_an_opened_run_is_read_once_and_fitted_by_its_export_alone(
    taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ga2clip_export.export import export_run

    read: list[Path] = []
    fitted: list[TaughtProbabilities] = []
    fit = TaughtProbabilities.fit
    monkeypatch.setattr(run_module, "read_tensors", lambda file: read.append(file) or read_tensors(file))
    monkeypatch.setattr(TaughtProbabilities, "fit", lambda *given: fitted.append(fit(*given)) or fitted[-1])

    def opened() -> TaughtProbabilities:
        read.clear()
        fitted.clear()
        with open_predictor(taught) as predictor:
            assert isinstance(predictor.model, TaughtModel)
            return predictor.model.fitted

    alone = opened()
    assert (len(read), len(fitted)) == (1, 1)
    export_run(taught)
    exported = opened()
    assert (len(read), len(fitted)) == (1, 0)
    assert (exported.share, exported.scale) == pytest.approx((alone.share, alone.scale))
    with Predictor(taught / "bundle") as bundle:
        assert bundle.scorer().scale == exported.scale
    # One that was made of other clips says nothing of these.
    card = json.loads((taught / "bundle/bundle.json").read_text(encoding="utf-8"))
    card["taught"]["examples"][0]["sha256"] = "0" * 64
    (taught / "bundle/bundle.json").write_text(json.dumps(card), encoding="utf-8")
    opened()
    assert len(fitted) == 1


def test_an_exported_run_can_be_taught_more_and_forget(taught: Path, dataset: Path, tmp_path: Path) -> None:
    from ga2clip.runtime.teach import teach
    from ga2clip_export.export import export_run

    bundle = export_run(taught, precision="int8")
    more = teach(bundle, {"rowing a boat": [dataset / "3_0.mp4"]}, tmp_path / "more")
    again = teach(more, out=tmp_path / "again", forget=["rowing a boat"])
    with Predictor(more) as three, Predictor(again) as two:
        assert three.classes == (*BASE, "rowing a boat")
        assert (three.model.taught.unseen, two.model.taught.unseen) == (2, 2)
        assert two.classes == BASE
        assert len(two.model.taught.examples.items) == 8


def test_what_a_run_brought_stays_when_what_was_taught_is_forgotten(
    taught: Path, dataset: Path, tmp_path: Path
) -> None:
    """To the byte the bundle before, in any order; classes that only the run has examples of can't be forgotten."""
    from ga2clip.runtime.teach import teach
    from ga2clip_export.export import export_run

    def files(folder: Path) -> dict[str, str]:
        return {path.name: file_sha256(path) for path in folder.iterdir()}

    bundle, own, other = export_run(taught), BASE[0], BASE[1]
    card = open_bundle(bundle).card  # with another order of its files, as after --verify-accuracy
    turned = card.model_copy(update={"files": dict(reversed(card.files.items()))})
    (bundle / "bundle.json").write_text(turned.to_text(), encoding="utf-8")
    trained = Predictor(bundle).model.taught.examples.items
    assert len(trained) == 8
    assert all(example.trained for example in trained)
    one = teach(bundle, {own.upper(): [dataset / "3_0.mp4", dataset / "3_1.mp4"]}, tmp_path / "one")
    marks = [example.trained for example in Predictor(one).model.taught.examples.items]
    assert (marks.count(True), marks.count(False)) == (8, 2)
    assert "10 clips, 8 of its training, by gaussian-text-prior" in open_bundle(one).describe()
    assert files(teach(one, out=tmp_path / "back", forget=[own])) == files(bundle)
    two = teach(
        one,
        {"rowing a boat": [dataset / "2_0.mp4"], "none of these": [dataset / "2_1.mp4"]},
        tmp_path / "two",
        against={other: [dataset / "2_2.mp4"]},
    )
    rest = teach(two, out=tmp_path / "rest", forget=["Rowing a boat", other, "none of these"])
    assert files(rest) == files(one)
    assert files(
        teach(two, out=tmp_path / "all", forget=[own, other, "rowing a boat", "none of these"])
    ) == files(bundle)
    for source, name in ((bundle, own), (one, other)):
        with pytest.raises(UserError, match=f"knows of '{name}' is from its training") as caught:
            teach(source, out=tmp_path / "x", forget=[name])
        assert "method.teach=false" in str(caught.value.hint)
    # As a version wrote it that had no marks: which examples of the run's classes were taught can't be known.
    older = json.loads((two / "bundle.json").read_text(encoding="utf-8"))
    for example in older["taught"]["examples"]:
        example.pop("trained", None)
    (two / "bundle.json").write_text(json.dumps(older), encoding="utf-8")
    with pytest.raises(UserError, match=f"older ga2clip.*of '{own}' are training clips") as caught:
        teach(two, out=tmp_path / "x", forget=[own])
    assert "export the run again" in str(caught.value.hint)
    known = teach(two, out=tmp_path / "known", forget=["rowing a boat", "none of these"])
    with Predictor(known) as predictor:
        assert len(predictor.model.taught.examples.items) == 11
    assert not (tmp_path / "x").exists()


def test_a_stopped_training_learns_when_it_ends(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ga2clip.training.signals import StoppedError

    chosen = settings("ivlp", method={"teach": True})
    whole = run(chosen, tmp_path / "whole")
    with monkeypatch.context() as stopping:
        signal_after(stopping, 3)
        with pytest.raises(StoppedError):
            run(chosen, tmp_path / "cut")
    with pytest.raises(UserError, match="has not learned from its training clips yet"):
        load_run(tmp_path / "cut").examples()
    run(resume_settings(tmp_path / "cut"), tmp_path / "cut", resume=True)
    assert_same_run(tmp_path / "cut", whole)
    one, other = load_run(whole).examples(), load_run(tmp_path / "cut").examples()
    assert one is not None
    assert other is not None
    assert one.items == other.items
    assert np.array_equal(one.features, other.features)


def test_two_processes_learn_what_one_does(settings: Make, tmp_path: Path) -> None:
    chosen = settings("zero-shot", method={"teach": True})
    _train(chosen, tmp_path / "one")
    in_two_processes(_train, chosen, tmp_path / "two")
    one, two = (load_run(tmp_path / name).examples() for name in ("one", "two"))
    assert one is not None
    assert two is not None
    assert one.items == two.items
    np.testing.assert_allclose(two.features, one.features, atol=1e-5)


def test_what_was_learned_from_counts_as_trained_on(taught: Path) -> None:
    record = read_record(taught)
    assert record is not None
    assert sorted(record.trained) == sorted(clip.identity for clip in load_run(taught).task().train)
    with pytest.raises(UserError, match="its accuracy there is not zero-shot"):
        evaluate_run(taught, protocol="zero-shot", device="cpu", progress=False)


def test_zero_shot_and_triton_are_refused(settings: Make, taught: Path, tmp_path: Path) -> None:
    from ga2clip_export.export import export_run

    chosen = settings("zero-shot", method={"teach": True}, data={"protocol": "zero-shot"})
    with pytest.raises(UserError, match="zero-shot trains nothing"):
        run(chosen, tmp_path / "none")
    with pytest.raises(UserError, match="a Triton client scores by cosines alone"):
        export_run(taught, tmp_path / "bundle", triton=tmp_path / "triton")
    assert not (tmp_path / "bundle").exists()


def test_more_clips_than_a_bundle_holds_are_refused(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings("zero-shot", method={"teach": True})
    monkeypatch.setattr("ga2clip.training.examples.MOST_TAUGHT", 7)
    with pytest.raises(UserError, match="keeps the features of all 8 training clips, and can 7"):
        check_examples(chosen, load_task(chosen)[1])


def test_a_clip_under_two_classes_teaches_neither_and_a_broken_one_nothing(
    settings: Make, dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for file in dataset.glob("*.mp4"):
        (root / file.name).write_bytes(file.read_bytes())
    (root / "1_0.mp4").write_bytes((root / "0_0.mp4").read_bytes())
    (root / "0_1.mp4").write_bytes(b"broken")
    before = Manifest.read(dataset)
    clips = tuple(replace(clip, sha256=file_sha256(root / clip.path)) for clip in before.clips)
    replace(before, root=root, clips=clips).write()
    assert json.loads((root / FILE_NAME).read_text())
    path = run(settings("zero-shot", method={"teach": True}, data={"root": str(root)}), tmp_path / "run")
    examples = load_run(path).examples()
    assert examples is not None
    kept = {file_sha256(root / name) for name in ("0_2.mp4", "0_3.mp4", "1_1.mp4", "1_2.mp4", "1_3.mp4")}
    assert {example.sha256 for example in examples.items} == kept
    assert "not learned from: 2 clips with the same content under two classes" in caplog.text
    assert "not learned from: 0_1.mp4" in caplog.text


def test_examples_are_sealed_with_the_prompts(taught: Path) -> None:
    from ga2clip.run_files import read_tensors

    header, tensors = read_tensors(taught / PROMPTS)
    assert "classes" in header
    assert tensors["examples.features"].shape == (8, 32)
    assert tensors["examples.sha256"].dtype == torch.uint8
    assert tensors["examples.labels"].tolist() == [1] * 4 + [0] * 4
