"""Settings and tower widths go in; per-layer prompts for both towers come out: (n, W) for each prompted block.

Small modules that own parameters. Each names what it trains by being an `nn.Module` with just those parameters;
nothing is selected by a substring of a name.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ga2clip.errors import UserError
from ga2clip.settings import MethodSettings

PROMPT_STD = 0.02
"""Standard deviation of random prompts, as CoOp (IJCV 2022) and the methods after it take it."""


class Prompts(NamedTuple):
    """What enters the towers: `text[i]` (n, W_t) before text block i, `vision[i]` (m, W_v) before vision block i."""

    text: list[Tensor | None]
    vision: list[Tensor | None]


class SoftPrompt(nn.Module):
    """Learnable prompts of one branch: `depth` tensors (length, width), the first for the input layer."""

    def __init__(self, length: int, width: int, depth: int, start: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.layers = nn.ParameterList(
            nn.Parameter(torch.randn(length, width) * PROMPT_STD) for _ in range(depth)
        )
        with torch.no_grad():
            for layer, value in zip(self.layers, start, strict=False):
                layer.copy_(value)

    def forward(self) -> list[Tensor]:
        """The prompts, input layer first."""
        return list(self.layers)


class Coupling(nn.Module):
    """The frozen hard prompt (n, W) joined with the soft one (n, W) of the input layer.

    mapping: ReLU(Linear(concat(hard, soft) along features, 2W → W)), then dropout: GA2-CLIP (arXiv 2511.22125),
    the mapping layer. residual: the same added to the soft prompt. concat: no mapping, hard then soft as 2n tokens.
    """

    hard: Tensor

    def __init__(self, kind: str, hard: Tensor, dropout: float) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("hard", hard.detach().clone().float())
        width = hard.shape[1]
        self.mapping = nn.Linear(2 * width, width) if kind != "concat" else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, soft: Tensor) -> Tensor:
        """The mixed context: (n, W), or (2n, W) for `concat`."""
        if self.mapping is None:
            return torch.cat([self.hard, soft])
        mixed = self.dropout(torch.relu(self.mapping(torch.cat([self.hard, soft], dim=-1))))
        return soft + mixed if self.kind == "residual" else mixed


class InterModalMap(nn.Module):
    """One linear map per prompted layer from one branch's prompts to the other's: (n, W_from) → (n, W_to).

    ViLT-CLIP (AAAI 2024) maps between the branches at every prompted layer; its formula is not in the abstract,
    so this is our reading: a linear map whose result is added to the free prompt there. With `free` False the
    result replaces that prompt, as in MaPLe (CVPR 2023), sec. 3.2.3.
    """

    def __init__(self, width_from: int, width_to: int, depth: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width_from, width_to) for _ in range(depth))

    def forward(self, prompts: Sequence[Tensor], free: Sequence[Tensor] | None) -> list[Tensor]:
        """Mapped prompts of the layers that have a map, then the remaining free ones."""
        mapped = [layer(prompt) for layer, prompt in zip(self.maps, prompts, strict=False)]
        if free is None:
            return mapped
        return [m + f for m, f in zip(mapped, free, strict=False)] + list(free[len(mapped) :])


class PromptLearner(nn.Module):
    """All prompt parts of a method: soft prompts, coupling and inter-modal maps → `Prompts`.

    widths: (text, vision) channels; depths: numbers of blocks. start: initial soft text prompts (n, W_t), input
    layer first; layers without one start at random.
    hard: (n, W_t) or None. Errors: UserError where lengths do not go together.
    """

    def __init__(
        self,
        settings: MethodSettings,
        *,
        widths: tuple[int, int],
        depths: tuple[int, int],
        start: Sequence[Tensor] = (),
        hard: Tensor | None = None,
    ) -> None:
        super().__init__()
        _check_lengths(settings, hard)
        text_depth = min(settings.text_depth, depths[0]) if settings.text_length else 0
        vision_depth = min(settings.vision_depth, depths[1]) if settings.vision_length else 0
        replaced = settings.inter_modal == "text-to-vision" and not settings.inter_modal_free
        self.text = SoftPrompt(settings.text_length, widths[0], text_depth, start) if text_depth else None
        self.vision = (
            SoftPrompt(settings.vision_length, widths[1], vision_depth)
            if vision_depth and not replaced
            else None
        )
        self.coupling = (
            Coupling(settings.coupling, hard, settings.coupling_dropout) if hard is not None else None
        )
        shared = min(text_depth, vision_depth)
        self.to_vision = _map_between(settings, "text-to-vision", widths[0], widths[1], shared)
        self.to_text = _map_between(settings, "vision-to-text", widths[1], widths[0], shared)

    def forward(self) -> Prompts:
        """The prompts that enter the towers now."""
        soft_text = self.text() if self.text else []
        soft_vision = self.vision() if self.vision else None
        text, vision = list(soft_text), soft_vision
        if self.coupling and self.coupling.kind != "concat":
            text = [self.coupling(text[0]), *text[1:]]
        coupled = text
        if self.to_text and soft_vision:
            text = self.to_text(soft_vision, text)
        if self.to_vision:
            vision = self.to_vision(coupled, soft_vision)
        if self.coupling and self.coupling.kind == "concat":
            text = [self.coupling(text[0]), *text[1:]]
        return Prompts(list(text), list(vision or []))

    @property
    def text_tokens(self) -> int:
        """Prompt positions that a class text spends in the context."""
        if self.text is None:
            return 0
        length = len(self.text.layers[0])
        extra = len(self.coupling.hard) if self.coupling and self.coupling.kind == "concat" else 0
        return length + extra


def _map_between(
    settings: MethodSettings, direction: str, width_from: int, width_to: int, depth: int
) -> InterModalMap | None:
    wanted = settings.inter_modal in (direction, "both")
    return InterModalMap(width_from, width_to, depth) if wanted else None


def _check_lengths(settings: MethodSettings, hard: Tensor | None) -> None:
    text, vision = settings.text_length, settings.vision_length
    if settings.inter_modal != "none" and (text != vision or not text or not settings.text_depth):
        raise UserError(
            f"inter-modal maps need text and vision prompts of one length, got {text} and {vision}",
            "set method.text_length and method.vision_length to the same number",
        )
    if settings.inter_modal in ("vision-to-text", "both") and not settings.inter_modal_free:
        raise UserError(
            "mapped prompts can replace the vision prompts only", "set method.inter_modal_free=true"
        )
    if hard is None:
        return
    if not text or not settings.text_depth:
        raise UserError("coupling needs a soft text prompt", "set method.text_length above 0")
    if settings.coupling != "concat" and len(hard) != text:
        raise UserError(
            f"the hard prompt has {len(hard)} tokens and the soft prompt {text}; the mapping layer needs as many",
            f"set method.text_length={len(hard)}",
        )
