"""The two towers of a `VideoCLIP` as plain modules: prompts, changed weights and pixel normalisation are constants.

`FoldedVideoEncoder`: frames uint8 (B, T, S, S, 3) → frame features (B, T, D) and, where nothing pools them, their
means (B, D), unnormalised. `FoldedPooling`: frame features (B, T, D) → video features (B, D). `FoldedTextEncoder`:
token ids int64 (N, L) → features (N, D), unnormalised.
"""

import copy

import torch
from torch import Tensor, nn

from ga2clip.model.pooling import mean_pool
from ga2clip.model.towers import LayerPrompts, with_weights
from ga2clip.model.video_clip import VideoCLIP

_LARGEST_PIXEL = 255.0


class FoldedVideoEncoder(nn.Module):
    """The vision tower with its prompts and the pixel normalisation as constants."""

    def __init__(self, model: VideoCLIP) -> None:
        super().__init__()
        prompts = model.prompts()
        self.tower = with_weights(copy.deepcopy(model.backbone.vision), prompts.vision_weights)
        pixels = model.preprocess
        self.tower.visual.conv1 = _fold_normalisation(self.tower.visual.conv1, pixels.mean, pixels.std)
        self.prompts = _Constants(prompts.vision)
        self.adapt = model.adapt_frames
        self.pools = model.pools

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """uint8 (B, T, S, S, 3) RGB → (B, T, D) and, without temporal pooling, its mean over frames (B, D)."""
        pixels = frames.flatten(0, 1).permute(0, 3, 1, 2).to(self.tower.visual.proj.dtype)
        features = self.adapt(self.tower(pixels, self.prompts.layers())).unflatten(0, frames.shape[:2])
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

    Ids are [start, n prompt positions, words…, end, zeros]; the ids at the prompt positions are ignored.
    """

    def __init__(self, model: VideoCLIP) -> None:
        super().__init__()
        prompts = model.prompts()
        self.tower = with_weights(model.backbone.text, prompts.text_weights)
        self.prompts = _Constants(prompts.text)
        self.adapt = model.adapt_texts
        self.behind_prompt = 1 + model.text_tokens

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


def _fold_normalisation(
    convolution: nn.Conv2d, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> nn.Conv2d:
    """A convolution of raw pixels 0…255 that equals `convolution` of (pixel / 255 − mean) / std.

    Exact because a patch convolution has no padding: the mean becomes a bias.
    """
    weight = convolution.weight.detach().double()
    means = torch.tensor(mean, dtype=torch.float64)[None, :, None, None]
    stds = torch.tensor(std, dtype=torch.float64)[None, :, None, None]
    folded = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        kernel_size=convolution.kernel_size,  # type: ignore[arg-type]
        stride=convolution.stride,  # type: ignore[arg-type]
    )
    bias = -(weight * means / stds).sum(dim=(1, 2, 3))
    if convolution.bias is not None:
        bias = bias + convolution.bias.detach().double()
    with torch.no_grad():
        folded.weight.copy_(weight / (stds * _LARGEST_PIXEL))
        folded.bias.copy_(bias)  # type: ignore[union-attr]
    return folded.to(convolution.weight.dtype)
