"""What a caller gets wrong is said at the call, not at the first answer, and never guessed."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ga2clip.errors import UserError
from ga2clip.runtime import Predictor
from ga2clip.runtime.stream import follow
from ga2clip.runtime.timeline import timeline

FRAMES = np.zeros((2, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def predictor(bundle: Path):
    with Predictor(bundle, provider="cpu", threads=1, cache=False) as opened:
        yield opened


@pytest.fixture
def every_way(predictor: Predictor, clip_path: Path) -> list[Callable[..., Any]]:
    """Each way of asking, as a function of the question's keywords; none of them reads an answer."""
    return [
        lambda **question: predictor.predict(clip_path, **question),
        lambda **question: predictor.predict_frames(FRAMES, **question),
        lambda **question: predictor.predict_many([clip_path], **question),
    ]


MASKED = np.ma.array(["running", "sleeping"], mask=[False, True])


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"top": 0}, "top must be a whole number of at least 1, got 0"),
        ({"top": -1}, "top must be"),
        ({"top": None}, "top must be"),
        ({"top": True}, "top must be"),
        ({"top": 2.0}, "top must be"),
        ({"top": math.nan}, "top must be"),
        ({"top": "5"}, "top must be"),
        ({"classes": "abc"}, "a list of strings, got the string 'abc'"),
        ({"classes": b"abc"}, "a list of strings, got the string b'abc'"),
        ({"classes": 7}, "a list of strings, got int"),
        ({"classes": []}, "no class names"),
        ({"classes": ["running", b"sleeping"]}, "class name 2 of 2 is bytes, not a string"),
        ({"classes": ["running", None]}, "class name 2 of 2 is NoneType"),
        ({"classes": [math.nan]}, "class name 1 of 1 is float"),
        ({"classes": MASKED}, "class name 2 of 2 is MaskedConstant"),
        ({"classes": np.array([["a", "b"]])}, "class name 1 of 1 is ndarray"),
        ({"classes": ["caf\u00e9", "cafe\u0301"]}, "occurs twice"),
        ({"classes": ["rock &amp; roll", "rock & roll"]}, "occurs twice"),
        ({"classes": ["dancing", "a <end&#95;of&#95;text> b"]}, "holds '<end_of_text>'"),
        ({"classes": ["dancing", "<START\uff3fof\uff3ftext>"]}, "holds '<start_of_text>'"),
        ({"classes": ["a <end_of_text> b", "a < END of text > b"]}, "occurs twice"),
        ({"classes": ["dancing"], "template": "<end_of_text> {}"}, "holds '<end_of_text>'"),
        ({"classes": ["dancing"], "template": b"{}"}, "the template must be a string"),
        ({"classes": ["dancing"], "template": "none"}, "exactly one {}"),
    ],
)
def test_questions_that_cannot_be_asked(every_way, question, message) -> None:
    for ask in every_way:
        with pytest.raises(UserError) as caught:
            ask(**question)
        assert message in caught.value.message


@pytest.mark.parametrize(
    "numbers",
    [
        *({"batch": value} for value in (0, -1, None, 1.5)),
        *({"workers": value} for value in (0, "2", True)),
        *({"time_limit": value} for value in (0, -1, math.nan, math.inf, None, "60")),
    ],
)
def test_numbers_of_a_batch(predictor, clip_path, numbers) -> None:
    with pytest.raises(UserError, match=next(iter(numbers))):
        predictor.predict_many([clip_path], **numbers)


@pytest.mark.parametrize("path", [None, b"clip.mp4", 3, math.nan, ""])
def test_a_video_is_given_by_its_path(predictor, path) -> None:
    with pytest.raises(UserError, match="given by its path"):
        predictor.predict(path)
    with pytest.raises(UserError, match="given by its path"):
        predictor.predict_many(["clip.mp4", path])
    with pytest.raises(UserError, match="given by its path"):
        list(predictor.predict_many(iter([path])))


@pytest.mark.parametrize("paths", ["clip.mp4", b"clip.mp4", Path("clip.mp4"), None, 5])
def test_several_videos_are_a_list(predictor, paths) -> None:
    with pytest.raises(UserError, match="a list of paths"):
        predictor.predict_many(paths)


@pytest.mark.parametrize("ask", [timeline, follow])
@pytest.mark.parametrize(
    ("source", "question", "message"),
    [
        (None, {}, "given by its path"),
        (b"clip.mp4", {}, "given by its path"),
        ("clip.mp4", {"classes": "abc"}, "the string 'abc'"),
        ("clip.mp4", {"window": math.nan}, "window must be"),
        ("clip.mp4", {"reject": True}, "no threshold"),
    ],
)
def test_timelines_and_streams_refuse_at_the_call(predictor, ask, source, question, message) -> None:
    with pytest.raises(UserError) as caught:
        ask(predictor, source, **question)
    assert message in caught.value.message


def test_a_stream_s_number_of_classes(predictor) -> None:
    with pytest.raises(UserError, match="top must be"):
        follow(predictor, "clip.mp4", top=0)


def test_masked_frames_are_refused(predictor) -> None:
    with pytest.raises(UserError, match="uint8 array, got MaskedArray"):
        predictor.predict_frames(np.ma.array(FRAMES, mask=True))


def test_numpy_s_own_numbers_and_names_are_taken(predictor) -> None:
    names = np.array(["running", "sleeping"])
    assert len(predictor.predict_frames(FRAMES, names, top=np.int64(2)).predictions) == 2


def test_classes_of_a_predictor_are_checked_when_it_is_made(bundle) -> None:
    with pytest.raises(UserError, match="the string"):
        Predictor(bundle, provider="cpu", classes="running")


def test_a_token_s_name_among_the_words_is_read_as_words(predictor) -> None:
    """Underscores of a name are blanks, so that nothing of the text is cut off at `<end_of_text>`."""
    names = ["dancing", "dancing <end_of_text> again", "dancing <end_of_text> no more"]
    features = predictor.encode_classes(names)
    assert np.abs(features[:, None] - features[None])[np.triu_indices(3, 1)].max(axis=1).min() > 1e-3
