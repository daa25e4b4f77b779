"""Give the built-in backbone `tiny` the words of `stickfigures-order` that its pre-training never saw.

Only new rows of the token embedding are learned, both towers stay as they are (textual inversion: Gal et al., ICLR
2023): a picture of a pair, drawn as the pre-training pictures are, is told from those of all other pairs. A single
picture doesn't say in which direction time runs, so both names of a pair stand for it, and are only kept from becoming
one. Rows that the file has already are kept to the bit.

    OMP_NUM_THREADS=1 python scripts/learn_words.py
"""

from __future__ import annotations

import os
import shutil

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from pretrain_tiny import ASSETS, WORDS, load_weights, normalise, read_config
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.func import functional_call

from ga2clip.data.stickfigures.classes_order import BASE_PAIRS, NOVEL_PAIRS
from ga2clip.data.stickfigures.pictures import action_pair
from ga2clip.labels import SCENARIO_TEMPLATE
from ga2clip.model.text_tower import TextTower

PAIRS = BASE_PAIRS + NOVEL_PAIRS
PICTURES = 150
"""Of each pair."""
STEPS, BATCH, RATE = 500, 128, 5e-3
ALIKE, APART = 0.8, 20.0
"""The cosine that the names of a pair may have, and the weight of what is above it."""
TEMPLATES = (SCENARIO_TEMPLATE, "a video of a person {}.", "a person {}", "{}")


def new_tokens(known: Tensor) -> Tensor:
    """The sorted ids of the tokens in class names that have no row yet."""
    used = open_clip.tokenize([action.name for pair in PAIRS for action in pair]).unique()
    return used[~torch.isin(used, known)]


@torch.no_grad()
def picture_features(clip: open_clip.CLIP, rng: np.random.Generator) -> Tensor:
    """Normalised features (pairs, PICTURES, D) of pictures at random moments."""
    recipe = read_config()[1]
    features = []
    for forward, _ in PAIRS:
        drawn = [action_pair(rng, forward.verb, forward.thing).picture for _ in range(PICTURES)]
        features.append(F.normalize(clip.encode_image(normalise(np.stack(drawn), recipe)), dim=-1))
    return torch.stack(features)


def learn(clip: open_clip.CLIP, ids: Tensor, known: Tensor, rng: np.random.Generator) -> Tensor:
    """Rows (len(ids), width) for tokens that start as random as the known ones are spread."""
    pictures = picture_features(clip, rng)
    table = clip.token_embedding.weight.requires_grad_(False)
    scale = clip.logit_scale.detach().exp()
    spread = table[known].std()
    start = rng.standard_normal((len(ids), table.shape[1]), dtype=np.float32)
    rows = torch.nn.Parameter(spread * torch.from_numpy(start))
    tower = TextTower(clip)
    optimiser = torch.optim.Adam([rows], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    names = [action.name for pair in PAIRS for action in pair]
    for step in range(STEPS):
        template = TEMPLATES[int(rng.integers(len(TEMPLATES)))]
        tokens = open_clip.tokenize([template.format(name) for name in names])[:, 1:WORDS]
        whole = {"token_embedding.weight": table.index_copy(0, ids, rows)}
        texts = F.normalize(functional_call(tower, whole, (tokens,)), dim=-1).view(len(PAIRS), 2, -1)
        truth = torch.from_numpy(rng.integers(len(PAIRS), size=BATCH))
        chosen = pictures[truth, torch.from_numpy(rng.integers(PICTURES, size=BATCH))]
        logits = scale * torch.einsum("bd,pnd->bpn", chosen, texts)
        alike = (texts[:, 0] * texts[:, 1]).sum(-1)
        loss = F.cross_entropy(logits, truth[:, None].expand(-1, 2)) + APART * F.relu(alike - ALIKE).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == STEPS - 1:
            print(f"step {step} loss {loss.item():.3f}", flush=True)
    return rows.detach()


def main() -> None:
    """Learn the rows and write the weights again."""
    torch.set_num_threads(1)
    path = ASSETS / "weights.safetensors"
    clip, tensors = load_weights(path).requires_grad_(False), load_file(path)
    known, rows = tensors["token_embedding.ids"].long(), tensors["token_embedding.rows"]
    ids = new_tokens(known)
    if not len(ids):
        print("every word has a row already")
        return
    learned = learn(clip, ids, known, np.random.default_rng(0)).to(rows.dtype)
    together = torch.cat([known, ids])
    tensors["token_embedding.ids"] = together.sort().values.int()
    tensors["token_embedding.rows"] = torch.cat([rows, learned])[together.argsort()].contiguous()
    save_file(tensors, path.with_suffix(".part"))
    shutil.copymode(path, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)
    print(f"{len(ids)} new rows")


if __name__ == "__main__":
    main()
