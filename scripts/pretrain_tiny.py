"""Pre-train the built-in backbone `tiny` on generated picture–caption pairs and write `weights.safetensors`.

A small CLIP (config.json beside the weights) learns from scratch by the contrastive loss of CLIP (Radford et al.
2021, fig. 3) on pictures that `ga2clip.data.stickfigures.pictures` draws while it trains. Every batch depends on the
seed and its number alone, so a run that was stopped goes on from its state as if nothing had happened.

    python scripts/pretrain_tiny.py --state /tmp/tiny.pt            # train (or go on), then write the weights
    python scripts/pretrain_tiny.py --evaluate                      # zero-shot accuracy of the shipped weights
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import queue
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from ga2clip.data.stickfigures.classes import BASE_CLASSES, CLASSES, OTHER_CLASSES
from ga2clip.data.stickfigures.pictures import SCENES, pairs, vocabulary, with_article
from ga2clip.data.stickfigures.render import render_clip
from ga2clip.labels import SCENARIO_TEMPLATE
from ga2clip.model.text_tower import TextTower
from ga2clip.model.towers import OpenClipVision

ASSETS = Path(__file__).parent.parent / "ga2clip" / "assets" / "tiny"
TEMPLATES = (SCENARIO_TEMPLATE, "a video of a person {}.")
DATASETS = {"stickfigures": CLASSES, "stickfigures-other": OTHER_CLASSES}
WORDS = 24
"""Tokens that a caption may have."""
VERBS = sorted({verb for verb, _ in SCENES})
THINGS = sorted({thing for _, thing in SCENES if thing})
_VERB_TEXTS = [f"a person {verb}" for verb in VERBS]
_THING_TEXTS = [with_article(thing) for thing in THINGS]


def read_config() -> tuple[dict[str, Any], dict[str, Any]]:
    """The open_clip config and the preprocessing."""
    config = json.loads((ASSETS / "config.json").read_text(encoding="utf-8"))
    return config, config.pop("preprocess")


def used_tokens() -> list[int]:
    """The sorted ids of every token that captions and class names use, start and end of text last."""
    texts = vocabulary() + [name for names in DATASETS.values() for name in names]
    return sorted({int(i) for i in open_clip.tokenize(texts).unique()} | {0})


def normalise(pictures: np.ndarray, recipe: dict[str, Any]) -> Tensor:
    """uint8 (N, S, S, 3) to float (N, 3, S, S)."""
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(recipe[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    return (pixels - mean) / std


class Batch:
    """B pictures with captions.

    Attributes:
        pictures: uint8 (B, 72, 72, 3).
        captions: B texts.
        verbs, things: int64 (B,), numbers in `VERBS` and `THINGS`; -1 where there is none.
        related: bool (B, B), pairs that show the same, or of which a caption says no more than "nobody".
    """

    def __init__(self, seed: int, number: int, size: int) -> None:
        drawn = list(islice(pairs((seed, number)), size))
        self.pictures = np.stack([pair.picture for pair in drawn])
        self.captions = [pair.caption for pair in drawn]
        self.verbs = np.array([VERBS.index(pair.verb) if pair.verb else -1 for pair in drawn])
        self.things = np.array([THINGS.index(p.thing) if p.verb and p.thing else -1 for p in drawn])
        scenes = np.array([f"{pair.verb}|{pair.thing}" for pair in drawn])
        empty, vague = self.verbs < 0, scenes == "|"
        self.related = (scenes[:, None] == scenes) | (empty[:, None] & empty & (vague[:, None] | vague))


def _draw_batches(batches: Any, seed: int, first: int, last: int, size: int) -> None:
    parent = multiprocessing.parent_process()
    for number in range(first, last):
        batch = Batch(seed, number, size)
        while parent is not None and parent.is_alive():
            try:
                batches.put(batch, timeout=5)
                break
            except queue.Full:
                continue
        else:
            return


def batches(seed: int, first: int, last: int, size: int) -> Iterator[Batch]:
    """Batches `first` to `last`, drawn by another process."""
    context = multiprocessing.get_context("spawn")
    drawn = context.Queue(maxsize=6)
    worker = context.Process(target=_draw_batches, args=(drawn, seed, first, last, size), daemon=True)
    worker.start()
    for _ in range(first, last):
        yield drawn.get()
    worker.join()


def contrastive_loss(cosines: Tensor, scale: Tensor, captions: list[str], related: np.ndarray) -> Tensor:
    """CLIP's symmetric cross-entropy where equal captions share the target and other related pairs are left out.

    Args:
        cosines: (B, B), pictures in rows.
        scale: (), the inverse temperature.
        captions: B texts.
        related: bool (B, B), pairs that show the same scene.
    """
    numbers = {text: i for i, text in enumerate(dict.fromkeys(captions))}
    ids = torch.tensor([numbers[text] for text in captions])
    same = ids[:, None] == ids
    logits = (scale * cosines).masked_fill(torch.from_numpy(related) & ~same, -1e4)
    target = same.float() / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def positions(side: int, width: int) -> Tensor:
    """Sines and cosines of patch coordinates, (side * side, width): where the learnt embedding starts.

    Beyer et al., Better plain ViT baselines (2022), use them on small data; half the size suits narrow towers.
    """
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    frequencies = 100.0 ** -(torch.arange(width // 4) / (width // 4))
    angles = [coordinate.reshape(-1, 1) * frequencies for coordinate in (x, y)]
    return 0.5 * torch.cat([wave(a) for a in angles for wave in (torch.sin, torch.cos)], dim=1)


def learning_rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class Pretraining:
    """The model with a compact vocabulary, its towers and optimiser."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.config, self.recipe = read_config()
        self.tokens = torch.tensor(used_tokens())
        text = {**self.config["text_cfg"], "vocab_size": len(self.tokens)}
        self.clip = open_clip.CLIP(**{**self.config, "text_cfg": text})
        picture = self.config["vision_cfg"]
        with torch.no_grad():
            side = picture["image_size"] // picture["patch_size"]
            self.clip.visual.positional_embedding[1:] = positions(side, picture["width"])
        self.vision, self.text = OpenClipVision(self.clip.visual), TextTower(self.clip)
        decayed = [p for p in self.clip.parameters() if p.ndim >= 2]
        others = [p for p in self.clip.parameters() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)

    def tokenize(self, captions: list[str]) -> Tensor:
        """Compact ids (B, length) without the start of text, cut to the longest caption."""
        ids = torch.searchsorted(self.tokens, open_clip.tokenize(captions))[:, 1 : WORDS + 1]
        return ids[:, : int(ids.argmax(1).max()) + 1]

    def encode(self, texts: list[str]) -> Tensor:
        """Normalised text features (B, D)."""
        return F.normalize(self.text(self.tokenize(texts)), dim=-1)

    def step(self, batch: Batch, rate: float) -> float:
        """One update; returns the loss.

        Beside the captions of the batch, a picture is contrasted with all verbs and with all objects: without
        these two terms the same number of steps hardly leaves the plateau that CLIP training begins with.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        pictures = F.normalize(self.vision(normalise(batch.pictures, self.recipe)), dim=-1)
        scale = self.clip.logit_scale.clamp(max=math.log(100)).exp()
        cosines = pictures @ self.encode(batch.captions).T
        loss = contrastive_loss(cosines, scale, batch.captions, batch.related)
        for texts, numbers in ((_VERB_TEXTS, batch.verbs), (_THING_TEXTS, batch.things)):
            logits = scale * pictures @ self.encode(texts).T
            loss = loss + F.cross_entropy(logits, torch.from_numpy(numbers), ignore_index=-1)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.clip.parameters(), 1.0)
        self.optimiser.step()
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """The shipped file: float16, the token embedding as ids and rows."""
        tensors = {name: value.half().contiguous() for name, value in self.clip.state_dict().items()}
        tensors["token_embedding.rows"] = tensors.pop("token_embedding.weight")
        tensors["token_embedding.ids"] = self.tokens.int()
        save_file(tensors, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)


def load_weights(path: Path) -> open_clip.CLIP:
    """The shipped weights in open_clip's own model, strictly."""
    config, _ = read_config()
    clip = open_clip.CLIP(**config)
    tensors = load_file(path)
    rows = torch.zeros(clip.vocab_size, config["text_cfg"]["width"])
    rows[tensors.pop("token_embedding.ids").long()] = tensors.pop("token_embedding.rows").float()
    clip.load_state_dict({**{k: v.float() for k, v in tensors.items()}, "token_embedding.weight": rows})
    return clip.eval()


