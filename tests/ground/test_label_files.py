"""Class names and clip lists in the forms in which people have them: read right, or refused with the reason."""

from itertools import pairwise
from pathlib import Path

import pytest

from ga2clip.data.datasets import hmdb51, ucf101
from ga2clip.errors import UserError
from ga2clip.label_files import read_clip_list, read_labels
from ga2clip.labels import read_class_list


def write(tmp_path: Path, text: str, name: str = "names.txt") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "riding a bike\nbalancing a ball\n",
        "id,name\n0,riding a bike\n1,balancing a ball\n",
        "name,id\nbalancing a ball,1\nriding a bike,0\n",
        ",name\n0,riding a bike\n1,balancing a ball\n",
        "\ufeffid;name\r\n1;balancing a ball\r\n0;riding a bike\r\n",
        "0,riding a bike\n1,balancing a ball\n",
        "riding a bike,0\nbalancing a ball,1\n",
        "1\tbalancing a ball\n0\triding a bike",
        'index,label\n0,"riding a bike"\n1,"balancing a ball"\n',
        "1 riding a bike\n2 balancing a ball\n",
        "2 balancing a ball\n1 riding a bike\n",
        "0: riding a bike\n1: balancing a ball\n",
        "1. riding a bike\n2. balancing a ball\n",
        '"riding a bike"\n"balancing a ball"\n',
        "name\nriding a bike\nbalancing a ball\n",
        '{"riding a bike": "0", "balancing a ball": "1"}',
        '{"balancing a ball": 1, "\\"riding a bike\\"": 0}',
        '{"0": "riding a bike", "1": "balancing a ball"}',
        '["riding a bike", "balancing a ball"]',
        '[\n"riding a bike",\n"balancing a ball"\n]\n',
        '[ "riding a bike", "balancing a ball"]',
        '{\n  "0": "riding a bike",\n  "1": "balancing a ball"\n}\n',
        "riding a bike 0\nbalancing a ball 1\n",
        "riding a bike: 1\nbalancing a ball: 2\n",
        "riding a bike (0)\nbalancing a ball (1)\n",
        "0 - riding a bike\n1 - balancing a ball\n",
        "0|riding a bike\n1|balancing a ball\n",
        "0=riding a bike\n1=balancing a ball\n",
        "[0] riding a bike\n[1] balancing a ball\n",
        "001.riding a bike\n002.balancing a ball\n",
        "000_riding a bike\n001_balancing a ball\n",
        "c000 riding a bike\nc001 balancing a ball\n",
        "1 001.riding a bike\n2 002.balancing a ball\n",
        "riding a bike -> 0\nbalancing a ball -> 1\n",
        "riding a bike [0]\nbalancing a ball [1]\n",
        "riding a bike_0\nbalancing a ball_1\n",
        "class 0: riding a bike\nclass 1: balancing a ball\n",
        "Class_0 riding a bike\nClass_1 balancing a ball\n",
        "names\n0 riding a bike\n1 balancing a ball\n",
        "A1. riding a bike\nA2. balancing a ball\n",
        "riding a bike,\nbalancing a ball,\n",
        '"riding a bike",\n"balancing a ball"\n',
        "'riding a bike',\n'balancing a ball',\n",
        "- riding a bike\n- balancing a ball\n",
        "* riding a bike\n* balancing a ball\n",
        "names:\n  0: riding a bike\n  1: 'balancing a ball'\n",
        "classes:\n- riding a bike\n- balancing a ball\n",
        '"name"\n"riding a bike"\n"balancing a ball"\n',
        "names\nriding a bike\nbalancing a ball\n",
        'item {\n  name: "riding a bike"\n  id: 1\n}\nitem {\n  name: "balancing a ball"\n  id: 2\n}\n',
        'label { label_id: 2 name: "balancing a ball" }\nlabel { label_id: 1 name: "riding a bike" label_type: MOVE }',
        "item { name: '/m/1' id: 0 display_name: 'riding a bike' }item { id: 1 name: 'balancing a ball' }",
    ],
)
def test_every_form_gives_the_same_names_in_the_order_of_their_numbers(tmp_path: Path, text: str) -> None:
    assert read_class_list(write(tmp_path, text)) == ["riding a bike", "balancing a ball"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1 ApplyEyeMakeup\n2 ApplyLipstick\n", ["ApplyEyeMakeup", "ApplyLipstick"]),
        ("rock, paper, scissors\nhurling (sport)\n", ["rock, paper, scissors", "hurling (sport)"]),
        ('id,name\n0,"rock, paper, scissors"\n1,run', ["rock, paper, scissors", "run"]),
        ("3 point shot\n", ["3 point shot"]),
        ("100 m sprint\nrun\n", ["100 m sprint", "run"]),
        ("name\n2 people dancing\n2 people boxing\n", ["2 people dancing", "2 people boxing"]),
        ('5" nail\ndoing "the worm"\n', ['5" nail', 'doing "the worm"']),
        ("front crawl 1\nfront crawl 2\n", ["front crawl 1", "front crawl 2"]),
        ("front crawl 2\nyo-yo\n3D printing\n", ["front crawl 2", "yo-yo", "3D printing"]),
        ("lap 1 start\nlap 2 end\n", ["lap 1 start", "lap 2 end"]),
        ("0 holding <x>\n1 a_\n", ["holding <x>", "a_"]),
        ("name\n- a\na, b\n", ["- a", "a, b"]),
        ('name\n"rock, paper, scissors"\n', ["rock, paper, scissors"]),
        ('"rock, paper, scissors"\n', ["rock, paper, scissors"]),
        ("[Something] being deflected from [something]\n", ["[Something] being deflected from [something]"]),
        ("holding {something}\nhugging\n", ["holding {something}", "hugging"]),
        ("走る 🏃‍♀️\ncafé\u00a0noir\n", ["走る 🏃‍♀️", "café\u00a0noir"]),
        ("one\u2028two\n", None),
    ],
)
def test_names_that_look_like_something_else(tmp_path: Path, text: str, names: list[str] | None) -> None:
    path = write(tmp_path, text)
    if names is None:
        with pytest.raises(UserError, match="control characters"):
            read_class_list(path)
    else:
        assert read_class_list(path) == names


