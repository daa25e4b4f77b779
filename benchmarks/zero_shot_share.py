"""How much of the zero-shot model to keep in a tuned text prompt: by its scores, or by mixing the prompts.

The halved base classes of `choose_settings.py`, for methods whose vision tower stays frozen, so that one encoder serves
both. scores: (1 − share) · tuned + share · zero-shot cosines. prompts: `method.interpolate_parts` = 1 − share.

    ga2clip prepare --dataset stickfigures
    python benchmarks/zero_shot_share.py --methods coop kgcoop --seeds 1 2 3 4 5 6 7 8
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from choose_settings import Case, write_lists
from torch import Tensor

from ga2clip.compute.distributed import Group
from ga2clip.data.protocols import EvalSet, load_task
from ga2clip.evaluation.metrics import harmonic_mean
from ga2clip.evaluation.statistics import mean_interval, p_value, paired_t, percent
from ga2clip.model.frozen_text import class_text_features
from ga2clip.model.scoring import cosine
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.training.checkpoint import Position
from ga2clip.training.configure import configure
from ga2clip.training.features import CachedBatches, video_features
from ga2clip.training.loop import Plan, fit
from ga2clip.training.progress import Silent
from ga2clip.training.schedule import Rate
from ga2clip.training.signals import stop_flag
from ga2clip.training.train import make_model
from ga2clip.training.update import Updater

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0)
Scores = dict[tuple[str, float], float]


def hits(scores: Tensor, part: EvalSet) -> float:
    labels = torch.tensor([part.classes.index(str(clip.label)) for clip in part.clips])
    return float((scores.argmax(dim=1) == labels).float().mean())


@torch.no_grad()
def shares_of(
    model: VideoCLIP, start: dict[str, Tensor], part: EvalSet, features: dict[str, Tensor]
) -> Scores:
    """Top-1 on a set of classes for both ways and every share."""
    video = torch.stack([features[clip.id] for clip in part.clips])
    tuned = {name: p.clone() for name, p in model.trainable_parameters().items()}
    template = (model.settings.method.scenario_template,)
    frozen = cosine(video, class_text_features(model.backbone, part.classes, template))
    whole = cosine(video, model.encode_classes(part.classes))
    result = {("scores", a): hits((1 - a) * whole + a * frozen, part) for a in SHARES}
    for a in SHARES:
        for name, parameter in model.trainable_parameters().items():
            parameter.copy_(tuned[name].lerp(start[name], a))
        result["prompts", a] = hits(cosine(video, model.encode_classes(part.classes)), part)
    for name, parameter in model.trainable_parameters().items():
        parameter.copy_(tuned[name])
    return result


def measure(method: str, seed: int, root: Path, features: dict[str, Tensor]) -> Scores:
    """Harmonic means over both halves. features: by clip id, filled here."""
    group = Group(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "data": write_lists(root, Case("stickfigures", 12, 1000), seed, Path(folder)),
            "training": {"seed": seed},
        }
        settings = configure(dataset="stickfigures", method=method, protocol="base-to-novel", options=options)
        task = load_task(settings)[1]
        model = make_model(settings, task.classes)
        clips = [*task.train, *(clip for part in task.evals for clip in part.clips)]
        missing = [clip for clip in clips if clip.id not in features]
        features |= video_features(model, missing, settings, group) if missing else {}
    start = {name: p.detach().clone() for name, p in model.trainable_parameters().items()}
    training = settings.training
    per_epoch = -(-len(task.train) // training.batch_size)
    rate = Rate(total=training.epochs * per_epoch, warmup=round(training.warmup_epochs * per_epoch))
    plan = Plan(training.epochs, per_epoch, rate, 1e9)
    with stop_flag() as stop:
        batches = CachedBatches(task, settings, group, features)
        fit(Updater(model, group), batches, plan, Silent(), Position(), stop)
    halves = [shares_of(model.eval(), start, part, features) for part in task.evals]
    return {key: harmonic_mean([half[key] for half in halves]) for key in halves[0]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", default=["coop"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--root", type=Path, default=Path("data/stickfigures"))
    options = parser.parse_args()
    features: dict[str, Tensor] = {}
    print(f"| | share | HM | p against share 0 | {len(options.seeds)} seeds\n|---|---|---|---|")
    for method in options.methods:
        lines = [measure(method, seed, options.root, features) for seed in options.seeds]
        for key in lines[0]:
            own, plain = ([line[which] for line in lines] for which in (key, (key[0], 0.0)))
            p = "–" if key[1] == 0 else p_value(paired_t(own, plain))
            shown = percent(statistics.mean(own), mean_interval(own, 0.0))
            print(f"| {method}, {key[0]} | {key[1]:g} | {shown} | {p} |", flush=True)


if __name__ == "__main__":
    main()
