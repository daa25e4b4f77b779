"""Class descriptions in training and evaluation: a run holds them, whatever becomes of the file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ga2clip.compute.distributed import Group
from ga2clip.errors import UserError
from ga2clip.evaluation.evaluate import evaluate_run
from ga2clip.run import load_run
from ga2clip.training.configure import configure
from ga2clip.training.train import summary, train
from ga2clip.training.update import Updater
from tests.small_training import CLASSES

Make = Callable[..., Any]
TABLE = {name: [f"somebody {name} in the street.", f"a clip of {name}"] for name in CLASSES[:3]} | {
    CLASSES[3]: []
}


@pytest.fixture
def run(settings: Make, tmp_path: Path) -> Path:
    return train(settings("ivlp", descriptions=TABLE), tmp_path / "run", device="cpu", progress=False)


def test_a_run_holds_its_sentences_and_is_tested_with_them(run: Path, tmp_path: Path) -> None:
    loaded = load_run(run)
    assert {name: list(own) for name, own in loaded.settings.descriptions.items()} == TABLE
    model = loaded.model()
    with torch.no_grad():
        features = model.encode_classes(CLASSES[:1])
        expected = model.encode_texts({"a": TABLE[CLASSES[0]]})
    assert torch.equal(features, expected)
    report = evaluate_run(run, device="cpu", progress=False)
    assert report.about["descriptions"] == "6 sentences about 3 classes"
    assert report.folder == "stickfigures-base-to-novel"
    other = tmp_path / "other.json"
    other.write_text(json.dumps({name: ["x y z.", "z y x."] for name in CLASSES}))
    again = evaluate_run(run, device="cpu", progress=False, descriptions=other)
    assert again.about["descriptions"] == "8 sentences about 4 classes"
    assert again.folder.startswith("stickfigures-base-to-novel-descriptions-")
    chances = [[clip.answers for clip in part.clips] for r in (report, again) for part in r.sets]
    assert chances[:2] != chances[2:]


def test_tested_classes_without_a_description_are_said(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    some = tmp_path / "some.json"
    some.write_text(json.dumps({CLASSES[0]: ["x"]}))
    evaluate_run(run, device="cpu", progress=False, descriptions=some)
    assert (
        f"3 of 4 tested classes have no description, and are told by their names: {CLASSES[1]}" in caplog.text
    )


def test_a_list_that_misses_a_class_is_refused_before_anything_is_written(
    settings: Make, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"lack 1 of 4 classes: {CLASSES[3]}"):
        train(settings(descriptions={name: ["x"] for name in CLASSES[:3]}), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", [CLASSES[1], CLASSES[3]], ids=["trained", "tested alone"])
def test_a_sentence_that_is_too_long_is_refused_before_anything_is_written(
    settings: Make, tmp_path: Path, name: str
) -> None:
    long = TABLE | {name: ["ball " * 80]}
    with pytest.raises(UserError, match=f"class '{name}', text 1 of 1"):
        train(settings(descriptions=long), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_the_summary_says_how_many(settings: Make) -> None:
    assert "texts     6 sentences about 3 classes" in summary(settings("coop", descriptions=TABLE))


def test_the_summary_says_that_a_linear_probe_has_no_use_for_them(settings: Make) -> None:
    told = (
        "6 sentences about 3 classes; without effect on the 2 trained classes, which have rows of their own"
    )
    assert told in summary(settings("linear-probe", descriptions=TABLE))


def test_classes_per_step_and_chunks_cut_sentences_too(settings: Make) -> None:
    """With a subset of classes only their sentences are encoded, and chunks count texts."""
    seen: list[int] = []
    from ga2clip.training.train import make_model

    cut = settings("ivlp", descriptions=TABLE, training={"classes_per_step": 3, "class_chunk": 2})
    model = make_model(cut, CLASSES)
    encode = model.encode_tokens
    model.encode_tokens = lambda ids, prompts: seen.append(len(ids)) or encode(ids, prompts)
    updater = Updater(model, Group(torch.device("cpu")))
    chosen = updater._choose_classes(torch.tensor([0, 3]), step=0)
    updater._shared(chosen, step=0)
    texts = sum(len(TABLE[CLASSES[i]]) or 1 for i in chosen.tolist())
    assert sum(seen) == texts < 7
    assert max(seen) == 2


def test_a_file_takes_the_place_of_a_recipes_descriptions(tmp_path: Path) -> None:
    file, recipe = tmp_path / "d.json", tmp_path / "r.toml"
    file.write_text('{"Kicking-a ball": ["a foot meets a ball"]}')
    recipe.write_text('[descriptions]\n"rowing a boat" = ["oars"]\n')
    assert configure(recipe=recipe).descriptions == {"rowing a boat": ("oars",)}
    chosen = configure(recipe=recipe, descriptions=file)
    assert chosen.descriptions == {"Kicking-a ball": ("a foot meets a ball",)}
    builtin = configure(dataset="stickfigures-narrow", descriptions="builtin").descriptions
    assert len(builtin) == 40
    assert builtin["a person with a ball"][0] == "a video of a person with a ball."
