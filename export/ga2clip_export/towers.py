"""The two towers of a `VideoCLIP` as plain modules: prompts, changed weights and pixel normalisation are constants.

`FoldedVideoEncoder`: frames uint8 (B, T, S, S, 3) → frame features (B, T, D) and, where nothing pools them, their
means (B, D), unnormalised. `FoldedPooling`: frame features (B, T, D) → video features (B, D). `FoldedTextEncoder`:
token ids int64 (N, L) → features (N, D), unnormalised.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ga2clip.model.pooling import mean_pool
from ga2clip.model.towers import LayerPrompts, with_weights
from ga2clip.model.video_clip import VideoCLIP

_LARGEST_PIXEL = 255.0


class FoldedVideoEncoder(nn.Module):
    """The vision tower with its prompts and the pixel normalisation as constants.

    The normalisation is folded into the first convolution, or stands before it where that has padding: zeros around
    the frame are zeros after the normalisation.
    """

    def __init__(self, model: VideoCLIP) -> None:
        super().__init__()
        prompts = model.prompts()
        self.tower = with_weights(model.backbone.vision.simplified(), prompts.vision_weights)
        self.pixels: nn.Module = nn.Identity()
        mean, std = model.preprocess.mean, model.preprocess.std
        if name := self.tower.first_convolution:
            if self.tower is model.backbone.vision:
                self.tower = copy.deepcopy(self.tower)
            folded = _fold_normalisation(self.tower.get_submodule(name), mean, std)
            self.tower.set_submodule(name, folded)
        else:
            self.pixels = _Normalisation(mean, std)
        self.prompts = _Constants(prompts.vision)
        self.adapt = model.adapt_frames
        self.dtype = next(self.tower.parameters()).dtype
        self.pools, self.independent_frames = model.pools, model.independent_frames

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """uint8 (B, T, S, S, 3) RGB → (B, T, D) and, without temporal pooling, its mean over frames (B, D)."""
        pixels = self.pixels(frames.flatten(0, 1).permute(0, 3, 1, 2).to(self.dtype))
        clip = 0 if self.independent_frames else frames.shape[1]
        features = self.adapt(self.tower(pixels, self.prompts.layers(), (), clip)).unflatten(
            0, frames.shape[:2]
        )
        return (features,) if self.pools else (features, mean_pool(features))


class FoldedPooling(nn.Module):
    """The temporal pooling of a model."""

    def __init__(self, model: VideoCLIP) -> None:
        super().__init__()
        self.parts = model.parts  # held here so that the exporter knows their weights
        self.pool = model.pool

    def forward(self, frame_features: Tensor) -> Tensor:
        """float32 (B, T, D) → (B, D)."""
        return self.pool(frame_features)


class FoldedTextEncoder(nn.Module):
    """The text tower with its prompts as constants.

    Ids are [start, n prompt positions, words…, end, padding], without start where the tokenizer has none; the ids at
    the prompt positions are ignored.
    """

    def __init__(self, model: VideoCLIP) -> None:
        super().__init__()
        prompts = model.prompts()
        self.tower = with_weights(model.backbone.text, prompts.text_weights)
        self.prompts = _Constants(prompts.text)
        self.adapt = model.adapt_texts
        self.behind_prompt = self.tower.start_tokens + model.text_tokens

    def forward(self, ids: Tensor) -> Tensor:
        """int64 (N, L), 1 + n < L ≤ context → (N, D)."""
        return self.adapt(self.tower(ids[:, self.behind_prompt :], self.prompts.layers()))


class _Constants(nn.Module):
    """Per-layer prompts as buffers, so that the exporter sees constants."""

    def __init__(self, prompts: LayerPrompts) -> None:
        super().__init__()
        self._names: list[str | None] = []
        for index, prompt in enumerate(prompts):
            self._names.append(None if prompt is None else f"layer_{index}")
            if prompt is not None:
                self.register_buffer(f"layer_{index}", prompt.detach().clone())

    def layers(self) -> list[Tensor | None]:
        return [None if name is None else self.get_buffer(name) for name in self._names]


class _Normalisation(nn.Module):
    """Pixels 0…255 (N, 3, H, W) → (pixel / 255 − mean) / std."""

    factor: Tensor
    shift: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        means, stds = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (mean, std))
        self.register_buffer("factor", (1 / (stds * _LARGEST_PIXEL)).float())
        self.register_buffer("shift", (-means / stds).float())

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels * self.factor + self.shift


def _fold_normalisation(
    convolution: Any, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> nn.Conv2d:
    """A convolution of raw pixels 0…255 that equals `convolution`, an `nn.Conv2d`, of (pixel / 255 − mean) / std.

    Exact because a patch convolution has no padding: the mean becomes a bias.
    """
    weight = convolution.weight.detach().double()
    means = torch.tensor(mean, dtype=torch.float64)[None, :, None, None]
    stds = torch.tensor(std, dtype=torch.float64)[None, :, None, None]
    folded = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        kernel_size=convolution.kernel_size,
        stride=convolution.stride,
    )
    bias = -(weight * means / stds).sum(dim=(1, 2, 3))
    if convolution.bias is not None:
        bias = bias + convolution.bias.detach().double()
    with torch.no_grad():
        folded.weight.copy_(weight / (stds * _LARGEST_PIXEL))
        folded.bias.copy_(bias)  # type: ignore[union-attr]
    return folded.to(convolution.weight.dtype)
