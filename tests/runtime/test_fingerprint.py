"""Which model speaks, as a number that a results file can hold."""

import hashlib
import shutil
from pathlib import Path

import torch

from ga2clip.evaluation.torch_model import TorchModel
from ga2clip.runtime import Predictor


def test_a_bundle_is_its_card_with_the_hashes_of_its_files(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "copy")
    with (
        Predictor(bundle, provider="cpu", threads=1) as one,
        Predictor(tmp_path / "copy", provider="cpu", threads=1) as copy,
    ):
        assert one.fingerprint == hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
        assert copy.fingerprint == one.fingerprint


def test_a_torch_model_is_its_weights(make_model) -> None:
    changed = make_model()
    with torch.no_grad():
        next(iter(changed.trainable_parameters().values())).view(-1)[0] += 1e-3
    models = (make_model(), make_model(), changed)
    one, same, other = (TorchModel(model, "test", device="cpu") for model in models)
    assert len(one.fingerprint) == 64
    assert one.fingerprint == same.fingerprint
    assert other.fingerprint != one.fingerprint
    assert TorchModel(make_model("ivlp"), "test", device="cpu").fingerprint != one.fingerprint
