"""Loss terms that hold tuned features near the frozen ones: words outside the classes, residual distillation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ga2clip.compute.distributed import Group
from ga2clip.errors import UserError
from ga2clip.run import load_run
from ga2clip.training import train
from ga2clip.training.update import Updater
from tests.training.small_runs import assert_stopped_ends_as, run
from tests.training.test_distributed import _train, in_two_processes
from tests.training.test_update import NAMES, assert_cuts_are_the_same, make_batch, run_moved

Make = Callable[..., Any]
CPU = Group(torch.device("cpu"))
TERMS = {
    "outlier text": {"loss": {"outlier_text": 8.0}},
    "some outlier text": {"loss": {"outlier_text": 8.0}, "outliers": {"per_step": 5}},
    "froster": {"loss": {"froster": 2.0}},
}
LORA = {"method": {"tune": "prompts"}, "parts": {"lora": {"rank": 2}}}


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_an_update_is_the_same_however_it_is_cut(settings: Make, term: dict[str, Any]) -> None:
    cuts = {"micro-batches": {"micro_batch": 3}, "both": {"micro_batch": 4, "class_chunk": 2}}
    assert_cuts_are_the_same(settings("ivlp", **term), cuts)


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_nothing_is_lost_at_the_start_of_the_untouched_model(settings: Make, term: dict[str, Any]) -> None:
    model = train.make_model(settings("zero-shot", **LORA, **term), NAMES)
    (name,) = term["loss"]
    video, labels = torch.randn(2, 2, 3, 16, 16), torch.tensor([0, 1])
    assert abs(float(model.losses(video, labels).terms[name])) < 1e-6
    assert float(train.make_model(settings("ivlp", **term), NAMES).losses(video, labels).terms[name]) > 1e-3


@pytest.mark.parametrize(("method", "parts"), [("ivlp", {}), ("coop", {}), ("zero-shot", LORA)])
def test_the_term_moves_text_that_no_video_asks_for(
    settings: Make, method: str, parts: dict[str, Any]
) -> None:
    plain = settings(method, **parts)
    with_words = plain.updated({"loss": {"outlier_text": 8.0}}, "test")
    without, ours = run_moved(plain), run_moved(with_words)
    text = [name for name in without[0] if "text" in name]
    assert text
    for name in text:
        assert not torch.allclose(ours[0][name], without[0][name], rtol=1e-2, atol=0), name


def test_words_are_drawn_anew_for_each_update_and_the_same_when_repeated(settings: Make) -> None:
    updater = Updater(train.make_model(settings("coop", **TERMS["some outlier text"]), NAMES), CPU)
    drawn = [tuple(updater._choose_words(step).tolist()) for step in range(100)]
    assert drawn == [tuple(updater._choose_words(step).tolist()) for step in range(100)]
    assert all(len(set(ids)) == 5 for ids in drawn)
    assert {number for ids in drawn for number in ids} == set(range(len(updater.model.outlier_words)))


def test_the_value_is_that_of_the_words_drawn(settings: Make) -> None:
    updater = Updater(train.make_model(settings("coop", **TERMS["some outlier text"]), NAMES), CPU)
    model, ids = updater.model, updater._choose_words(4)
    words = [model.outlier_words[i] for i in ids.tolist()]
    with torch.no_grad():
        tuned = model.encode_classes(words)
        frozen = model.backbone.text(model.class_tokens(words, "a video of a person doing {}."))
    expected = 1 - torch.cosine_similarity(tuned, frozen).mean()
    outcome = updater.run(make_batch(8, 0), step=4, factor=0.0)
    assert outcome.terms["outlier_text"] == pytest.approx(float(expected), rel=1e-4)


def test_words_are_told_by_the_template_where_a_sentence_describes_them(settings: Make) -> None:
    given = TERMS["outlier text"] | {"outliers": {"words": ["sea", "violin"]}}
    described = given | {"descriptions": {"sea": ["waves roll onto a beach."], "violin": ["four strings."]}}
    batch = make_batch(8, 0)
    plain, told = (
        Updater(train.make_model(settings("coop", **tree), NAMES), CPU).run(batch, step=0, factor=0.0)
        for tree in (given, described)
    )
    assert told.terms["outlier_text"] == plain.terms["outlier_text"]
    model = train.make_model(settings("zero-shot", **LORA, **described), NAMES)
    video, labels = torch.randn(2, 2, 3, 16, 16), torch.tensor([0, 1])
    assert abs(float(model.losses(video, labels).terms["outlier_text"])) < 1e-6


def test_the_words_are_plain_and_none_is_a_class(settings: Make) -> None:
    given = settings("coop", loss={"outlier_text": 1.0})
    words = train.make_model(given, ("dog", "Cat")).outlier_words
    assert len(words) == 100
    assert not {"dog", "cat"} & set(words)
    own = given.updated({"outliers": {"words": ["sea", "dog", "sea"]}}, "test")
    assert train.make_model(own, ("dog", "cat")).outlier_words == ("sea",)


@pytest.mark.parametrize(
    ("method", "sections", "said"),
    [
        ("vpt", {"loss": {"outlier_text": 1.0}}, "loss.outlier_text would do nothing"),
        (
            "linear-probe",
            {"loss": {"outlier_text": 1.0}},
            "needed by the loss term outlier_text$",
        ),
        ("coop", {"loss": {"outlier_text": 1.0}, "outliers": {"words": ["Jumping"]}}, "are class names"),
        (
            "ivlp",
            {"loss": {"froster": 1.0}, "method": {"tune": "vision"}},
            "tower is needed by the loss term froster$",
        ),
        (
            "ivlp",
            {"loss": {"logit_consistency": 1.0, "image_consistency": 1.0}, "method": {"tune": "vision"}},
            "vision tower is needed by the loss terms image_consistency, logit_consistency$",
        ),
    ],
)
def test_what_could_do_nothing_is_refused(
    settings: Make, method: str, sections: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        train.make_model(settings(method, **sections), NAMES)


BOTH = {"loss": {"outlier_text": 8.0, "froster": 2.0}, "outliers": {"per_step": 5}, "training": {"epochs": 3}}


def test_a_stopped_training_ends_as_one_that_was_not(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(settings("ivlp", **BOTH), tmp_path / "whole")
    assert_stopped_ends_as(whole, settings("ivlp", **BOTH), tmp_path / "cut", monkeypatch, 3)


@pytest.mark.slow
def test_two_processes_train_as_one(settings: Make, tmp_path: Path) -> None:
    chosen = settings("ivlp", **BOTH).updated({"training": {"micro_batch": 1}}, "test")
    _train(chosen, tmp_path / "one")
    in_two_processes(_train, chosen, tmp_path / "two")
    one, two = (load_run(tmp_path / name).state() for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5, msg=name)
