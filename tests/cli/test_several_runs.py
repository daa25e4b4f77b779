"""Several runs as one question, as a user asks it: train seeds, measure, compare; and the list of all settings."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.small_training import write_dataset

SMALL = (
    *("--shots", "1", "--epochs", "1", "--frames", "2", "--batch-size", "8", "--device", "cpu"),
    *("--set", "method.text_length=2", "--set", "method.vision_length=2"),
)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, invoke) -> Callable[..., str]:
    """Runs a command that must succeed in a folder with prepared data and gives its stdout."""
    folder = tmp_path_factory.mktemp("several")

    def run(*words: str) -> str:
        code, out, err = invoke(folder, list(words))
        assert code == 0, err
        run.err = err  # type: ignore[attr-defined]
        return out

    run.folder = folder  # type: ignore[attr-defined]
    write_dataset(folder / "data/stickfigures")
    return run


@pytest.fixture(scope="module")
def runs(walk) -> list[str]:
    zero = walk("train", "--method", "zero-shot", "--out", "runs/zero", "--frames", "2").split()
    ivlp = walk("train", "--method", "ivlp", "--seeds", "1..2", "--out", "runs/ivlp", "--lr", "0.01", *SMALL)
    assert ivlp.split() == ["runs/ivlp/seed-1", "runs/ivlp/seed-2"]
    return [*zero, *ivlp.split()]


def test_seeds_are_trained_once_each(walk, runs: list[str]) -> None:
    settings = [(walk.folder / run / "settings.toml").read_text() for run in runs[1:]]
    assert all("lr = 0.01\n" in text and "batch_size = 8\n" in text for text in settings)
    assert ["seed = 1\n" in settings[0], "seed = 2\n" in settings[1]] == [True, True]
    before = (walk.folder / runs[1] / "prompts.safetensors").stat().st_mtime_ns
    walk("train", "--method", "ivlp", "--seeds", "1,2", "--out", "runs/ivlp", "--lr", "0.01", *SMALL)
    assert "runs/ivlp/seed-1 is finished and stays as it is" in walk.err
    assert (walk.folder / runs[1] / "prompts.safetensors").stat().st_mtime_ns == before


def test_seeds_of_another_training_are_refused(walk, runs: list[str], invoke) -> None:
    words = ["train", "--method", "ivlp", "--seeds", "2..3", "--out", "runs/ivlp", "--lr", "0.02", *SMALL]
    code, out, err = invoke(walk.folder, words)
    assert (code, out) == (1, "")
    assert "runs/ivlp/seed-2 holds another training: training.lr differs" in err
    assert not (walk.folder / "runs/ivlp/seed-3").exists()
    for wrong in (["--seed", "1", "--seeds", "1..2"], ["--resume", runs[1], "--seeds", "1..2"]):
        assert invoke(walk.folder, ["train", *wrong]).code == 2


def test_what_was_not_measured_is_not_compared(walk, runs: list[str], invoke) -> None:
    code, out, err = invoke(walk.folder, ["compare", *runs, "--eval", "nothing"])
    assert (code, out) == (1, "")
    assert f"hint: ga2clip eval {' '.join(runs)}" in err


def test_measured_runs_are_compared(walk, runs: list[str]) -> None:
    trees = json.loads(walk("eval", "runs/zero", "runs/ivlp", "--json"))
    assert [tree["run"] for tree in trees] == runs
    assert "against" not in trees[0]
    against = trees[1]["against"]
    assert against["run"] == "runs/zero"
    assert against["base"]["difference"] == pytest.approx(trees[1]["base"]["top1"] - trees[0]["base"]["top1"])
    assert 0 <= against["base"]["p"] <= 1
    low, high = trees[0]["base"]["top1_interval"]
    assert low <= trees[0]["base"]["top1"] <= high
    text = walk("compare", "runs/zero", "runs/ivlp", "--plot", "plot.png")
    assert "template a video of a person doing {}. | {}." in text
    assert "frames 2" in text
    rows = list(csv.DictReader(io.StringIO(walk("compare", "runs/zero", "runs/ivlp", "--format", "csv"))))
    shown = {(row["method"], row["set"]): float(row["value"]) for row in rows if not row["against"]}
    assert shown["ivlp", "base"] == pytest.approx((trees[1]["base"]["top1"] + trees[2]["base"]["top1"]) / 2)
    assert shown["zero-shot", "HM"] == pytest.approx(trees[0]["harmonic_mean"], abs=1e-6)
    assert Image.open(walk.folder / "plot.png").size[0] > 500
    assert walk("compare", *runs, "--format", "latex").startswith(r"\begin{tabular}")


def test_views_are_measured_beside_and_compared_by_name(walk, runs: list[str]) -> None:
    zero = walk.folder / "runs/zero/eval"
    walk("eval", "runs/zero")
    before = (zero / "stickfigures-base-to-novel/report.json").read_text()
    walk("eval", "runs/zero", "--views", "1x3")
    assert (zero / "stickfigures-base-to-novel/report.json").read_text() == before
    assert "views 1x3" in walk("compare", "runs/zero", "--eval", "stickfigures-base-to-novel-1x3")


def test_settings_are_listed_without_torch(process) -> None:
    heavy = ("torch", "open_clip", "onnxruntime", "numpy", "scipy", "av", "cv2", "PIL")
    code, out, err = process("settings", "training", without=heavy)
    assert code == 0, err
    assert "training.lr  (number > 0; default 0.002)" in out
    assert "data.frames" not in out
    page = process("settings", "--markdown", without=heavy).out
    root = Path(__file__).resolve().parents[2]
    assert (root / "docs/settings.md").read_text(encoding="utf-8").endswith(page)
    assert "did you mean 'training'" in process("settings", "trainig", without=heavy).err


def test_train_help_has_headings(ga2clip) -> None:
    out = ga2clip("train", "--help").out
    heads = [line for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert heads == ["Data:", "Method:", "Optimisation:", "Options:"]
    assert all(out.count(f"  --{name} ") == 1 for name in ("device", "batch-size", "lr", "workers", "seeds"))


def test_every_parameter_under_a_heading_exists() -> None:
    import inspect

    from ga2clip_cli.train import PANELS, train

    named = [name for names in PANELS.values() for name in names]
    assert len(set(named)) == len(named)
    assert set(named) <= set(inspect.signature(train).parameters)


def test_a_run_gets_its_page(walk, runs: list[str]) -> None:
    """Also one that was not measured yet; a second call writes the same page without measuring again."""
    run = runs[1]
    (page,) = walk("report", run).split()
    assert page == f"{run}/eval/stickfigures-base-to-novel/report.html"
    text = (walk.folder / page).read_text(encoding="utf-8")
    measured = json.loads((walk.folder / page).with_name("report.json").read_text())
    assert f"{100 * measured['novel']['top1']:.1f}" in text
    assert text.count("data:image/jpeg;base64,") > 1
    assert "no frames:" not in text
    assert "Not compared with zero-shot" not in text
    walk("report", run, "--out", "again.html")
    assert "measuring" not in walk.err
    assert (walk.folder / "again.html").read_text(encoding="utf-8") == text
    walk("eval", run, "--protocol", "all")
    (all_classes,) = walk("report", run, "--eval", "stickfigures-all-classes").split()
    assert "Not compared with zero-shot" not in (walk.folder / all_classes).read_text(encoding="utf-8")
    walk("report", runs[0], "--out", "zero.html")
    assert "the run is the untuned backbone itself" in (walk.folder / "zero.html").read_text()


SWEEP = """
methods = ["zero-shot", "ivlp"]
datasets = ["stickfigures"]
seeds = "1..2"
[settings]
training = {epochs = 1, batch_size = 8}
data = {shots = 1, frames = 2}
"""


@pytest.mark.slow
def test_a_sweep_goes_on_and_does_what_is_new(walk, invoke) -> None:
    file = walk.folder / "season.toml"
    file.write_text(SWEEP.replace("1..2", "1"))
    shown = walk("sweep", "season.toml", "--dry-run", "--device", "cpu")
    assert "runs/season/stickfigures-ivlp/seed-1       training and testing  about " in shown
    assert not (walk.folder / "runs/season").exists()
    table = walk("sweep", "season.toml", "--device", "cpu", "--format", "markdown")
    assert "| ivlp | zero-shot | novel |" in table
    assert (walk.folder / "runs/season/table.md").read_text() == table
    first = walk.folder / "runs/season/stickfigures-ivlp/seed-1/prompts.safetensors"
    before = first.stat().st_mtime_ns
    file.write_text(SWEEP)
    rows = list(
        csv.DictReader(io.StringIO(walk("sweep", "season.toml", "--device", "cpu", "--format", "csv")))
    )
    assert {row["method"]: row["seeds"] for row in rows if not row["against"]} == {
        "zero-shot": "2",
        "ivlp": "2",
    }
    assert first.stat().st_mtime_ns == before
    done = walk("sweep", "season.toml", "--dry-run").splitlines()
    assert [line.split()[1] for line in done[:-1]] == ["done"] * 4
    file.write_text(SWEEP.replace("epochs = 1", "epochs = 2"))
    code, out, err = invoke(walk.folder, ["sweep", "season.toml"])
    assert (code, out) == (1, "")
    assert "seed-1 holds another training: training.epochs differs" in err