# Kinds of names that the datasets of the field have: templates, commas, apostrophes, slashes, hyphens, brackets.
UNUSUAL = [
    "[Something] colliding with [something] and both are being deflected",
    "Putting [something], [something] and [something] on the table",
    "Putting [something] that can't roll onto a slanted surface, so it slides down",
    "Trying but failing to attach [something] to [something] because it doesn't stick",
    "Stuffing [something] into [something]",
    "Pretending or failing to wipe [something] off of [something]",
    "massaging person's head",
    "passing American football (not in game)",
    "hurling (sport)",
    "bend/bow (at the waist)",
    "rock-paper-scissors",
    "doing nothing",
    "yo-yo",
    "front crawl 2",
    "800 m run",
    "Clean & Jerk",
    "TVShow",
]


@pytest.mark.parametrize(
    "names",
    [
        list(ucf101._NAMES),
        list(ucf101._NAMES.values()),
        list(hmdb51._NAMES),
        list(hmdb51._NAMES.values()),
        UNUSUAL,
    ],
)
def test_names_of_datasets_one_a_line_are_read_as_they_are(tmp_path: Path, names: list[str]) -> None:
    assert read_class_list(write(tmp_path, "\n".join(names))) == names
    for first, second in pairwise(names):
        if first.count(",") and first.count(",") == second.count(","):
            continue  # two columns, or names with commas
        assert read_class_list(write(tmp_path, f"{first}\n{second}\n")) == [first, second]
    for name in names:
        if ", " not in name:  # alone in a file that may also be a list of several
            assert read_class_list(write(tmp_path, name)) == [name]
        assert read_class_list(write(tmp_path, f"name\n{name}\n")) == [name]


