"""Frames that attend to their neighbours, from training to answers without torch, as a user meets it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ga2clip.video import read_frames, write_video

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("traced_once")]
TORCH = ("torch", "torchvision", "open_clip", "safetensors", "onnx", "matplotlib")
SETTINGS = (
    "training.batch_size=10",
    "data.frames=4",
    "method.frame_attention=neighbours",
    "method.pooling=attention",
)


def test_trains_exports_and_answers_about_whole_clips(
    stickfigures: tuple[Path, str], invoke: Any, process: Any, empty: Path
) -> None:
    root = stickfigures[0] / "data/stickfigures"
    words = f"train --method ivlp --root {root} --shots 1 --epochs 2 --out run --lr 0.01".split()
    code, _, err = invoke(empty, [*words, *(word for setting in SETTINGS for word in ("--set", setting))])
    assert code == 0, err
    assert "attend to their neighbours in the clip" in err
    report = json.loads(invoke(empty, ["eval", "run", "--json"]).out)
    assert 0 <= report["harmonic_mean"] <= 1
    code, _, err = invoke(empty, ["export", "run"])
    assert code == 0, err
    assert "frames are encoded with their neighbours" in invoke(empty, ["info", "run/bundle"]).out

    frames, _ = read_frames(next(root.glob("videos/*/test_*.mp4")))
    for name, shown in (("there", frames), ("back", frames[::-1])):
        write_video(empty / f"{name}.mp4", np.ascontiguousarray(shown), fps=8)
    ask = ["predict", "there.mp4", "back.mp4", "--json", "--model"]
    answers = [process(*ask, "run/bundle", without=TORCH), invoke(empty, [*ask, "run"])]
    (there, back), run = ([_by_label(row) for row in json.loads(answer.out)["results"]] for answer in answers)
    assert max(abs(there[label] - back[label]) for label in there) > 1e-3
    assert [there, back] == [pytest.approx(row, abs=1e-3) for row in run]

    spans = ["predict", "there.mp4", "--model", "run/bundle", "--timeline", "--json"]
    found = json.loads(process(*spans, without=TORCH).out)
    assert found["windows"]
    assert found["reused_frames"] == 0
    refused = process(*spans, "--still", "2", without=TORCH)
    assert refused.code == 1
    assert "encodes frames with their neighbours" in refused.err
    assert "hint: leave out --still" in refused.err
    embed = ["embed", "there.mp4", "--frames", "--model", "run/bundle", "--out"]
    assert process(*embed, "whole.npz").code == 0
    assert process(*embed, "reused.npz", "--still", "2").code == 1
    assert not list(empty.glob("reused.npz*"))


def _by_label(row: dict[str, Any]) -> dict[str, float]:
    return {answer["label"]: answer["probability"] for answer in row["predictions"]}
