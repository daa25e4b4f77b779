"""The answers of predictors, and their JSON as other programs read it."""

import hashlib
from typing import Any

import pytest

from ga2clip.predictions import Asked, Failure, Prediction, as_json, rank

ONE = Prediction("a.mp4", 8, 2.5, (("riding", 0.75), ("rowing", 0.25)))


def test_rank_puts_the_most_probable_first_and_keeps_the_order_of_equals() -> None:
    assert rank(("a", "b", "c", "d"), (0.1, 0.4, 0.4, 0.1), 3) == (("b", 0.4), ("c", 0.4), ("a", 0.1))
    assert rank(("a", "b"), (0.2, 0.8), 5) == (("b", 0.8), ("a", 0.2))


def test_json_of_a_prediction() -> None:
    assert ONE.to_json() == {
        "file": "a.mp4",
        "frames": 8,
        "duration": 2.5,
        "predictions": [
            {"label": "riding", "probability": 0.75},
            {"label": "rowing", "probability": 0.25},
        ],
    }
    warned = Prediction("a.mp4", 8, 2.5, (), ("one of 8 frames is damaged",))
    assert warned.to_json()["warnings"] == ["one of 8 frames is damaged"]


def test_json_of_a_batch_sorts_failures_out() -> None:
    asked = Asked.of("ab" * 32, ("riding", "rowing"), None, reject=False, top=2)
    whole = as_json("ga2 on tiny", "cpu", [ONE, Failure("b.mp4", "is empty")], asked)
    assert whole["results"] == [ONE.to_json()]
    assert whole["errors"] == [{"file": "b.mp4", "error": "is empty"}]
    assert (whole["model"], whole["provider"], whole["top"]) == ("ga2 on tiny", "cpu", 2)
    assert whole["classes_sha256"] == hashlib.sha256(b'[["riding", "rowing"], false]').hexdigest()
    assert whole["template_sha256"] == hashlib.sha256(b"null").hexdigest()


def test_every_part_of_a_question_has_its_fingerprint() -> None:
    plain = Asked.of("m", ("a", "b"), None, reject=False, top=5)
    swapped = Asked.of("m", ("b", "a"), None, reject=False, top=5)
    rejecting = Asked.of("m", ("a", "b"), None, reject=True, top=5)
    written = Asked.of("m", ("a", "b"), "{}", reject=False, top=5)
    digest = {
        text: hashlib.sha256(text.encode()).hexdigest()
        for text in ('[["b", "a"], false]', '[["a", "b"], true]')
    }
    assert [swapped.classes_sha256, rejecting.classes_sha256] == list(digest.values())
    assert written.template_sha256 == hashlib.sha256(b'"{}"').hexdigest()
    assert plain.classes_sha256 not in digest.values()


QUESTION: dict[str, Any] = {
    "model_sha256": "m",
    "classes": ("a", "b"),
    "template": None,
    "reject": False,
    "top": 5,
    "choice": "coverage 0.9",
    "explain": True,
}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({}, None),
        ({"model_sha256": "n"}, "model"),
        ({"classes": ("b", "a")}, "class list"),
        ({"classes": {"a": ["x"], "b": []}}, "class list"),
        ({"reject": True}, "use of --reject"),
        ({"template": "{}"}, "template"),
        ({"top": 4}, "--top"),
        ({"explain": False}, "use of --explain"),
        ({"choice": ""}, "use of --coverage"),
        ({"choice": "coverage 0.8"}, "use of --coverage"),
        ({"choice": "multi-label"}, "use of --coverage"),
    ],
)
def test_what_differs_between_two_questions(changes: dict[str, Any], what: str | None) -> None:
    asked = Asked.of(**QUESTION)
    other = Asked.of(**QUESTION | changes)
    assert asked.differs(asked.to_json()) is None
    assert other.differs(asked.to_json()) == what


def test_the_choice_that_was_begun_with_is_named() -> None:
    plain, multi, one, table = (
        Asked.of(**QUESTION | {"choice": choice})
        for choice in ("", "multi-label", "multi-label, threshold 0.5", "multi-label, thresholds ab")
    )
    assert multi.differs(plain.to_json()) == "use of --multi-label"
    assert one.differs(plain.to_json()) == one.differs(table.to_json()) == "use of --threshold"
    assert "choice" not in plain.to_json()
    assert multi.to_json()["choice"] == "multi-label"
    assert multi.to_json()["explain"] is True
