"""Sweeps: which runs a file means, what is refused, and the time that they are said to take."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ga2clip.data.manifest import Manifest
from ga2clip.data.protocols import Task, load_task
from ga2clip.errors import UserError
from ga2clip.evaluation.evaluate import evaluate_run
from ga2clip.experiments import jobs
from ga2clip.experiments.compare import compare, is_measured, measurements
from ga2clip.experiments.jobs import Job, RunsFailedError, describe_jobs, run_jobs
from ga2clip.experiments.sweep import read_sweep
from ga2clip.run import load_run
from ga2clip.run_files import write_settings
from ga2clip.settings import Settings
from ga2clip.training import expected, train
from ga2clip.training.estimate import Cost
from ga2clip.training.expected import Expected, Pace, expected_time, measure_pace
from ga2clip.training.summary import duration
from ga2clip_cli.sweep import sweep as sweep_command
from tests.experiments.test_compare import Make
from tests.experiments.test_compare import make as make
from tests.small_training import dataset as dataset
from tests.small_training import fewer_clips as fewer_clips
from tests.small_training import settings as settings

FILE = """
methods = ["vpt", "coop"]
seeds = "1..2"
[datasets]
stickfigures = "elsewhere"
[settings]
training.epochs = 3
data.frames = 4
[vary]
training.lr = [0.01, 0.02]
parts.lora.rank = [2]
"""


def sweep(folder: Path, text: str) -> Path:
    path = folder / "season.toml"
    path.write_text(text)
    return path


def test_a_file_means_every_combination_once(tmp_path: Path) -> None:
    asked = read_sweep(sweep(tmp_path, FILE), tmp_path / "out")
    assert [str(job.folder.relative_to(tmp_path / "out")) for job in asked.jobs] == [
        f"stickfigures-{method}-lr={lr}-rank=2/seed-{seed}"
        for seed in (1, 2)
        for method in ("vpt", "coop")
        for lr in ("0.01", "0.02")
    ]
    settings = asked.jobs[-1].settings
    assert (settings.method.name, settings.training.lr, settings.training.seed) == ("coop", 0.02, 2)
    assert (settings.training.epochs, settings.data.frames) == (3, 4)
    assert settings.data.root == str(Path("elsewhere").absolute())
    assert settings.parts == {"lora": {"rank": 2}}
    plain = read_sweep(sweep(tmp_path, "methods = ['vpt']\ndatasets = ['stickfigures']\nseeds = [3]"))
    assert [str(job.folder) for job in plain.jobs] == ["runs/season/stickfigures-vpt/seed-3"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("methods = ['vpt']", "datasets"),
        ("methods = ['vtp']\ndatasets = ['stickfigures']", "unknown method 'vtp'"),
        ("methods = ['vpt']\ndatasets = ['stickfigure']", "unknown dataset 'stickfigure'"),
        ("methods = ['vpt']\ndatasets = ['stickfigures']\nsedes = '1'", "unknown setting 'sedes'"),
        ("methods = ['vpt']\ndatasets = ['stickfigures']\n[vary]\ntraining.lrr = [1]", "training.lrr"),
        ("methods = ['vpt']\ndatasets = ['stickfigures']\n[vary]\ntraining.lr = 1", "no list of values"),
        *((f"methods = ['vpt']\ndatasets = {{stickfigures = 'a'}}\n[{table}]\n{setting} = [1]",
           f"{table}.{setting} is what '{own}' says")
          for table in ("settings", "vary")
          for setting, own in (("training.seed", "seeds"), ("method.name", "methods"),
                               ("data.dataset", "datasets"), ("data.root", "datasets"))),
        ("methods = ['vpt', 'vpt']\ndatasets = ['stickfigures']", "the same folder"),
        ("methods = ['vpt']\ndatasets = ['stickfigures']\nseeds = '1..900'\n[vary]\ntraining.lr = "
         + str([n + 1 for n in range(20)]), "18,000 runs"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_before_anything_is_trained(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said.replace("(", "\\(")):
        read_sweep(sweep(tmp_path, text), tmp_path / "out")


def test_another_training_in_a_folder_is_refused_before_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Settings()
    taken = tmp_path / "second"
    taken.mkdir()
    write_settings(taken, wanted.updated({"training": {"lr": 0.5}}, "the test"))
    monkeypatch.setattr(jobs, "train_once", lambda *_, **__: pytest.fail("trained"))
    both = [Job(tmp_path / "first", wanted), Job(taken, wanted)]
    for act in (run_jobs, describe_jobs):
        with pytest.raises(UserError, match=r"training\.lr differs"):
            act(both)


def test_one_failed_run_does_not_keep_the_others_from_being_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def do(job: Job, *_: object) -> None:
        if job.folder.name == "first":
            raise UserError("no memory", "take less")
        done.append(job.folder.name)

    monkeypatch.setattr(jobs, "_do", do)
    monkeypatch.setattr(jobs, "_measured", lambda found: [job.folder.name for job in found])
    with pytest.raises(RunsFailedError, match=r"1 of 2 runs failed, .*first with: no memory") as caught:
        run_jobs([Job(tmp_path / name, Settings()) for name in ("first", "second")])
    assert done == list(caught.value.measured) == ["second"]


def test_what_is_done_has_its_table_though_another_run_failed(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = measurements([load_run(make("done", {"test": [1, 1, 1, 0]}))])

    def run_jobs(*_: object, **__: object) -> None:
        raise RunsFailedError("1 of 2 runs failed", "take less", done)

    monkeypatch.setattr(jobs, "run_jobs", run_jobs)
    file = sweep(tmp_path, "methods = ['vpt']\ndatasets = ['stickfigures']")
    with pytest.raises(RunsFailedError):
        sweep_command(file, tmp_path / "out", form="markdown")
    table = capsys.readouterr().out
    assert "| ga2 | 1 | 75.0 [30.1, 95.4] |" in table  # Wilson's interval of 3 of 4
    assert (tmp_path / "out/table.md").read_text() == table


def test_the_time_counts_what_is_left(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainings whose updates take as long as another's are measured once: of both seeds, rates, and lengths. Those of
    another protocol have twice the classes, and of another batch more clips."""
    asked: list[tuple[int, int]] = []

    def measure(settings: Settings, task: Task, **_: object) -> Pace:
        asked.append((len(task.classes), settings.training.batch_size))
        return Pace(Cost(1.0, 0.25, 0), 0.1, 0.5, encodes_once=False, processes=1)

    monkeypatch.setattr(expected, "measure_pace", measure)
    grid = [
        Job(tmp_path / f"{number}", settings(training=training, data=data))
        for number, (training, data) in enumerate(
            (
                ({"lr": 0.1, "seed": 1, "epochs": 2}, {}),
                ({"lr": 0.2, "seed": 2, "epochs": 4}, {}),
                ({"batch_size": 2}, {}),
                ({"epochs": 2}, {"protocol": "few-shot"}),
            )
        )
    ]
    lines = describe_jobs(grid, device="cpu").splitlines()
    classes = [len(load_task(grid[number].settings)[1].classes) for number in (0, 3)]
    batch = grid[0].settings.training.batch_size
    assert asked == [(classes[0], batch), (classes[0], 2), (classes[1], batch)]
    assert classes[1] == 2 * classes[0]
    # 8 clips and 3 anchors that take ½ s to read, 2 updates an epoch, of 1 s each; 8 test clips of 0.6 s.
    assert lines[0].split("  ")[-1] == f"about {duration(2 * (2 + 5.5) + 4.8)}"
    assert lines[1].split("  ")[-1] == f"about {duration(4 * (2 + 5.5) + 4.8)}"


