"""Questions whose classes have descriptions: asked in Python, answered by a bundle and by torch alike."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ga2clip.errors import UserError
from ga2clip.predictions import Asked
from ga2clip.runtime import Predictor, open_bundle
from ga2clip.runtime.scoring import mean_direction
from ga2clip.runtime.text import ClassEncoder
from ga2clip.tokenizer import ClipTokenizer

OWN = {"ab": [], "new": ["a b", "c a"], "other": ["b c"]}
"""With texts of one length: the hand-made encoder counts padding."""


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture
def alone(handmade: Path) -> Callable[[str], np.ndarray]:
    """The hand-made text encoder in NumPy: the mean of a text's rows, as a direction."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(handmade / "text_encoder.onnx")).graph
    table = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}["table"]
    tokenizer = ClipTokenizer.from_json(handmade / "tokenizer.json")
    return lambda text: unit(table[tokenizer.tokens([text])[0]].astype(np.float64).mean(axis=0))


def described(bundle: Path, folder: Path, table: dict[str, list[str]]) -> Path:
    """A copy of a bundle whose card has descriptions."""
    shutil.copytree(bundle, folder)
    card = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    (folder / "bundle.json").write_text(json.dumps(card | {"descriptions": table}), encoding="utf-8")
    return folder


def test_sentences_are_averaged_as_directions(handmade: Path, alone: Callable[[str], np.ndarray]) -> None:
    with Predictor(handmade, provider="cpu", threads=1, cache=False) as predictor:
        found = predictor.encode_classes(OWN)
        assert np.array_equal(found[0], open_bundle(handmade).text_bank().features[0])
        expected = unit((alone("a b") + alone("c a")) / 2)
        np.testing.assert_allclose(found[1], expected, atol=1e-6)
        np.testing.assert_allclose(found[2], alone("b c"), atol=1e-6)
        # One sentence like the name in the template changes no bit; a sentence is taken before the bank.
        assert np.array_equal(predictor.encode_classes({"a b": ["a b"]}), predictor.encode_classes(["a b"]))
        assert not np.array_equal(predictor.encode_classes({"ab": ["c"]})[0], found[0])


def test_a_predictor_is_asked_about_described_classes(handmade: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    with Predictor(handmade, classes=OWN, provider="cpu", threads=1, cache=False) as predictor:
        assert predictor.classes == tuple(OWN)
        own = predictor.predict_frames(frames)
        assert own == predictor.predict_frames(frames, classes=OWN)
        assert own != predictor.predict_frames(frames, classes=list(OWN))
        assert {label for label, _ in own.predictions} == set(OWN)


def test_what_a_card_describes_is_known_by_name(
    handmade: Path, tmp_path: Path, alone: Callable[[str], np.ndarray]
) -> None:
    """Classes that training described and the bank does not hold, in any spelling; a template has precedence."""
    bundle = described(handmade, tmp_path / "told", {"Ab": ["c"], "b-b": ["a b", "c a"]})
    with Predictor(bundle, provider="cpu", threads=1, cache=False) as predictor:
        found = predictor.encode_classes(["ab", "B b"])
        assert np.array_equal(found[0], open_bundle(bundle).text_bank().features[0])
        np.testing.assert_allclose(found[1], unit((alone("a b") + alone("c a")) / 2), atol=1e-6)
        np.testing.assert_allclose(predictor.encode_classes(["B b"], "a {}")[0], alone("a b b"), atol=1e-6)
    assert "2 classes are described by 3 sentences" in open_bundle(bundle).describe()


def test_features_are_remembered_by_sentence(
    handmade: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GA2CLIP_CACHE", str(tmp_path))
    with Predictor(handmade, provider="cpu", threads=1) as predictor:
        first = predictor.encode_classes({"x": ["a", "b"], "y": ["c"]})
        monkeypatch.setattr(ClassEncoder, "_run", lambda self, texts: pytest.fail("was cached"))
        again = predictor.encode_classes({"other": ["c"], "x": ["b", "a"]})
    np.testing.assert_allclose(again, first[::-1], atol=1e-6)


@pytest.mark.parametrize(
    ("classes", "template", "message"),
    [
        ({"ab": "a sentence"}, None, "'ab' must have a list of sentences, got 'a sentence'"),
        ({"ab": ["a", None]}, None, "sentence 2 of 'ab' must be a text"),
        ({"ab": ["  "]}, None, "sentence 1 of 'ab' is empty"),
        ({"ab": [], "AB": ["a"]}, None, "occurs twice"),
        ({}, None, "there are no class names"),
        ({"ab": ["a"]}, "a {}", "a template does not go with descriptions: 'ab'"),
        ({"x": ["a"], "ab": ["a", "b " * 20]}, None, r"class 'ab', text 2 of 2: .* needs 22 tokens, 16 fit"),
    ],
)
def test_questions_that_cannot_be_asked(
    handmade: Path, classes: object, template: str | None, message: str
) -> None:
    with (
        Predictor(handmade, provider="cpu", threads=1, cache=False) as predictor,
        pytest.raises(UserError, match=message),
    ):
        predictor.scorer(classes, template)  # type: ignore[arg-type]


def test_a_template_goes_with_a_mapping_without_sentences(handmade: Path) -> None:
    with Predictor(handmade, provider="cpu", threads=1, cache=False) as predictor:
        same = predictor.encode_classes({"ab": [], "c": []}, "a {}")
        assert np.array_equal(same, predictor.encode_classes(["ab", "c"], "a {}"))


def test_the_question_of_a_results_file_has_the_sentences_in_it() -> None:
    def sha(classes: object) -> str:
        return Asked.of("m", classes, None, reject=False, top=1).classes_sha256  # type: ignore[arg-type]

    assert sha({"a": (), "b": ()}) == sha(["a", "b"])
    assert len({sha({"a": ("x",), "b": ()}), sha({"a": ("y",), "b": ()}), sha(["a", "b"])}) == 3


def test_the_mean_of_one_direction_is_itself() -> None:
    row = np.array([[0.6, 0.8]], np.float32)
    assert np.array_equal(mean_direction(row), row[0])
    np.testing.assert_allclose(mean_direction(np.eye(2, dtype=np.float32)), [0.5**0.5] * 2, rtol=1e-6)