def clip_pictures(name: str, seed: int, frames: int, size: int) -> np.ndarray:
    """`frames` evenly spread frames of a clip, resized (Pillow, bicubic) and cropped: uint8 (T, S, S, 3)."""
    clip = render_clip(name, seed)
    pictures = []
    for index in ((np.arange(frames) + 0.5) * len(clip) / frames).astype(int):
        picture = Image.fromarray(clip[index])
        scale = size / min(picture.size)
        shape = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(shape, Image.Resampling.BICUBIC)
        left, top = (picture.width - size) // 2, (picture.height - size) // 2
        pictures.append(np.asarray(picture.crop((left, top, left + size, top + size))))
    return np.stack(pictures)


@torch.no_grad()
def evaluate(path: Path, clips: int, frames: int = 8) -> dict[str, dict[str, Any]]:
    """Zero-shot top-1 of video features (mean over frames) on rendered clips of both datasets.

    Args:
        path: the weights.
        clips: per class; their seeds start at 900000.
        frames: per clip.

    Returns:
        "dataset: template" → accuracies: over all classes, of the base and of the novel clips, of either half
        among its own classes; and the worst classes with what they are taken for.
    """
    clip, (config, recipe) = load_weights(path), read_config()
    size = config["vision_cfg"]["image_size"]
    results: dict[str, dict[str, Any]] = {}
    for dataset, names in DATASETS.items():
        features = []
        for name in names:
            pictures = np.concatenate([clip_pictures(name, 900000 + k, frames, size) for k in range(clips)])
            encoded = F.normalize(clip.encode_image(normalise(pictures, recipe)), dim=-1)
            features.append(F.normalize(encoded.view(clips, frames, -1).mean(1), dim=-1))
        videos, truth = torch.cat(features), torch.arange(len(names)).repeat_interleave(clips)
        for template in TEMPLATES:
            sentences = open_clip.tokenize([template.format(name) for name in names])
            cosines = videos @ F.normalize(clip.encode_text(sentences), dim=-1).T
            results[f"{dataset}: {template}"] = _accuracies(cosines, truth, names)
    return results


