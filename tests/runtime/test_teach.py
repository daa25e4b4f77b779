"""Teaching bundles from clips: what is written, forgotten, refused and warned of; in Python and on the command line."""

import json
import logging
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import ga2clip
from ga2clip.data.manifest import Clip, Manifest
from ga2clip.errors import UserError
from ga2clip.files import file_sha256
from ga2clip.labels import letters
from ga2clip.runtime import NONE_LABEL, Predictor, open_bundle
from ga2clip.runtime.card import parse_card
from ga2clip.runtime.signature import SIGNATURE
from ga2clip.runtime.stream import follow
from ga2clip.runtime.timeline import timeline
from ga2clip.video import write_video
from ga2clip_cli.app import app

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 40, 210), "grey": (120, 120, 120)}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Four clips of each colour, with noise."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    made: dict[str, list[Path]] = {}
    for name, colour in COLOURS.items():
        made[name] = []
        for number in range(4):
            frames = np.clip(np.array(colour) + rng.integers(-25, 25, (6, 16, 16, 3)), 0, 255)
            path = folder / name / f"{number}.mp4"
            path.parent.mkdir(exist_ok=True)
            write_video(path, frames.astype(np.uint8), 5)
            made[name].append(path)
    return made


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video")
    return path


def contents(folder: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in folder.iterdir()}


def answers(predictor: Predictor, clips: list[Path], **question: object) -> list[dict[str, float]]:
    return [dict(predictor.predict(clip, top=9, **question).predictions) for clip in clips]  # type: ignore[arg-type]


def opened(bundle: Path) -> Predictor:
    return Predictor(bundle, provider="cpu", threads=1, cache=False)


def test_new_classes_are_recognised_and_the_given_bundle_stays(handmade, clips, tmp_path) -> None:
    before = contents(handmade)
    shown = {"ab": clips["red"][:2], "bab": clips["green"][:2], "cab": clips["blue"][:2]}
    out = ga2clip.teach(handmade, shown, tmp_path / "taught", threads=1)
    assert contents(handmade) == before
    with opened(out) as predictor:
        assert predictor.classes == ("ab", "abc", "bab", "cab")
        for label, colour in (("ab", "red"), ("bab", "green"), ("cab", "blue")):
            for answer in answers(predictor, clips[colour][2:]):
                assert max(answer, key=answer.get) == label  # type: ignore[arg-type]
                assert sum(answer.values()) == pytest.approx(1)
    card = open_bundle(out).card
    assert card.taught is not None
    assert card.taught.added == ("bab", "cab")
    assert {e.sha256 for e in card.taught.examples} == {
        file_sha256(c) for part in shown.values() for c in part
    }
    chosen = f"share {card.taught.share:.2f}, probe {card.taught.probe:.2f}"
    said = f"6 clips by gaussian-text-prior ({chosen}): ab (2), bab (2), cab (2); new: bab, cab"
    assert said in open_bundle(out).describe()


def test_in_memory_and_on_disk_give_the_same_answers_in_every_way_of_asking(
    handmade, clips, tmp_path
) -> None:
    shown, apart = {"bab": clips["green"][:3], "ab": clips["red"][:1]}, {"ab": clips["grey"][:1]}
    ga2clip.teach(handmade, shown, tmp_path / "taught", against=apart)
    test = [parts[3] for parts in clips.values()]
    with opened(handmade) as plain, opened(tmp_path / "taught") as by_disk:
        by_memory = plain.teach(shown, apart)
        assert by_memory.fingerprint != plain.fingerprint
        for question in (
            {},
            {"classes": ["bab", "c b a"]},
            {"template": "a {}"},
            {"classes": {"ab": ["b b"], "c": []}},
        ):
            ours, theirs = answers(by_memory, test, **question), answers(by_disk, test, **question)
            assert [list(a) for a in ours] == [list(a) for a in theirs]
            assert [*map(list, map(dict.values, ours))] == [
                pytest.approx(list(a.values()), abs=1e-6) for a in theirs
            ]
        assert answers(plain, test) == answers(opened(handmade), test)
        spans = [
            timeline(p, test[0], window=0.5, stride=0.5, fps=4, classes=["bab", "ab"]).segments
            for p in (by_memory, by_disk)
        ]
        assert [(s.label, pytest.approx(s.score, abs=1e-6)) for s in spans[0]] == [
            (s.label, s.score) for s in spans[1]
        ]
        streamed = [
            list(follow(p, str(test[0]), window=0.5, stride=0.5, fps=4)) for p in (by_memory, by_disk)
        ]
        assert [r.predictions[0][0] for r in streamed[0]] == [r.predictions[0][0] for r in streamed[1]]


