"""Small wrong edits of the code, one after the other, and whether the fast tests notice: `make mutants`.

Each edit is made in a scratch copy of the tracked files. An edit whose old text is no longer in its file is an error,
so the list stays true. Exit code 1 where an edit survived.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Mutant(NamedTuple):
    """An edit: in `file`, `old` becomes `new`; `tests` should fail then."""

    what: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant(
        "the sigmoid loss of a video is a mean over classes",
        "ga2clip/model/terms/cross_entropy.py",
        'reduction="none").sum(dim=-1).mean()',
        'reduction="none").mean()',
        "tests/model",
    ),
    Mutant(
        "patches are turned by the rotary positions of their neighbours",
        "ga2clip/model/blocks.py",
        "turned = apply_rot_embed_cat(patches, table, half=half).to(q.dtype)",
        "turned = apply_rot_embed_cat(patches, table.roll(1, 0), half=half).to(q.dtype)",
        "tests/model",
    ),
    Mutant(
        "attention pooling reads prompts that stand among the tokens",
        "ga2clip/model/backbones/timm_vit.py",
        "return slice(0 if whole else self.prefix_tokens, tokens)",
        "return slice(0 if whole else self.prefix_tokens, None)",
        "tests/model",
    ),
    Mutant(
        "texts of a tower without mask are filled up with another token",
        "ga2clip/model/text_tower.py",
        "ids.new_full((ids.shape[0], length), self.pad_id)",
        "ids.new_full((ids.shape[0], length), self.pad_id + 1)",
        "tests/model",
    ),
    Mutant(
        "the margin of the anchor term is dropped",
        "ga2clip/model/terms/anchor.py",
        "- to_negatives.amax(dim=-1) + margin)",
        "- to_negatives.amax(dim=-1))",
        "tests/model",
    ),
    Mutant(
        "contrast looks at the nearest negative only",
        "ga2clip/model/terms/anchor.py",
        "- to_negatives.logsumexp(dim=-1)",
        "- to_negatives.amax(dim=-1)",
        "tests/model",
    ),
    Mutant(
        "the direction of PromptSRC's KL is swapped",
        "ga2clip/model/terms/logit_consistency.py",
        "F.kl_div(tuned, frozen.log_softmax(dim=-1),",
        "F.kl_div(frozen.log_softmax(dim=-1), tuned,",
        "tests/model",
    ),
    Mutant(
        "kgcoop is summed over classes",
        "ga2clip/model/terms/kgcoop.py",
        "dim=-1)).mean()",
        "dim=-1)).sum()",
        "tests/model",
    ),
    Mutant(
        "label smoothing is ignored",
        "ga2clip/model/terms/cross_entropy.py",
        "label_smoothing=settings.loss.label_smoothing",
        "label_smoothing=0.0",
        "tests/model",
    ),
    Mutant(
        "the inter-modal map takes the prompt before coupling",
        "ga2clip/model/parts/inter_modal.py",
        "order = 30",
        "order = 15",
        "tests/model",
    ),
    Mutant(
        "soft and hard prompt change places before the mapping layer",
        "ga2clip/model/parts/coupling.py",
        "torch.cat([self.hard, soft], dim=-1)",
        "torch.cat([soft, self.hard], dim=-1)",
        "tests/model tests/parity",
    ),
    Mutant(
        "PromptSRC's teacher is one template",
        "ga2clip/model/frozen_text.py",
        "for t in templates]",
        "for t in templates[:1]]",
        "tests/parity",
    ),
    Mutant(
        "weight decay is ignored",
        "ga2clip/training/optimiser.py",
        "eps=1e-8, weight_decay=settings.weight_decay",
        "eps=1e-8, weight_decay=0.0",
        "tests/training/test_optimiser.py",
    ),
    Mutant(
        "the backbone trains with the rate of the prompts",
        "ga2clip/training/optimiser.py",
        '"backbone": settings.backbone_lr',
        '"backbone": settings.lr',
        "tests/training/test_optimiser.py",
    ),
    Mutant(
        "the average over epochs is uniform",
        "ga2clip/training/averaging.py",
        "[value / total for value in relative]",
        "[1 / count for value in relative]",
        "tests/training/test_optimiser.py",
    ),
    Mutant(
        "micro-batches count as whole batches",
        "ga2clip/model/term.py",
        "return labelled / max(whole[0], 1)",
        "return 1.0",
        "tests/model tests/training/test_update.py",
    ),
    Mutant(
        "every chunk draws its own dropout",
        "ga2clip/training/update.py",
        "features = self.model.pool(video) if cached else self.model.encode_video(video, shared.prompts)",
        "features = self.model.pool(video) if cached else self.model.encode_video(video)",
        "tests/training/test_update.py",
    ),
    Mutant(
        "cached frozen videos are pooled as the tuned ones are",
        "ga2clip/training/update.py",
        "frozen = mean_pool(video) if cached",
        "frozen = self.model.pool(video) if cached",
        "tests/training/test_pooling.py",
    ),
    Mutant(
        "features of clips are cached where terms need those of single frames",
        "ga2clip/model/video_clip.py",
        'return not self.trains("vision") and frozen_are_own',
        'return not self.trains("vision")',
        "tests/training/test_frame_attention.py",
    ),
    Mutant(
        "windows of a timeline pool frames that were encoded without their neighbours",
        "ga2clip/runtime/frames.py",
        "self._each = predictor.model.independent_frames",
        "self._each = True",
        "tests/export/test_frame_attention.py",
    ),
    Mutant(
        "positions of frames are numbers of frames, whatever their count",
        "ga2clip/model/pooling.py",
        "* (count / length)",
        "* 1.0",
        "tests/model/test_pooling.py",
    ),
    Mutant(
        "the dataset's flip rule is ignored in training",
        "ga2clip/data/loader.py",
        "flip=task.flip",
        "flip=True",
        "tests/data/test_loader.py",
    ),
    Mutant(
        "training takes the frames at the centres of segments",
        "ga2clip/data/reader.py",
        "train=True",
        "train=False",
        "tests/data/test_loader.py",
    ),
    Mutant(
        "views are averaged as features",
        "ga2clip/evaluation/measure.py",
        "rule(views.flatten(0, 1), part.classes)",
        "rule(views.mean(dim=1).repeat_interleave(views.shape[1], dim=0), part.classes)",
        "tests/evaluation",
    ),
    Mutant(
        "the harmonic mean is an arithmetic one",
        "ga2clip/evaluation/metrics.py",
        "return len(values) / sum(1 / value for value in values)",
        "return sum(values) / len(values)",
        "tests/evaluation",
    ),
    Mutant(
        "the activation that is known of a weights file is ignored",
        "ga2clip/model/load_backbone.py",
        "return None if activation is None else activation == _ACTIVATIONS[True]",
        "return True",
        "tests/model",
    ),
    Mutant(
        "heads of transformers' files are taken to be 64 wide",
        "ga2clip/model/transformers_layout.py",
        'vision["hidden_size"] // vision["num_attention_heads"]',
        "64",
        "tests/parity",
    ),
    Mutant(
        "pixel values of a config are ignored",
        "ga2clip/model/architecture.py",
        "return self.preprocess or Preprocess(",
        "return Preprocess(",
        "tests/model",
    ),
    Mutant(
        "one right token is enough for the text of a published checkpoint's class",
        "ga2clip/model/class_texts.py",
        "bool(self.same(rows, tokens).all())",
        "bool(self.same(rows, tokens).any())",
        "tests/model/test_vifi_checkpoints.py",
    ),
    Mutant(
        "a published checkpoint's template is not stored",
        "ga2clip/interop.py",
        'method["class_template" if prompted else "scenario_template"] = template',
        'method["scenario_template" if prompted else "class_template"] = template',
        "tests/model/test_vifi_checkpoints.py",
    ),
    Mutant(
        "a published checkpoint's temporal header is passed over",
        "ga2clip/interop.py",
        '_TEMPORAL_HEADER = "fusion_model_state_dict"',
        '_TEMPORAL_HEADER = "no_such_key"',
        "tests/model/test_vifi_checkpoints.py",
    ),
    Mutant(
        "a slightly tuned backbone counts as untouched",
        "ga2clip/interop.py",
        "not torch.equal(value, given.to(value.dtype))",
        "not torch.allclose(value.float(), given.float(), rtol=2e-3, atol=2e-4)",
        "tests/model/test_vifi_checkpoints.py",
    ),
    Mutant(
        "an imported run is tested with our readable names",
        "ga2clip/evaluation/evaluate.py",
        "return run.manifest(data)",
        "return read_dataset(data)",
        "tests/evaluation/test_class_names_of_runs.py",
    ),
    Mutant(
        "raw names rename the classes but not the clips",
        "ga2clip/data/class_names.py",
        "replace(clip, label=name.get(clip.label))",
        "clip",
        "tests/data/test_class_names.py",
    ),
    Mutant(
        "long features of sentences count more",
        "ga2clip/model/scoring.py",
        "F.normalize(part, dim=-1).mean(dim=0)",
        "part.mean(dim=0)",
        "tests/model/test_descriptions.py",
    ),
    Mutant(
        "a bundle forgets what training described",
        "ga2clip/runtime/text.py",
        "ClassTexts(bundle.card.descriptions)",
        "ClassTexts({})",
        "tests/runtime/test_descriptions.py",
    ),
    Mutant(
        "a gated coupling has no gate",
        "ga2clip/model/parts/coupling.py",
        "mixed = self.gate * mixed",
        "mixed = mixed * 1",
        "tests/model/test_parts.py",
    ),
    Mutant(
        "the torch model ignores --template",
        "ga2clip/evaluation/torch_model.py",
        "{name: [fill(template, name)] for name in names}",
        "self._model.texts_of(names)",
        "tests/runtime/test_one_predictor.py tests/evaluation",
    ),
    Mutant(
        "the oldest bundle is taken for the newest",
        "ga2clip/evaluation/open_predictor.py",
        "str(max(cards, key=lambda card: card.stat().st_mtime).parent)",
        "str(min(cards, key=lambda card: card.stat().st_mtime).parent)",
        "tests/evaluation/test_open_predictor.py",
    ),
    Mutant(
        "a provider that gives other features than torch is kept",
        "ga2clip/runtime/engine.py",
        "if not cosine >= limit:",
        "if cosine < -2:",
        "tests/runtime/test_provider_check.py",
    ),
    Mutant(
        "a provider's features are never compared with torch's",
        "ga2clip/runtime/bundle_model.py",
        'if self.provider != "cpu":',
        "if False:",
        "tests/runtime/test_provider_check.py",
    ),
    Mutant(
        "spans that only touch count as overlapping",
        "ga2clip/data/lineage.py",
        "one[0] < other[1] and other[0] < one[1]",
        "one[0] <= other[1] and other[0] <= one[1]",
        "tests/data/test_spans.py tests/data/test_assignments.py",
    ),
    Mutant(
        "a span is read from the beginning of its file",
        "ga2clip/data/clip_frames.py",
        "clip.first + sample_indices",
        "sample_indices",
        "tests/data/test_spans.py",
    ),
    Mutant(
        "a frame at the start of a span belongs to the one before",
        "ga2clip/data/check.py",
        "np.searchsorted(times, [round(1000 * border) for border in span])",
        'np.searchsorted(times, [round(1000 * border) for border in span], "right")',
        "tests/data/test_spans.py",
    ),
    Mutant(
        "validation clips that can't be read are left out of the accuracy",
        "ga2clip/training/validation.py",
        "labels).sum()) / len(val)",
        "labels).sum()) / len(clips)",
        "tests/training/test_validation.py",
    ),
    Mutant(
        "of equally accurate epochs the one with the larger loss is kept",
        "ga2clip/training/averaging.py",
        "(accuracy, -loss) <= (self.accuracy, -self.loss)",
        "(accuracy, loss) <= (self.accuracy, self.loss)",
        "tests/training/test_validation.py",
    ),
    Mutant(
        "a bundle's mean of sentences is not normalised",
        "ga2clip/runtime/scoring.py",
        "else normalise(features.mean(axis=0, dtype=np.float64))",
        "else features.mean(axis=0)",
        "tests/runtime/test_descriptions.py",
    ),
    Mutant(
        "attention pooling compares queries, not frames",
        "ga2clip/model/parts/pooling_attention.py",
        "scores.softmax(dim=1)",
        "scores.softmax(dim=2)",
        "tests/model/test_pooling.py",
    ),
    Mutant(
        "the trend of a still video is not zero",
        "ga2clip/model/parts/pooling_trend.py",
        "device=frames.device) + 0.5) / count - 0.5",
        "device=frames.device) + 0.5) / count",
        "tests/model/test_pooling.py",
    ),
    Mutant(
        "a class may be held out whole",
        "ga2clip/data/draw.py",
        "held[unit] = staying > 1 and count + sizes[unit] <= wanted",
        "held[unit] = count + sizes[unit] <= wanted",
        "tests/data/test_assignments.py tests/data/test_groups.py tests/training/test_validation.py",
    ),
    Mutant(
        "a clip that a run was validated on counts as unknown",
        "ga2clip/data/lineage.py",
        "Seen([*trained.trained, *trained.validated]), Seen(trained.known)",
        "Seen(trained.trained), Seen(trained.known)",
        "tests/data/test_assignments.py tests/training/test_validation.py tests/evaluation/test_evaluate_runs.py",
    ),
)


def copy_tree(to: Path) -> None:
    """The tracked files as they are in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            target = to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)


def survives(mutant: Mutant, tree: Path) -> bool:
    """Whether the tests pass although the edit was made. Raises SystemExit where the edit can't be made."""
    file = tree / mutant.file
    original = file.read_text(encoding="utf-8")
    if original.count(mutant.old) != 1:
        raise SystemExit(
            f"error: {mutant.file} holds {mutant.old!r} {original.count(mutant.old)} times, not once"
        )
    file.write_text(original.replace(mutant.old, mutant.new), encoding="utf-8")
    paths = os.pathsep.join([str(tree), str(tree / "export")])
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *mutant.tests.split()]
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            capture_output=True,
        )
    finally:
        file.write_text(original, encoding="utf-8")
    return done.returncode == 0


def main() -> int:
    """Try every edit, or those whose description holds a word."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only edits whose description holds one of these")
    words = parser.parse_args().words
    chosen = [m for m in MUTANTS if not words or any(word in m.what for word in words)]
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        copy_tree(Path(folder))
        for mutant in chosen:
            alive = survives(mutant, Path(folder))
            survivors += alive
            print(f"{'SURVIVES' if alive else 'caught  '}  {mutant.what}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