def _accuracies(cosines: Tensor, truth: Tensor, names: tuple[str, ...]) -> dict[str, Any]:
    guess = cosines.argmax(1)
    right = (guess == truth).float()
    result: dict[str, Any] = {"top1": round(float(right.mean()), 3)}
    half = len(BASE_CLASSES)
    if len(names) > half:
        base, novel = truth < half, truth >= half
        result["top1 of base clips"] = round(float(right[base].mean()), 3)
        result["top1 of novel clips"] = round(float(right[novel].mean()), 3)
        among = (cosines[base][:, :half].argmax(1) == truth[base]).float().mean()
        result["base among base"] = round(float(among), 3)
        among = (cosines[novel][:, half:].argmax(1) + half == truth[novel]).float().mean()
        result["novel among novel"] = round(float(among), 3)
    per_class = torch.stack([right[truth == i].mean() for i in range(len(names))])
    result["worst"] = [
        f"{names[i]} {float(per_class[i]):.2f} (as {names[int(guess[truth == i].mode().values)]})"
        for i in per_class.argsort()[:12].tolist()
    ]
    return result


def train(options: argparse.Namespace) -> None:
    """Train from the state file if there is one, then write the weights."""
    model, first, spent = Pretraining(options.seed), 0, 0.0
    if options.state.exists():
        state = torch.load(options.state, weights_only=True)
        model.clip.load_state_dict(state["clip"])
        model.optimiser.load_state_dict(state["optimiser"])
        first, spent = state["step"], state["seconds"]
    began, losses = time.monotonic() - spent, []
    for number, batch in enumerate(batches(options.seed, first, options.steps, options.batch), start=first):
        losses.append(model.step(batch, learning_rate(number, options.steps, options.lr)))
        done = number + 1
        if done % 50 == 0:
            seconds = time.monotonic() - began
            print(f"step {done} loss {np.mean(losses[-50:]):.3f} {seconds:.0f} s", flush=True)
        if done % 200 == 0 or done == options.steps:
            state = {
                "clip": model.clip.state_dict(),
                "optimiser": model.optimiser.state_dict(),
                "step": done,
                "seconds": time.monotonic() - began,
            }
            torch.save(state, options.state.with_suffix(".part"))
            os.replace(options.state.with_suffix(".part"), options.state)
            model.save(options.weights)


def main() -> None:
    """Read the options and do it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--evaluate", action="store_true", help="only measure the zero-shot accuracy")
    parser.add_argument("--clips", type=int, default=10, help="clips per class to measure on")
    parser.add_argument("--weights", type=Path, default=ASSETS / "weights.safetensors")
    parser.add_argument(
        "--state", type=Path, default=Path("tiny-state.pt"), help="where training goes on from"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.evaluate:
        train(options)
    print(json.dumps(evaluate(options.weights, options.clips), indent=1))


if __name__ == "__main__":
    main()