def test_new_names_at_predict_go_through_the_same_map(handmade, clips) -> None:
    """Asked with taught ones or without, a new name has the same score against another new name."""
    with opened(handmade) as plain:
        taught = plain.teach({"ab": clips["red"][:2]})
        pair, more = ["b c", "c c"], ["b c", "c c", "ab"]
        alone, among = (answers(taught, clips["blue"][:1], classes=names)[0] for names in (pair, more))
        assert alone["b c"] / alone["c c"] == pytest.approx(among["b c"] / among["c c"], rel=1e-6)


def test_the_same_names_are_asked_again_without_another_inverse(
    handmade, clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A D × D inverse takes longer than the rest of a question; those of the last two questions are kept."""
    inverted: list[int] = []
    invert = np.linalg.inv
    monkeypatch.setattr(np.linalg, "inv", lambda matrix: inverted.append(len(matrix)) or invert(matrix))
    clip = clips["blue"][:1]
    with opened(handmade) as plain:
        taught = plain.teach({"ab": clips["red"][:2]})
        inverted.clear()
        first = answers(taught, clip, classes=["ab", "b c"])
        assert inverted == [4]
        assert answers(taught, clip, classes=["ab", "b c"]) == first
        other = answers(taught, clip, classes=["ab", "c c"])
        assert answers(taught, clip, classes=["b c", "ab"])[0] == pytest.approx(first[0])
        assert inverted == [4, 4]
        assert other != first
        for name in ("a c", "c a", "b b"):
            answers(taught, clip, classes=["ab", name])
        assert answers(taught, clip, classes=["ab", "b c"]) == first
        assert inverted == [4] * 6
        assert len(taught.model.taught._fit._inverses) == 2


def test_forgetting_is_as_if_it_had_never_been_taught(handmade, clips, tmp_path) -> None:
    """To the byte, in any order; when nothing is left the bundle is untaught, with the original's answers."""
    one = ga2clip.teach(handmade, {"bab": clips["green"][:2]}, tmp_path / "one")
    two = ga2clip.teach(one, {"cab": clips["blue"][:2], NONE_LABEL: clips["grey"][:1]}, tmp_path / "two")
    other = ga2clip.teach(
        handmade, {NONE_LABEL: clips["grey"][:1], "cab": clips["blue"][:2]}, tmp_path / "other"
    )
    both = ga2clip.teach(other, {"bab": clips["green"][:2]}, tmp_path / "both")
    assert contents(two) == contents(both)
    back = ga2clip.teach(two, out=tmp_path / "back", forget=["CAB", NONE_LABEL])
    assert contents(back) == contents(one)
    plain = ga2clip.teach(one, out=tmp_path / "plain", forget=["bab"])
    assert open_bundle(plain).card == open_bundle(handmade).card
    assert not (plain / "taught.npz").exists()
    with opened(plain) as a, opened(handmade) as b:
        assert answers(a, clips["red"]) == answers(b, clips["red"])


def test_forgetting_all_gives_the_exported_card_to_the_byte(handmade, clips, tmp_path) -> None:
    """Also where its files are in another order, as after an export with --verify-accuracy."""
    bundle = tmp_path / "bundle"
    shutil.copytree(handmade, bundle)
    card = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    card["files"] = dict(reversed(card["files"].items()))
    (bundle / "bundle.json").write_text(parse_card(json.dumps(card), "card").to_text(), encoding="utf-8")
    one = ga2clip.teach(bundle, {"bab": clips["green"][:1]}, tmp_path / "one")
    two = ga2clip.teach(one, {"cab": clips["blue"][:1]}, tmp_path / "two")
    assert contents(ga2clip.teach(two, out=tmp_path / "back", forget=["cab"])) == contents(one)
    assert contents(ga2clip.teach(two, out=tmp_path / "all", forget=["cab", "bab"])) == contents(bundle)


def test_a_class_is_taught_again_under_any_spelling_and_clips_count_once(
    handmade, clips, tmp_path, caplog
) -> None:
    first = ga2clip.teach(handmade, {"bab": clips["green"][:1]}, tmp_path / "first")
    again = ga2clip.teach(first, {" BAB ": [*clips["green"][:3], clips["green"][1]]}, tmp_path / "again")
    card = open_bundle(again).card
    assert card.classes == ("ab", "abc", "bab")
    assert card.taught is not None
    assert [e.label for e in card.taught.examples] == ["bab"] * 3


def test_names_that_compare_equal_are_one_class(handmade, clips, tmp_path) -> None:
    """In a list, by folders and in Python; spelled as the bundle has it, else as the first. Case, blanks, Unicode."""
    made = {
        "Caf\u00e9 bar": clips["green"][:2],
        "cafe\u0301  BAR": clips["green"][2:3],
        "AB": clips["red"][:1],
    }
    given = {
        **made,
        " ab": clips["red"][1:2],
        "None of these": clips["grey"][:1],
        NONE_LABEL: clips["grey"][1:2],
    }
    against = {"CAF\u00c9_bar": clips["blue"][:1], "aB": clips["blue"][1:2]}
    out = ga2clip.teach(handmade, given, tmp_path / "python", against=against)
    card = open_bundle(out).card
    assert card.classes == ("ab", "abc", "Caf\u00e9 bar")
    assert Counter((e.label, e.kind) for e in card.taught.examples) == {
        ("Caf\u00e9 bar", "class"): 3,
        ("Caf\u00e9 bar", "not"): 1,
        ("ab", "class"): 2,
        ("ab", "not"): 1,
        (NONE_LABEL, "none"): 2,
    }
    table, folders = tmp_path / "list.csv", tmp_path / "folders"
    table.write_text("".join(f"{c},{name}\n" for name, own in given.items() for c in own), encoding="utf-8")
    for name, own in given.items():
        (folders / name.strip()).mkdir(parents=True)
        for clip in own:
            (folders / name.strip() / clip.name).write_bytes(clip.read_bytes())
    same = ga2clip.teach(handmade, given, tmp_path / "same")
    for number, source in enumerate((table, folders)):
        asked = ["teach", str(handmade), str(source), "--out", str(tmp_path / str(number))]
        result = CliRunner().invoke(app, asked)
        assert result.exit_code == 0, result.output
        found = open_bundle(tmp_path / str(number)).card
        assert found.classes[:2] == ("ab", "abc")
        assert [letters(name) for name in found.classes[2:]] == ["caf\u00e9bar"]
        sums = [[e.sha256 for e in bundle.taught.examples] for bundle in (found, open_bundle(same).card)]
        assert sums[0] == sums[1]
    # The bundle's spelling stays, whoever spells it otherwise.
    later = ga2clip.teach(out, {"cafe\u0301 bar": clips["green"][3:]}, tmp_path / "later")
    assert open_bundle(later).card.classes == card.classes
    assert open_bundle(
        ga2clip.teach(later, out=tmp_path / "back", forget=["CAFE\u0301 BAR"])
    ).card.classes == (
        "ab",
        "abc",
    )


def test_a_predictor_with_own_names_gets_no_second_row_for_a_class(handmade, clips) -> None:
    with Predictor(handmade, classes=["A_B", "b c"], provider="cpu", threads=1, cache=False) as plain:
        taught = plain.teach({"ab": clips["red"][:1], "B  C": clips["green"][:1], "cab": clips["blue"][:1]})
        assert taught.classes == ("A_B", "b c", "cab")
        assert taught.model.classes == ("ab", "abc", "B  C", "cab")
        assert set(answers(taught, clips["red"][3:])[0]) == {"A_B", "b c", "cab"}


def test_examples_against(handmade, clips, tmp_path) -> None:
    """ "none of these" makes rejection possible; counterexamples lower their class and nothing else's order."""
    with opened(handmade) as plain:
        assert plain.model.threshold is None
        taught = plain.teach({"ab": clips["red"][:2], NONE_LABEL: clips["grey"][:3]})
        assert taught.model.threshold is not None
        assert NONE_LABEL not in taught.classes
        grey = answers(taught, clips["grey"][3:], reject=True)[0]
        red = answers(taught, clips["red"][3:], reject=True)[0]
        assert grey[NONE_LABEL] > red[NONE_LABEL]
        assert max(red, key=red.get) == "ab"  # type: ignore[arg-type]
        apart = taught.teach({}, {"ab": clips["blue"][:2]})
        before, after = (answers(p, clips["blue"][3:])[0] for p in (taught, apart))
        odds = [answer["ab"] / (1 - answer["ab"]) for answer in (before, after)]
        assert odds[1] < odds[0] / 2  # it is nearer to the counterexamples


def test_broken_clips_are_left_out_where_others_remain(handmade, clips, broken, tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        out = ga2clip.teach(handmade, {"bab": [broken, clips["green"][0]]}, tmp_path / "some")
    assert "left out" in caplog.text
    assert "broken.mp4" in caplog.text
    clean = ga2clip.teach(handmade, {"bab": clips["green"][:1]}, tmp_path / "clean")
    assert contents(out) == contents(clean)
    with pytest.raises(UserError, match="no example of 'cab' can be read"):
        ga2clip.teach(handmade, {"cab": [broken], "bab": clips["green"]}, tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.mp4", "clean", "some"]


def test_learning_nothing_is_an_error(handmade, clips, broken, tmp_path, caplog) -> None:
    """Whether the class is new, taught, the bundle's own or none of these; but not if other clips were learned."""
    shown = {"bab": clips["green"][:1], NONE_LABEL: clips["grey"][:1]}
    bundle = ga2clip.teach(handmade, shown, tmp_path / "bundle")
    unlike = tmp_path / "unlike.mp4"
    unlike.write_bytes(b"another")
    for examples, message in (
        ({"bab": [broken]}, "nothing is learned, no new clip can be read.*broken.mp4"),
        ({"bab": [broken, *clips["green"][:1]]}, "nothing is learned, no new clip can be read.*broken.mp4"),
        ({"bab": [broken], NONE_LABEL: [unlike]}, "nothing is learned"),
        ({"ab": [broken]}, "no example of 'ab' can be read.*broken.mp4"),
    ):
        with pytest.raises(UserError, match=message):
            ga2clip.teach(bundle, examples, tmp_path / "x")
    with pytest.raises(UserError, match="nothing is learned"):
        ga2clip.teach(bundle, {"bab": [broken]}, tmp_path / "x", forget=[NONE_LABEL])
    asked = ["teach", str(bundle), str(broken), "--class", "bab", "--out", str(tmp_path / "x")]
    assert CliRunner().invoke(app, asked).exit_code == 1
    assert not (tmp_path / "x").exists()
    more = ga2clip.teach(bundle, {"bab": [broken, clips["green"][1]]}, tmp_path / "more")
    assert len(open_bundle(more).card.taught.examples) == 3
    again = ga2clip.teach(bundle, shown, tmp_path / "again")  # taught before: nothing failed
    assert contents(again) == contents(bundle)
    assert "all of these clips are examples already" in caplog.text


def test_refusals(handmade, clips, tmp_path) -> None:
    red, green = clips["red"][0], clips["green"][0]
    taught = ga2clip.teach(handmade, {"ab": [red]}, tmp_path / "taught")
    cases = [
        (lambda: ga2clip.teach(handmade, {"ab": [red]}, taught), "exists"),
        (lambda: ga2clip.teach(handmade, {"ab": [red]}), "no folder to write to"),
        (lambda: ga2clip.teach(handmade, {}, tmp_path / "x"), "there are no examples"),
        (lambda: ga2clip.teach(handmade, {"ab": str(red)}, tmp_path / "x"), "list of files"),
        (
            lambda: ga2clip.teach(handmade, {"ab": [red], "bab": [red]}, tmp_path / "x"),
            "of 'ab' and of 'bab'",
        ),
        (lambda: ga2clip.teach(taught, {"abc": [red]}, tmp_path / "x"), "of 'ab' and of 'abc'"),
        (lambda: ga2clip.teach(taught, {}, tmp_path / "x", against={"ab": [red]}), "what is not 'ab'"),
        (lambda: ga2clip.teach(handmade, {}, tmp_path / "x", against={"abx": [red]}), "unknown class 'abx'"),
        (
            lambda: ga2clip.teach(handmade, {"a\u200bb": [red], "ab": [green]}, tmp_path / "x"),
            "can't be seen",
        ),
        (lambda: ga2clip.teach(handmade, {"none\u200b of these": [red]}, tmp_path / "x"), "can't be seen"),
        (lambda: ga2clip.teach(handmade, {"ab": [red], "bab": []}, tmp_path / "x"), "no clips of 'bab'"),
        (lambda: ga2clip.teach(handmade, {"ab": [tmp_path / "gone.mp4"]}, tmp_path / "x"), "cannot read"),
        (lambda: ga2clip.teach(taught, out=tmp_path / "x", forget=["abd"]), "unknown taught class 'abd'"),
        (lambda: ga2clip.teach(handmade, out=tmp_path / "x", forget=["ab"]), "nothing to forget"),
        (lambda: ga2clip.teach(handmade, out=tmp_path / "x", forget="ab"), "list of class names"),
        (lambda: ga2clip.teach(taught, out=tmp_path / "x", forget=[5]), "list of class names"),
        (lambda: ga2clip.teach(taught, out=tmp_path / "x", forget=["\udcff"]), "unknown taught class"),
        (lambda: ga2clip.teach(handmade, {5: [red]}, tmp_path / "x"), "int, not a string"),
        (lambda: ga2clip.teach(handmade, {"a\udcff": [red]}, tmp_path / "x"), "not Unicode text"),
        (lambda: ga2clip.teach(handmade, {"   ": [red]}, tmp_path / "x"), "is empty"),
    ]
    for act, message in cases:
        with pytest.raises(UserError, match=message):
            act()
    assert [path.name for path in tmp_path.iterdir()] == ["taught"]


def test_what_was_taught_is_checked_when_it_is_read(handmade, clips, tmp_path) -> None:
    """A card that does not fit, another number of features, and, for older versions, another schema version."""
    taught = ga2clip.teach(handmade, {"bab": clips["green"][:2]}, tmp_path / "taught")
    card, text = json.loads((taught / "bundle.json").read_text()), (taught / "bundle.json").read_text()
    untaught = json.loads((handmade / "bundle.json").read_text())
    assert card["schema_version"] > untaught["schema_version"]

    def refused(change: dict, message: str) -> None:
        (taught / "bundle.json").write_text(json.dumps({**card, **change}))
        with pytest.raises(UserError, match=message):
            open_bundle(taught).verify()

    refused({"schema_version": card["schema_version"] - 1}, "schema version")
    refused({"taught": None}, "schema version")
    refused({"taught": {**card["taught"], "added": ["ab"]}}, "last of 'classes'")
    strange = [{**card["taught"]["examples"][0], "label": "zz"}] * 2
    refused({"taught": {**card["taught"], "examples": strange}}, "no class")
    refused({"taught": {**card["taught"], "examples": card["taught"]["examples"][:1]}}, "taught.npz")
    (taught / "bundle.json").write_text(text)
    open_bundle(taught).verify()


def test_warnings(handmade, clips, caplog) -> None:
    with opened(handmade) as plain, caplog.at_level(logging.WARNING):
        plain.predict(clips["red"][0], classes=["bb"])
        plain.predict(clips["red"][1], classes=["bb"])
        assert caplog.text.count("'bb' is the only class") == 1
        caplog.clear()
        alike = {"bb": ["b c"], "cc": ["b c"]}
        plain.predict(clips["red"][0], classes=alike)
        assert "their texts mean the same to it: bb = cc" in caplog.text
    caplog.clear()
    with opened(Path(ga2clip.__file__).parent / "assets/tiny/bundle") as plain:
        plain.teach({"zorbing uphill": clips["red"][:1], "riding a bike": clips["green"][:1]})
        assert "the backbone has never seen these words, they mean nothing to it: zorbing" in caplog.text


def test_the_result_of_a_signed_bundle_is_unsigned_and_says_so(handmade, clips, tmp_path, caplog) -> None:
    signed = tmp_path / "signed"
    shutil.copytree(handmade, signed)
    (signed / SIGNATURE).write_bytes(b"x" * 64)
    with caplog.at_level(logging.WARNING):
        out = ga2clip.teach(signed, {"ab": clips["red"][:1]}, tmp_path / "out")
    assert not (out / SIGNATURE).exists()
    assert "the new one is not" in caplog.text


def test_command_line(handmade, clips, tmp_path, caplog) -> None:
    """Class folders, a list, and a named class give the same bundle; without torch."""
    examples = tmp_path / "examples"
    for name, colour in (("B_A_B", "green"), (NONE_LABEL, "grey"), ("Ab", "red")):
        (examples / name).mkdir(parents=True)
        (examples / name / "x.mp4").write_bytes(clips[colour][0].read_bytes())
    table = examples / "list.csv"
    table.write_text(f"path,label\nB_A_B/x.mp4,b a b\n{NONE_LABEL}/x.mp4,{NONE_LABEL}\nAb/x.mp4,ab\n")
    without_torch = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'open_clip', 'onnx'): sys.modules[name] = None\n"
        "from ga2clip_cli.app import app; app()"
    )
    done = subprocess.run(
        [sys.executable, "-c", without_torch, "teach", handmade, examples, "--out", tmp_path / "folders"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "3 examples of 3 classes, 1 of them new" in done.stderr
    run = CliRunner()
    steps = [
        (handmade, table, "--out", tmp_path / "list"),
        (handmade, "--class", "b a b", clips["green"][0], "--out", tmp_path / "1"),
        (tmp_path / "1", "--class", NONE_LABEL, clips["grey"][0], "--out", tmp_path / "2"),
        (tmp_path / "2", "--class", "ab", examples / "Ab", "--out", tmp_path / "3"),
        (tmp_path / "3", "--not-class", "ab", clips["blue"][0], "--out", tmp_path / "4"),
        (tmp_path / "4", "--forget", "ab", "--out", tmp_path / "5"),
    ]
    tested = Clip(path="Ab/x.mp4", label="ab", split="test", frames=6, duration=1.2)
    Manifest("folder", examples, ("ab",), (), (tested,)).write()
    for step in steps:
        result = run.invoke(app, ["teach", *map(str, step)])
        assert result.exit_code == 0, result.output
    warned = [m for m in caplog.messages if "test clips" in m]
    assert [message.partition(":")[0] for message in warned] == [
        f"{n} example clips are test clips of their dataset, such as {examples / 'Ab/x.mp4'}"
        for n in ("1 of 3", "1 of 1")  # the list, and the folder of that class
    ]
    assert contents(tmp_path / "folders") == contents(tmp_path / "list") == contents(tmp_path / "3")
    assert contents(tmp_path / "5") == contents(tmp_path / "2")
    for wrong in (
        (handmade, "--out", tmp_path / "x"),
        (handmade, clips["red"][0], "--out", tmp_path / "x"),
        (handmade, tmp_path / "nothing", "--out", tmp_path / "x"),
        (handmade, "--class", "ab", "--not-class", "abc", clips["red"][0], "--out", tmp_path / "x"),
    ):
        assert run.invoke(app, ["teach", *map(str, wrong)]).exit_code != 0
    for option in ("--class", "--not-class"):
        for name in ("", "   ", "\u200b"):
            wrong = ("teach", handmade, option, name, clips["red"][0], "--out", tmp_path / "x")
            refused = run.invoke(app, list(map(str, wrong)))
            assert isinstance(refused.exception, UserError)
            assert "is empty" in refused.exception.message
            assert refused.exception.hint == "write the name of the class, such as 'juggling'"
    assert not (tmp_path / "x").exists()
