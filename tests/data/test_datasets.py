"""What the file of a dataset declares, in this package and in somebody else's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ga2clip.data.declaration import Dataset
from ga2clip.data.listing import scan
from ga2clip.data.manifest import Manifest
from ga2clip.registry import DATASETS

BUILT_IN = (
    *("csv", "folder", "hmdb51", "kinetics400", "kinetics600", "ssv2", "stickfigures"),
    *("stickfigures-narrow", "stickfigures-order", "stickfigures-other", "ucf101"),
)
RAW_NAMES = {
    "ucf101": ("ApplyEyeMakeup", "YoYo"),
    "hmdb51": ("brush_hair", "wave"),
    "ssv2": ("Holding something", "Pushing something from left to right"),
    "kinetics400": ("abseiling", "air drumming"),
    "kinetics600": ("abseiling", "air drumming"),
    "folder": ("JumpRope", "doing_yoga"),
    "csv": ("jumping a rope", "yoga"),
}
DOCS = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_declaration_has_its_files_name_and_one_way_to_its_clips(name: str) -> None:
    declared = DATASETS[name]
    assert isinstance(declared, Dataset)
    assert declared.name == name
    assert (declared.read is None) != (declared.generate is None)


def test_names_are_listed_without_importing_a_declaration() -> None:
    code = (
        "import sys; from ga2clip.registry import DATASETS\n"
        f"assert set(DATASETS.names()) >= {set(BUILT_IN)!r}\n"
        "assert not {'torch', 'numpy', 'av', 'ga2clip.data.datasets.ucf101'} & set(sys.modules)\n"
        "for name in DATASETS.names(): DATASETS[name]\n"
        "assert not {'torch', 'cv2'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", RAW_NAMES)
def test_raw_labels_stand_beside_the_readable_names(name: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(name)
    list_file = root.parent / "list.csv" if name == "csv" else None
    listing = scan(DATASETS[name], root, list_file=list_file)
    assert listing.raw_names == RAW_NAMES[name]
    assert len(listing.classes) == len(listing.raw_names)


def test_a_manifest_keeps_raw_labels_and_one_without_them_is_read(tmp_path: Path) -> None:
    written = Manifest("mine", tmp_path, ("jump rope", "run"), (), (), raw_names=("JumpRope", "Run"))
    path = written.write()
    assert Manifest.read(tmp_path) == written
    older = path.read_text().replace('"raw_names"', '"other"')
    path.write_text(older)
    assert Manifest.read(tmp_path).raw_names == ()


def test_the_documented_dataset_in_a_package_of_its_own(tmp_path: Path, make_video) -> None:
    site, root = tmp_path / "site", tmp_path / "clips"
    (site / "toy-1.0.dist-info").mkdir(parents=True)
    (site / "toy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (site / "toy-1.0.dist-info" / "entry_points.txt").write_text(
        "[ga2clip.datasets]\ntoy-clips = toy_clips\n"
    )
    (site / "toy_clips.py").write_text(DOCS.read_text().split("```python\n")[1].split("```")[0])
    for number, name in enumerate(("Rope-test-1", "Rope-train-2", "ToRun-test-1", "ToRun-train-2")):
        make_video(root / f"{name}.mp4", seed=number)
    code = (
        "import sys; from ga2clip.data import prepare as p; p._ANCHORS = 0\n"
        "from ga2clip_cli.app import app\n"
        "app(['prepare', '--dataset', 'toy-clips', '--root', sys.argv[1]], standalone_mode=False)\n"
        "from ga2clip.training.configure import configure; assert configure(dataset='toy-clips') is not None\n"
        "app(['prepare', '--help'])"
    )
    places = os.pathsep.join((str(site), os.environ.get("PYTHONPATH", "")))
    answer = subprocess.run(
        [sys.executable, "-c", code, str(root)],
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "toy-clips: 2 classes" in answer.stdout
    assert "toy-clips or ucf101" in " ".join(answer.stdout.split())
    made = Manifest.read(root)
    assert (made.classes, made.raw_names) == (("rope", "to run"), ("Rope", "ToRun"))
    assert [clip.split for clip in made.clips] == ["test", "train"] * 2
    assert made.meta["flip"] is False