def test_ids_keep_their_numbers_and_places_count_from_0(tmp_path: Path) -> None:
    halves = read_labels(write(tmp_path, "id,name\n26,run\n7,sit\n"))
    assert [(label.id, label.name, label.line) for label in halves] == [(7, "sit", 3), (26, "run", 2)]
    assert [label.id for label in read_labels(write(tmp_path, "# mine\nrun\n\nsit\n"))] == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("riding a bike\tRad fahren\nsitting\tSitzen\n", "line 1: several columns"),
        ("biking,velo\nswim,nager\n", "line 1: several columns"),
        ("run,swim,jump\n", "line 1: several columns"),
        ("label,youtube_id,time_start\nrun,abc,1\n", "line 1: several columns"),
        ("0,run\nsit\n2,jump\n", "line 2: expected the columns id,name"),
        ("id,name\n0,rock, paper\n1,run\n", "line 2: expected the columns id,name"),
        ("id,name\nzero,run\n1,sit\n", "line 2: expected the columns id,name"),
        ("id,name\n0,run\n0,sit\n", "id 0 occurs twice"),
        ("id,name\n0,run\n1,Run\n", "on line 2 and again on line 3"),
        ("id,name\n0,\n", "line 2: the name is empty"),
        ("id,name\n", "holds no class name"),
        ("2 people dancing\n2 people boxing\n", "don't count up"),
        ("label\nrun\n", "is 'label' a header or a class"),
        ("0\n1\n2\n", "numbers, not names"),
        ("classes\nrun\n", "is 'classes' a header or a class"),
        ("run 5\nsit 9\n", "every line ends with a number"),
        ("brush_hair (107)\ncartwheel (98)\n", "every line ends with a number"),
        ("1 person walking\n", "is '1' the class's id or part of its name"),
        ("0-run\n1-sit\n", "every line begins with a number"),
        ("0 run\n1 sit\nstand\n", "line 3: no number"),
        ("run 0\nsit\nstand 2\n", "line 2: no number"),
        ("run, walk, riding a bike\n", "line 1: several columns"),
        ("run, laufen\nsit, sitzen\n", "line 1: several columns"),
        ("run|walk\n", "line 1: this looks like markup"),
        ("run\n- sit\n", "line 2: this looks like markup"),
        ("run\nsit,\nstand\n", "line 2: this looks like markup"),
        ("run\n{\n", "line 2: this looks like markup"),
        ("<html><body>404</body></html>\n", "line 1: this looks like markup"),
        ("CLASSES = [\n'run',\n'sit',\n]\n", "line 1: this looks like markup"),
        ("CLASSES = ['run']\n", "line 1: this looks like markup"),
        ("nc: 2\nnames:\n  0: run\n  1: sit\n", "line 2: this looks like markup"),
        ("\n[classes]\nrun\n", "line 2: this looks like markup"),
        ("// names\nrun\n", "line 1: this looks like markup"),
        ("| 0 | run |\n| 1 | sit |\n", "line 1: this looks like markup"),
        ("run/1.mp4\nsit/2.mp4\n", "line 1: this looks like markup"),
        ("run/1.mp4 0\nsit/2.mp4 1\n", "line 1: this looks like markup"),
        ("version https://git-lfs.github.com/spec/v1\nsize 12\n", "line 1: this looks like markup"),
        ("404: Not Found\n", "is '404' the class's id"),
        ("a) run\nb) sit\n", "line 1: this looks like markup"),
        ("\n[x] run\n[ ] sit\n", "line 2: this looks like markup"),
        ("“run”\n“sit”\n", "line 1: this looks like markup"),
        ("#0 run\n#1 sit\n", "holds no class name"),
        ("label: run\nlabel: sit\n", "line 1: this looks like markup"),
        ('item {\n  name: "run"\n}\n', "line 1: expected braces"),
        ('item { name: "run" id: 1 }\nitem { name: "sit" id: ', "line 2: expected braces"),
        ('["1", "2"]', "numbers, not names"),
        ('{"run": 0, "run": 1}', "'run' occurs twice"),
        ('{"id2label": {"0": "run"}}', "entry 1"),
        ('[{"id": "1", "template": "Holding [something]"}]', "entry 1"),
        ("{", "not valid JSON"),
        ("['run',\n 'sit']", "not valid JSON"),
        ('["run\\u0007"]', "control characters"),
        ('["run\\ud800"]', "control characters"),
        ("[" * 100_000, "not valid JSON"),
        ("run\0sit", "line 1: a control character"),
        ('"run\nsit\n', "line 1: unexpected end"),
    ],
)
def test_what_is_no_list_of_names_is_refused(tmp_path: Path, text: str, message: str) -> None:
    name = "names.json" if text.startswith("[") else "names.txt"
    with pytest.raises(UserError, match=message):
        read_class_list(write(tmp_path, text, name))


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("run/v_1.mp4 3", ("run/v_1.mp4", 3)),
        ("run/v_1.mp4,3", ("run/v_1.mp4", 3)),
        ("run/v_1.mp4, 3", ("run/v_1.mp4", 3)),
        ("run/v_1.mp4\t3", ("run/v_1.mp4", 3)),
        ("a b/clip 0, take 1.mp4\t0", ("a b/clip 0, take 1.mp4", 0)),
        ("a b/clip 0, take 1.mp4 0", ("a b/clip 0, take 1.mp4", 0)),
        ('"a b/clip 0, take 1.mp4",0', ("a b/clip 0, take 1.mp4", 0)),
        ('"a b/take 3" 0', ("a b/take 3", 0)),
        ("#a [x] & b;1_wave.avi 0 ", ("#a [x] & b;1_wave.avi", 0)),
        ("12345 6", ("12345", 6)),
        ("\ufeffpath,label\nrun/v_1.mp4,3", ("run/v_1.mp4", 3)),
    ],
)
def test_lines_of_clip_lists(tmp_path: Path, line: str, entry: tuple[str, int]) -> None:
    assert read_clip_list(write(tmp_path, line + "\n\n")) == [entry]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("v.mp4 0 1", "more than one number"),
        ("v.mp4,0,1", "more than one number"),
        ("v.mp4\t0\t1", "more than one number"),
        ('"v.mp4" 0 1', "more than one number"),
        ("frames/v_1 163 1", "more than one number"),
        ("v.mp4 zero", "line 2: expected 'path label'"),
        ("v.mp4 -1", "line 2: expected 'path label'"),
        ("v.mp4", "line 2: expected 'path label'"),
        (",0", "line 2: expected 'path label'"),
        ('""', "line 2: expected 'path label'"),
        ('""\t""', "line 2: expected 'path label'"),
        ('"v.mp4 0', "line 2: unexpected end"),
        ("v.mp4 " + "9" * 5000, "line 2: expected 'path label'"),
    ],
)
def test_lines_that_are_no_clip_with_one_label_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_clip_list(write(tmp_path, f"first.mp4 0\n{line}\n"))
