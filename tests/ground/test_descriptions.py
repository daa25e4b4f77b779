"""Class descriptions: the files that hold them, the names they belong to, and the lists that come with ga2clip."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ga2clip.data.stickfigures.sets import CLASS_SETS
from ga2clip.descriptions import (
    ClassTexts,
    checked,
    given_classes,
    read_classes,
    read_descriptions,
    refuse_missing,
)
from ga2clip.errors import UserError
from ga2clip.settings import Settings

Write = Callable[[str, str], Path]
RUN = {"run": ("a man runs, fast.", "he runs"), "walk": ()}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def file(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return file


@pytest.mark.parametrize(
    ("text", "classes"),
    [("running\nsitting\n", {"running": (), "sitting": ()}), ('{"run": ["he runs"]}', {"run": ("he runs",)})],
)
@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs names of open pipes")
def test_a_pipe_is_read_once(text: str, classes: dict[str, Any]) -> None:
    """As `--classes <(…)` in a shell, where every form is looked for in turn."""
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    assert given_classes(f"/dev/fd/{reader}") == classes
    os.close(reader)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"run": ["a man runs, fast.", "\\nhe  runs"], "walk": []}'),
        ("a.txt", '{"run": ["a man runs, fast.", "he runs"], "walk": []}'),
        ("a.toml", 'run = ["a man runs, fast.", "he runs"]\nwalk = []\n'),
        ("a.csv", 'name,description\nrun,"a man runs, fast."\nrun,he runs\nwalk,\n'),
        ("a.csv", "id;class;sentence\n0;run;a man runs, fast.\n0;run;he runs\n1;walk;\n"),
        ("a.tsv", "Name\tDescriptions\nrun\ta man runs, fast.\nrun\the runs\nwalk\t\n"),
    ],
)
def test_every_form_reads_the_same(write: Write, name: str, text: str) -> None:
    path = write(name, text)
    assert read_classes(path) == RUN
    assert list(read_classes(path)) == ["run", "walk"]
    assert read_descriptions(path, "own") == RUN


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.txt", "run\nwalk\n"), ("a.csv", "id,name\n0,run\n1,walk\n"), ("a.json", '{"walk": 1, "run": 0}')],
)
def test_plain_lists_have_no_sentences(write: Write, name: str, text: str) -> None:
    assert list(read_classes(write(name, text)).items()) == [("run", ()), ("walk", ())]
    with pytest.raises(UserError, match="holds no sentence"):
        read_descriptions(write(name, text), "own")


def test_one_sentence_need_not_be_a_list(write: Write) -> None:
    assert read_classes(write("a.json", '{"run": "a man runs"}')) == {"run": ("a man runs",)}
    assert read_classes(write("b.json", '{"0": "run", "1": "walk"}')) == {"run": (), "walk": ()}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{"run": ["x"], "run": ["y"]}', "'run' occurs twice"),
        ("a.json", '{"run": ["x", 3]}', "sentence 2 of 'run' must be a text, got 3"),
        ("a.json", '{"run": ["x", " "]}', "sentence 2 of 'run' is empty"),
        ("a.json", '{"run": ["' + 500 * "long " + '"]}', "sentence 1 of 'run' has 2,499 characters"),
        ("a.json", '{"run": ["x"], "walk": {"y": 1}}', "'walk' must have a list of sentences"),
        ("a.json", '{"run": ["x"], " ": ["y"]}', "a class name must be a text"),
        ("a.json", '{"run": ["\\ud800"]}', "sentence 1 of 'run' is not Unicode text"),
        ("a.toml", "run = [", "is not valid TOML"),
        ("a.csv", "name,description\nrun,a man, fast\n", "line 2: 3 columns where the header has 2"),
        ("a.csv", "name,description,description\nrun,a,b\n", "2 columns of the header hold sentences"),
        ("a.csv", "name,description,sentence\nrun,a,b\n", "2 columns of the header hold sentences"),
    ],
)
def test_what_cannot_be_used_is_said(write: Write, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_classes(write(name, text))


def test_names_are_found_in_any_spelling() -> None:
    texts = ClassTexts({"Apply Eye Makeup": ["a brush near an eye"], "Archery": []})
    assert (
        texts.of("ApplyEyeMakeup", "{}.") == texts.of("apply_eye_makeup", "{}.") == ("a brush near an eye",)
    )
    assert texts.of("archery", "a {}.") == ("a archery.",)
    assert texts.missing(["archery", "ApplyEyeMakeup", "biking"]) == ["biking"]
    assert texts
    assert not ClassTexts({"Archery": []})
    with pytest.raises(UserError, match="one class twice: 'Yo Yo' and 'YoYo'"):
        ClassTexts({"Yo Yo": ["x"], "YoYo": ["y"]})


def test_missing_classes_are_refused_by_name() -> None:
    refuse_missing({}, ["a", "b"])
    refuse_missing({"A": [], "b": ["x"], "more": ["y"]}, ["a", "b"])
    with pytest.raises(UserError, match="lack 2 of 3 classes: b, c; described, but no class: d") as refused:
        refuse_missing({"a": ["x"], "d": ["y"]}, ["a", "b", "c"])
    assert "an empty list" in str(refused.value.hint)


@pytest.mark.parametrize("dataset", CLASS_SETS)
def test_the_built_in_lists_describe_every_class_in_words_that_tiny_knows(dataset: str) -> None:
    from safetensors.numpy import load_file

    import ga2clip.assets
    from ga2clip.tokenizer import ClipTokenizer

    table = read_descriptions("builtin", dataset)
    assert list(table) == list(CLASS_SETS[dataset].by_name)
    weights = load_file(Path(ga2clip.assets.__file__).parent / "tiny" / "weights.safetensors")
    known, tokenizer = set(weights["token_embedding.ids"].tolist()), ClipTokenizer.from_open_clip()
    for name, sentences in table.items():
        assert len(set(sentences)) == len(sentences) >= 3, name
        for sentence in sentences:
            assert set(tokenizer.encode(sentence)) <= known, sentence


def test_only_generated_datasets_have_built_in_ones() -> None:
    with pytest.raises(UserError, match="no descriptions come with the dataset ucf101") as refused:
        read_descriptions("builtin", "ucf101")
    assert "stickfigures-order" in str(refused.value.hint)


@pytest.mark.parametrize("wrong", [{"run": "a man runs"}, {"run": 3}, {"run": [""]}, 3])
def test_settings_take_lists_of_sentences_alone(wrong: Any) -> None:
    with pytest.raises(UserError, match="descriptions"):
        Settings().updated({"descriptions": wrong}, "test")


def test_settings_keep_the_sentences() -> None:
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    settings = Settings().updated({"descriptions": {"run. fast": ["a  man", 'a "dog"'], "b": []}}, "test")
    table = {"run. fast": ("a man", 'a "dog"'), "b": ()}
    assert settings.descriptions == checked(table, "test") == table
    assert Settings.from_dict(tomllib.loads(settings.to_toml()), "again") == settings
