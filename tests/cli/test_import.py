"""A checkpoint in the published layout, made from recorded numbers, becomes a run that the other commands take."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).resolve().parents[1] / "parity" / "golden" / "ga2_reference_a.npz"
TORCH = ("torch", "torchvision", "open_clip", "safetensors", "onnx", "matplotlib")


@pytest.fixture
def checkpoint(empty: Path) -> list[str]:
    """The words after `ga2clip import` for a checkpoint, its CLIP, its hard prompt and its classes."""
    recorded = np.load(GOLDEN)
    fields = {name: torch.from_numpy(recorded[name]) for name in recorded.files if name != "meta"}
    weights = {name.removeprefix("weights/"): v for name, v in fields.items() if name.startswith("weights/")}
    ids, rows = weights.pop("token_embedding.ids"), weights.pop("token_embedding.rows")
    tuned = {
        name.replace("visual.", "image_encoder.", 1)
        if name.startswith("visual.")
        else f"text_encoder.{name}": v
        for name, v in weights.items()
        if name != "logit_scale"
    }
    tuned |= {"logit_scale": weights["logit_scale"]}
    tuned |= {n.removeprefix("prompts/"): v for n, v in fields.items() if n.startswith("prompts/")}
    hard = tuned.pop("hard")
    weights["token_embedding.weight"] = torch.zeros(49408, rows.shape[1])
    weights["token_embedding.weight"][ids] = rows.float()
    texts = weights["token_embedding.weight"][fields["input/class_tokens"].long()]
    tuned["prompt_learner.token_prefix"] = texts[:, :1].clone()
    tuned["prompt_learner.token_suffix"] = texts[:, 1 + len(hard) :].clone()
    torch.save(weights, empty / "clip.pt")
    torch.save({"epoch": 9, "model_state_dict": tuned}, empty / "last_model.pt")
    torch.save({"model_state_dict": {"prompt_learner.ctx_VPT": hard}}, empty / "hard.pt")
    (empty / "classes.txt").write_text("\n".join(json.loads(str(recorded["meta"]))["classes"]))
    return [
        "last_model.pt",
        "--clip-weights",
        "clip.pt",
        "--classes",
        "classes.txt",
        "--hard-prompts",
        "hard.pt",
    ]


def test_an_imported_run_is_one_like_any_other(
    checkpoint: list[str], ga2clip, process, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ga2clip_export.export._CLIPS_SMALL", 8
    )  # of 32 frames; 80 take as long as the tracing
    assert ga2clip("import", *checkpoint, "--out", "run").code == 0
    assert "imported  from last_model.pt and clip.pt" in ga2clip("info", "run").out
    nameless = ga2clip("eval", "run")
    assert (nameless.code, "--dataset (csv, folder, hmdb51" in nameless.err) == (1, True)
    assert ga2clip("export", "run").code == 0
    answers = [
        json.loads(run("predict", clip, "--classes", "classes.txt", "--json", "--model", model).out)
        for run, model in ((lambda *w: process(*w, without=TORCH), "run/bundle"), (ga2clip, "run"))
    ]
    assert answers[0]["results"][0]["frames"] == 32
    onnx, reference = (
        {row["label"]: row["probability"] for row in answer["results"][0]["predictions"]}
        for answer in answers
    )
    assert onnx == pytest.approx(reference, abs=1e-4)


def test_an_imported_run_knows_its_dataset(checkpoint: list[str], ga2clip, empty: Path) -> None:
    assert ga2clip("import", *checkpoint, "--dataset", "kinetics400", "--out", "run").code == 0
    assert json.loads(ga2clip("info", "run", "--json").out)["settings"]["data"]["dataset"] == "kinetics400"
    unprepared = ga2clip("eval", "run").err
    assert "data/kinetics400 is not a prepared dataset" in unprepared
    assert f"hint: ga2clip prepare --dataset kinetics400 --root {empty / 'data/kinetics400'}\n" in unprepared
    assert "did you mean 'ucf101'" in ga2clip("import", *checkpoint, "--dataset", "ucf", "--out", "other").err
    assert not (empty / "other").exists()


def test_an_import_that_fails_leaves_nothing(checkpoint: list[str], ga2clip, empty: Path) -> None:
    (empty / "classes.txt").write_text("a\na\n")
    assert ga2clip("import", *checkpoint, "--out", "run").code == 1
    assert not (empty / "run").exists()


def test_clip_is_a_video_and_clip_weights_are_weights(checkpoint: list[str], ga2clip) -> None:
    old = ["--clip" if word == "--clip-weights" else word for word in checkpoint]
    told = ga2clip("import", *old, "--out", "run")
    assert (told.code, "is now --clip-weights" in told.err) == (0, True)
    del checkpoint[1:3]
    assert "missing option '--clip-weights'" in ga2clip("import", *checkpoint, "--out", "other").err
    assert "--clip " not in ga2clip("import", "--help").out