def time_of(settings: Settings) -> Expected:
    task = load_task(settings)[1]
    return expected_time(settings, task, measure_pace(settings, task, device="cpu"))


def test_the_expected_time_is_of_the_chosen_backbone_and_the_clips_that_are_there(settings) -> None:
    small = settings()
    found = time_of(small)
    assert found.reading
    assert 0 < found.training < 60
    assert 0 < found.testing < 30


@pytest.mark.parametrize(
    ("method", "training"),
    [
        # 2 epochs of 2 updates, of 1 s each, and twice 8 clips and 3 anchors that take ½ s to read.
        ("ga2", 4 * 1.0 + 2 * 11 * 0.5),
        # The vision tower does not train: 8 clips are read and encoded once, and an update is its texts.
        ("coop", 4 * 0.25 + 8 * (0.1 + 0.5)),
    ],
)
def test_the_expected_time_adds_up(
    settings, monkeypatch: pytest.MonkeyPatch, method: str, training: float
) -> None:
    monkeypatch.setattr(expected, "estimate", lambda updater: Cost(1.0, 0.25, 0))
    monkeypatch.setattr(expected, "_forward_seconds", lambda *_: 0.1)
    monkeypatch.setattr(expected, "_read_seconds", lambda *_: 0.5)
    small = settings(method)
    found = time_of(small)
    assert found.training == pytest.approx(training)
    assert found.testing == pytest.approx(8 * (0.1 + 0.5))


def test_a_measurement_of_other_labels_than_now_counts_as_none(
    settings: Callable[..., Settings],
    fewer_clips: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As after a test clip was put into another class: `report` and `sweep` measure again, `compare` says so."""
    wanted = settings("zero-shot", data={"root": str(fewer_clips)})
    run = train.train(wanted, tmp_path / "run", device="cpu", progress=False)
    evaluate_run(run, device="cpu", progress=False, write=True)
    assert is_measured(load_run(run))
    manifest = Manifest.read(fewer_clips)
    other = {"waving a flag": "kicking a ball"}
    clips = [
        replace(clip, label=other.get(str(clip.label), clip.label)) if clip.path == "0_3.mp4" else clip
        for clip in manifest.clips
    ]
    replace(manifest, clips=tuple(clips)).write()
    assert not is_measured(load_run(run))
    compare([run])
    said = f"the dataset has changed since {run} was measured; to measure as it is now: ga2clip eval {run}"
    assert said in caplog.messages
    caplog.clear()
    evaluate_run(run, device="cpu", progress=False, write=True)
    assert is_measured(load_run(run))
    shutil.rmtree(fewer_clips)
    assert is_measured(load_run(run))  # nothing newer can be measured
    compare([run])
    assert not [message for message in caplog.messages if "dataset has changed" in message]
