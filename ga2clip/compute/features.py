"""Features (V, D) of clips by a model, each computed once by all processes together."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from ga2clip.compute.distributed import Group
from ga2clip.compute.precision import autocast, autocast_dtype
from ga2clip.data.loader import eval_batches
from ga2clip.data.manifest import Clip
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipFeatures:
    """features: clip id → float32 (V, D) on the CPU, V views (what `encode` gives in place of D). broken: clip id → why
    the clip could not be read."""

    features: dict[str, Tensor]
    broken: dict[str, str]


@torch.no_grad()
def encode_clips(
    model: VideoCLIP,
    clips: Sequence[Clip],
    settings: Settings,
    group: Group,
    *,
    encode: Callable[[Tensor], Tensor] | None = None,
    bar: bool = False,
) -> ClipFeatures:
    """Features of clips, sampled and preprocessed as in evaluation. Each clip is decoded once, by one of the processes.

    settings: frames, views, the dataset's root and precision. encode: clip tensors (B, T, 3, H, W) → what is kept of
    them (B, …); None: video features. All features are returned in every process.
    """
    unique = list({clip.id: replace(clip, label="") for clip in clips}.values())
    encode = encode or model.encode_video
    dtype = autocast_dtype(settings.training.precision, group.device, model.backbone.vision.width)
    features: dict[str, Tensor] = {}
    broken: dict[str, str] = {}
    batches = eval_batches(unique, [""], settings, model.preprocess, rank=group.rank, world=group.size)
    with tqdm(total=len(unique), unit="clip", desc="encoding", disable=not bar, dynamic_ncols=True) as shown:
        for batch in batches:
            broken.update(batch.broken)
            if batch.ids:
                pixels = batch.clip_tensor(model.preprocess, group.device)
                views = pixels if pixels.ndim == 6 else pixels[:, None]
                # View by view: memory is that of one view, however many are asked for.
                with autocast(group.device, dtype):
                    encoded = torch.stack([encode(view) for view in views.unbind(1)], dim=1)
                features.update(zip(batch.ids, encoded.float().cpu(), strict=True))
            shown.update((len(batch.ids) + len(batch.broken)) * group.size)
    parts = group.gather((features, broken))
    return ClipFeatures(
        {key: value for part, _ in parts for key, value in part.items()},
        {key: value for _, part in parts for key, value in part.items()},
    )
