"""`bundle.json` as somebody edited it: what is no longer what `export` or `teach` can write is refused by its field."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ga2clip
from ga2clip.errors import UserError
from ga2clip.files import file_sha256
from ga2clip.runtime import Coverage, MultiLabel, Predictor, open_bundle
from ga2clip.runtime.calibration import softmax
from ga2clip.runtime.card import BundleCard, parse_card
from ga2clip.video import write_video

Tree = dict[str, Any]


def group(**changes: Any) -> Tree:
    return {
        "temperature": 2.0,
        "negative_offset": None,
        "slope": 0.5,
        "offset": -2,  # whole numbers are numbers
        "misses": [n / 21 for n in range(1, 21)],
        "accuracy": 0.8,
        "ece_before": 0.1,
        "ece": 0.05,
        "brier_before": 0.3,
        "brier": 0.25,
        "covered": 0.9,
        "set_size": 1.5,
    } | changes


def calibration(**changes: Any) -> Tree:
    tree: Tree = {"fitted_on": "x", "clips": 20, "tuned": group(), "new": group(), "reach": 0.5}
    return (
        tree | {"thresholds": {"ab": 0.2}, "usual_threshold": 0.3, "misses_with_negatives": False} | changes
    )


@pytest.fixture(scope="module")
def exported(handmade: Path) -> Tree:
    """A card with a calibration."""
    return json.loads(open_bundle(handmade).card.to_text()) | {"calibration": calibration()}


@pytest.fixture(scope="module")
def taught(exported: Tree) -> Tree:
    """A card of a bundle that was taught 20 clips."""
    examples = [{"label": "ab", "kind": "class", "sha256": f"{n:064x}"} for n in range(20)]
    learned: Tree = {"share": 0.5, "probe": 0.25, "scale": 20.0, "calibration": calibration(new=None)}
    return exported | {
        "schema_version": 4,
        "files": exported["files"] | {"taught.npz": {"sha256": "0" * 64, "bytes": 1}},
        "taught": learned | {"reject": None, "unseen": 0, "added": [], "examples": examples},
    }


def changed(tree: Tree, path: str, value: object) -> str:
    """The card with another value at the place; ... takes it away."""
    tree = copy.deepcopy(tree)
    *parents, last = path.split(".")
    part: Any = tree
    for name in parents:
        part = part[name]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    return json.dumps(tree)


TUNED = "calibration.tuned"
WRONG: list[tuple[str, object, str]] = [
    # Other types, wherever they are.
    ("scoring.scale", True, "scoring.scale: Input should be a valid number"),
    ("scoring.scale", "20", "scoring.scale: Input should be a valid number"),
    ("embedding", "4", "embedding: Input should be a valid integer"),
    ("sampling.frames", True, "sampling.frames: Input should be a valid integer"),
    ("sampling.frames", 2.0, "sampling.frames: Input should be a valid integer"),
    ("independent_frames", "yes", "independent_frames: Input should be a valid boolean"),
    ("independent_frames", 1, "independent_frames: Input should be a valid boolean"),
    (f"{TUNED}.accuracy", "0.5", "calibration.tuned.accuracy: Input should be a valid number"),
    (f"{TUNED}.misses", [True] * 20, "calibration.tuned.misses.0: Input should be a valid number"),
    ("method", 3, "method: Input should be a valid string"),
    ("accuracy", {"novel": 80}, "accuracy.novel: Input should be less than or equal to 1"),
    # Numbers with which an answer would not depend on the clip, or would be none.
    *((f"{TUNED}.temperature", n, r"tuned\.temperature: ") for n in (0, 5e-324, 1e-300, 1e300, -1)),
    ("calibration.new.temperature", 1e-3, r"calibration\.new\.temperature: "),
    *((f"{TUNED}.slope", n, r"tuned\.slope: ") for n in (0, -5, -1e-9, 1e-300, 1e308)),
    *((f"{TUNED}.offset", n, r"tuned\.offset: ") for n in (1e308, -1e7)),
    *(("scoring.scale", n, r"scoring\.scale: ") for n in (0, -20, 1e-300, 1e-3, 1e300)),
    *(("calibration.reach", n, r"calibration\.reach: ") for n in (0, 5e-324, 3, 1e300)),
    (
        "calibration",
        calibration(tuned=group(negative_offset=4e6), new=group(negative_offset=0)),
        r"'calibration': 'tuned\.negative_offset' is 4e\+06, beyond twice the scale",
    ),
    (
        "reject",
        {"threshold": 1e6, "fitted_on": "x", "kept": 1, "rejected": None},
        r"'reject\.threshold' is 1e\+06",
    ),
    # Parts that contradict each other.
    ("calibration.clips", 80, r"'tuned\.misses' has 20 numbers for 80 'clips'"),
    ("calibration.new.misses", [0.5] * 21, r"'new\.misses' has 21 numbers for 20 'clips'"),
    (f"{TUNED}.misses", [0.3], r"tuned\.misses: .* at least 20"),
    ("calibration.clips", 19, r"calibration\.clips: .* greater than or equal to 20"),
    (f"{TUNED}.misses", [0.9, 0.1] * 10, "'misses' are not in rising order"),
    ("scoring.rule", "sigmoid", r"'calibration' is for a softmax, and 'scoring\.rule' is 'sigmoid'"),
    ("calibration.thresholds", {"juggling": 0.5}, "'calibration': 'thresholds' names 'juggling'"),
    ("calibration.thresholds", {"AB": 0.5}, "'calibration': 'thresholds' names 'AB'"),
]
WRONG_TAUGHT: list[tuple[str, object, str]] = [
    *(("taught.scale", n, r"taught\.scale: ") for n in (True, "29", 0, 1e-300, 1e300)),
    ("taught.share", True, r"taught\.share: Input should be a valid number"),
    ("taught.probe", ..., "taught: has one of 'share' and 'probe' without the other"),
    ("taught.share", ..., "taught: has one of 'share' and 'probe' without the other"),
    ("taught.scale", 1e6, r"'taught.scale' is 1e\+06, not from an eighth of 'scoring.scale'"),
    ("scoring.scale", 1e5, "'taught.scale' is 20, not from an eighth of 'scoring.scale'"),
    (
        "taught.calibration.tuned.negative_offset",
        5,
        "'calibration.tuned.negative_offset' does not go with examples",
    ),
    ("taught.calibration.tuned.slope", -5, r"taught\.calibration\.tuned\.slope: "),
    ("taught.calibration.thresholds", {"x": 0.5}, r"'taught\.calibration': 'thresholds' names 'x'"),
    (
        "taught.calibration",
        calibration(new=None, clips=21, tuned=group(misses=[0.5] * 21)),
        "'calibration.clips' is 21 where 20 'examples' show classes",
    ),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG)
def test_a_card_that_was_edited_is_refused(exported: Tree, path: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_card(changed(exported, path, value), "here/bundle.json")
    assert caught.value.message.startswith("here/bundle.json: ")
    assert caught.value.hint == "export the bundle again"


@pytest.mark.parametrize(("path", "value", "message"), WRONG_TAUGHT)
def test_a_card_of_a_taught_bundle_too(taught: Tree, path: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_card(changed(taught, path, value), "here/bundle.json")
    assert caught.value.hint == "export the bundle again, or teach it again"


def test_a_key_that_occurs_twice_is_refused(exported: Tree) -> None:
    for text in (
        json.dumps(exported)[:-1] + ', "schema_version": 2}',
        json.dumps(exported).replace('"ab": 0.2', '"ab": 0.2, "ab": 0.9'),
    ):
        with pytest.raises(
            UserError, match=r"bundle\.json is not valid JSON: '(schema_version|ab)' occurs twice"
        ):
            parse_card(text, "bundle.json")


def test_what_the_commands_write_is_read(exported: Tree, taught: Tree) -> None:
    """And bundles of before, which have neither share nor probe, and say nothing about negative prompts in sets."""
    for tree in (exported, taught):
        card = parse_card(json.dumps(tree), "bundle.json")
        assert parse_card(card.to_text(), "bundle.json") == card
    tree = copy.deepcopy(taught)
    del (
        tree["taught"]["share"],
        tree["taught"]["probe"],
        tree["taught"]["calibration"]["misses_with_negatives"],
    )
    card = parse_card(json.dumps(tree), "bundle.json")
    assert card.taught is not None
    assert (card.taught.share, card.taught.probe) == (1.0, 0.0)
    assert card.taught.calibration is not None
    assert card.taught.calibration.makes_sets  # no negative prompts take part in what examples fit


def test_within_the_ranges_answers_are_numbers_that_depend_on_the_clip() -> None:
    """At the ends of both: logits of two clips whose cosines differ by a tenth."""
    cosines = np.array([[0.3, 0.2], [0.2, 0.3]])
    for scale, temperature in ((0.01, 0.01), (20.0, 100.0), (120.0, 100.0), (1e6, 0.01)):
        one, other = softmax(scale * cosines / temperature)
        assert np.isfinite([one, other]).all()
        assert one[0] - other[0] > 0.009


def bundle_with(handmade: Path, folder: Path, **changes: Any) -> Path:
    """A copy of the bundle with other parts of its card."""
    out = folder / "bundle"
    shutil.copytree(handmade, out)
    tree = json.loads(open_bundle(handmade).card.to_text()) | changes
    (out / "bundle.json").write_text(json.dumps(tree))
    return out


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    write_video(tmp_path / "c.mp4", np.full((4, 16, 16, 3), 120, np.uint8), 4)
    return tmp_path / "c.mp4"


@pytest.mark.parametrize(
    ("changes", "sets"),
    [
        ({"misses_with_negatives": True}, False),
        ({"misses_with_negatives": ...}, False),  # before it was said
        ({"misses_with_negatives": False}, True),
    ],
)
def test_a_calibration_of_before_makes_no_sets(
    handmade: Path, clip: Path, tmp_path: Path, changes: Tree, sets: bool
) -> None:
    """Its misses are of probabilities with negative prompts: a set of 90 % would hold the truth less often."""
    names = json.loads((handmade / "bundle.json").read_text())["negatives"]
    assert names
    own = group(negative_offset=0.5)
    fitted = {key: v for key, v in (calibration(tuned=own, new=own) | changes).items() if v is not ...}
    bundle = bundle_with(handmade, tmp_path, calibration=fitted)
    with Predictor(bundle, provider="cpu", cache=False) as predictor:
        assert sum(p for _, p in predictor.predict(clip).predictions) == pytest.approx(1)
        assert predictor.predict(clip, choice=MultiLabel(0.0)).chosen is not None
        if sets:
            assert predictor.predict(clip, choice=Coverage(0.9)).chosen
        else:
            with pytest.raises(UserError, match="calibrated by an earlier version") as caught:
                predictor.predict(clip, choice=Coverage(0.9))
            assert "ga2clip export RUN" in str(caught.value.hint)
    assert ("without --coverage" in open_bundle(bundle).describe()) is not sets


def test_a_taught_bundle_is_as_exported_when_all_is_forgotten(
    handmade: Path, clip: Path, tmp_path: Path
) -> None:
    """Also where the export has added a plot when its card was written already: the plot stays the last file."""
    bundle = bundle_with(handmade, tmp_path)
    (bundle / "reliability.png").write_bytes(b"a plot")
    card = open_bundle(bundle).card
    entry = {"sha256": file_sha256(bundle / "reliability.png"), "bytes": 6}
    whole = BundleCard.model_validate(card.model_dump() | {"files": card.files | {"reliability.png": entry}})
    assert list(whole.files)[-1] == "reliability.png"
    (bundle / "bundle.json").write_text(whole.to_text())
    ga2clip.teach(bundle, {"ab": [clip]}, tmp_path / "taught")
    ga2clip.teach(tmp_path / "taught", out=tmp_path / "back", forget=["ab"])
    assert (tmp_path / "back/bundle.json").read_bytes() == (bundle / "bundle.json").read_bytes()
