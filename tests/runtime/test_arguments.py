"""What a caller gets wrong is said at the call, not at the first answer, and never guessed."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ga2clip
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
        ({"classes": ["dancing"], "template": "\ud800 {}"}, "the template is not Unicode text"),
        ({"classes": {"running", "sleeping"}}, "a list of strings, got set"),
        ({"classes": {"running": 0, "sleeping": 1}}, "'running' must have a list of sentences, got 0"),
        ({"classes": io.StringIO("running\nsleeping\n")}, "a list of strings, got StringIO"),
        ({"classes": ["running", "\ud800"]}, "class name 2 of 2 is not Unicode text"),
        ({"classes": ["running", "sleep\udc80"]}, "class name 2 of 2 is not Unicode text"),
        ({"classes": ["running", "\u200b\u2060"]}, "class name 2 of 2 is empty"),
        ({"classes": ["do\u200bg", "dog"]}, "differ only in what can't be seen"),
        ({"classes": ["dog", "do\u00adg"]}, "differ only in what can't be seen"),
        ({"classes": ["\u2764\ufe0f", "\u2764"]}, "differ only in what can't be seen"),
        ({"reject": "no"}, "reject must be True or False, got 'no'"),
        ({"reject": None}, "reject must be True or False, got None"),
        ({"reject": 1}, "reject must be True or False, got 1"),
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
        ("clip.mp4", {"window": "2"}, "window must be a number above 0, got '2'"),
        ("clip.mp4", {"stride": None}, "stride must be a number above 0, got None"),
        ("clip.mp4", {"fps": True}, "fps must be a number above 0, got True"),
        ("clip.mp4", {"fps": 10**400}, "fps must be a number above 0"),
        ("clip.mp4", {"reject": "no"}, "reject must be"),
        ("clip.mp4", {"reject": True}, "no threshold"),
    ],
)
def test_timelines_and_streams_refuse_at_the_call(predictor, ask, source, question, message) -> None:
    with pytest.raises(UserError) as caught:
        ask(predictor, source, **question)
    assert message in caught.value.message


@pytest.mark.parametrize("numbers", [{"smooth": "1"}, {"min_length": -1}, {"smooth": math.nan}])
def test_numbers_of_a_timeline(predictor, numbers) -> None:
    with pytest.raises(UserError, match=f"{next(iter(numbers))} must be a number of 0 or more"):
        timeline(predictor, "clip.mp4", **numbers)


def test_a_stream_s_number_of_classes(predictor) -> None:
    with pytest.raises(UserError, match="top must be"):
        follow(predictor, "clip.mp4", top=0)


def test_masked_frames_are_refused(predictor) -> None:
    with pytest.raises(UserError, match="uint8 array, got MaskedArray"):
        predictor.predict_frames(np.ma.array(FRAMES, mask=True))


PREPARED = np.zeros((3, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (None, "must be a uint8 array, got NoneType"),
        (PREPARED.tolist(), "must be a uint8 array, got list"),
        (PREPARED.astype(np.float32), "must be a uint8 array, got float32"),
        (np.ma.array(PREPARED, mask=True), "must be a uint8 array, got MaskedArray"),
        (PREPARED[:0], "must be (T, 8, 8, 3), got (0, 8, 8, 3)"),
        (PREPARED[0], "must be (T, 8, 8, 3), got (8, 8, 3)"),
        (PREPARED[None], "must be (T, 8, 8, 3), got (1, 3, 8, 8, 3)"),
        (np.zeros((3, 9, 8, 3), np.uint8), "must be (T, 8, 8, 3), got (3, 9, 8, 3)"),
    ],
)
def test_prepared_frames_and_clips_are_looked_at_before_a_model_is_blamed(handmade, frames, message) -> None:
    with Predictor(handmade, provider="cpu", threads=1, cache=False) as predictor:
        assert predictor.encode_frames(PREPARED).shape == (3, 4)
        assert predictor.encode_clips(PREPARED[None]).shape == (1, 4)
        with pytest.raises(UserError) as caught:
            predictor.encode_frames(frames)
        assert caught.value.message == f"prepared frames {message}"
        clips = frames[None] if isinstance(frames, np.ndarray) else frames
        with pytest.raises(UserError) as caught:
            predictor.encode_clips(clips)
        expected = message.replace("(T,", "(B, T,").partition(", got (")[0]
        assert caught.value.message.startswith(f"prepared clips {expected}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"threads": value}, "threads must be") for value in ("2", 1.5, True, None, -1, 10**6)),
        *(({"provider": value}, "provider must be a string") for value in (None, 3)),
        *(({"signed_by": value}, "a key is given by the path") for value in (3, b"key.pem")),
        ({"cache": "no"}, "cache must be True or False"),
    ],
)
def test_options_of_a_predictor(handmade, options, message) -> None:
    with pytest.raises(UserError, match=message):
        Predictor(handmade, **({"provider": "cpu"} | options))


@pytest.mark.parametrize("model", [None, 3, b"bundle", ["bundle"], object()])
def test_what_is_no_model(model) -> None:
    with pytest.raises(UserError, match="a model is the folder of a bundle"):
        Predictor(model)


def test_a_class_cannot_have_the_name_of_the_rejection(predictor, monkeypatch) -> None:
    monkeypatch.setattr(predictor.model, "threshold", 0.0)
    with pytest.raises(UserError, match="a class is called 'none of these'"):
        predictor.predict_frames(FRAMES, ["running", "None of  these"], reject=True)
    found = predictor.predict_frames(FRAMES, ["running", "none of these"]).predictions
    assert sorted(label for label, _ in found) == ["none of these", "running"]


def test_names_are_plain_texts_in_the_answer(predictor) -> None:
    """NumPy's own text type is not read by every reader of pickles."""
    names = np.array(["running", "caf\u00e9"])
    assert {type(label) for label, _ in predictor.predict_frames(FRAMES, names).predictions} == {str}


@pytest.mark.parametrize("path", [None, ["clip.mp4"], b"clip.mp4", 3])
def test_frames_are_read_from_a_path(path) -> None:
    with pytest.raises(UserError, match="given by its path"):
        ga2clip.read_frames(path)


@pytest.mark.parametrize("frames", [0, -1, 2.5, "3", True, math.nan])
def test_a_number_of_frames_is_whole(clip_path, frames) -> None:
    with pytest.raises(UserError, match="frames must be a whole number of at least 1"):
        ga2clip.read_frames(clip_path, frames=frames)


def test_a_short_video_is_not_repeated_without_end(clip_path) -> None:
    count = len(ga2clip.read_frames(clip_path))
    assert count < 1024
    assert len(ga2clip.read_frames(clip_path, frames=count + 1)) == count + 1
    with pytest.raises(UserError, match=f"1025 frames are wanted of {count}: more than 1024"):
        ga2clip.read_frames(clip_path, frames=1025)
    with pytest.raises(UserError, match="at most 100,000"):
        ga2clip.read_frames(clip_path, frames=10**12)


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
