"""Towers, most of which take prompts and other weights per layer; the vision tower of open_clip's own ViT.

The towers walk a model's blocks (`blocks.py`) with its weights. No prompt parameters live here.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ga2clip.errors import UserError
from ga2clip.model.blocks import (
    OPEN_CLIP,
    OWN,
    BlockKind,
    BlockWeights,
    Heads,
    attend,
    rotated,
    with_neighbours,
)

LayerPrompts = Sequence[Tensor | None]
"""One entry per block: the prompt (n, W) that is inserted before it, or None for no change."""

LayerWeights = Sequence[BlockWeights | None]
"""One entry per block, or none at all."""


class Tower(nn.Module, ABC):
    """The common base of both towers: its sizes, its transformer blocks, and their weights."""

    kind: BlockKind = OPEN_CLIP
    recompute = False
    """Recompute a block's activations in the backward pass instead of keeping them."""
    no_prompts = ""
    """Why no prompts can enter, for messages; empty where they can."""

    @property
    @abstractmethod
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer's blocks, all of one `kind`; none in a tower of another make."""

    @property
    def width(self) -> int:
        """Channels of a token (W)."""
        return self.kind.width(self.blocks[0])

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def hidden(self) -> int:
        """Width of the hidden layer of a block's MLP."""
        return self.kind.hidden(self.blocks[0])

    @property
    def gates(self) -> int:
        """Weights into that hidden layer: 2 in a gated MLP (SwiGLU), else 1."""
        return self.kind.gates(self.blocks[0])

    def changed(self, changes: LayerWeights, weights: LayerWeights = ()) -> list[BlockWeights | None]:
        """`weights`, where there are none the blocks' own, with `changes` added."""
        layers = zip(self.blocks, per_layer(changes, self.depth), per_layer(weights, self.depth), strict=True)
        return [
            before if change is None else _added(self.kind.weights(block), before or OWN, change)
            for block, change, before in layers
        ]

    def run(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """Call a function whose activations are recomputed in the backward pass if `recompute` says so."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False)
        return function(*inputs)


class VisionTower(Tower):
    """Encodes frames: normalised pixels (N, 3, H, W) → features (N, D), not normalised."""

    visual: nn.Module
    first_convolution = ""
    """The name of the convolution of raw pixels if it has no padding, so that an export can fold the normalisation into
    it; else empty."""

    @abstractmethod
    def forward(
        self, pixels: Tensor, prompts: LayerPrompts = (), weights: LayerWeights = (), clip: int = 0
    ) -> Tensor:
        """Encode frames; `prompts[i]` enters before block i, which works with `weights[i]`.

        clip: T where the frames are those of clips of T frames, one after another, and attend to their neighbours; 0:
        every frame is encoded by itself.
        """

    @abstractmethod
    def resize(self, size: int) -> None:
        """Take frames of size × size pixels from now on, with interpolated positions where there are any.

        Raises UserError for a size that the tower can't take.
        """

    def simplified(self) -> "VisionTower":
        """The same function for inference alone: a tower that may have fewer layers, or this one."""
        return self


class _View(NamedTuple):
    """What a block needs to know of the frames, the same in all blocks.

    table: rotary positions of the patches if there are any. tokens: the model's own, without prompts. clip: as
    `VisionTower.forward` has it.
    """

    table: Tensor | None
    tokens: int
    clip: int


class TransformerVision(VisionTower):
    """A vision tower of tokens: patches, and before them a class token or others.

    Prompts (m, W) of the input layer are appended after the patch tokens, before the norm that precedes the blocks;
    deeper ones replace the last m tokens before their block (VPT-Deep, ECCV 2022, sec. 3.2, with the prompts last).
    They get no position, absolute or rotary. The feature is read from the model's own tokens alone, never from prompts,
    whatever the pooling. A block's output at prompts that the next block replaces is never used. Such prompts are
    therefore only used as keys and values, common to all frames; this is exact and saves N · m tokens. The last block
    computes only the tokens that are read.

    Where frames attend to their neighbours (`blocks.with_neighbours`), those show their own tokens alone: a frame sees
    the prompts once, not three times.
    """

    prefix_tokens = 1
    """Tokens before the patches, such as the class token."""
    rotate_half = False

    def forward(
        self, pixels: Tensor, prompts: LayerPrompts = (), weights: LayerWeights = (), clip: int = 0
    ) -> Tensor:
        """As `VisionTower`."""
        prompts, weights = per_layer(prompts, self.depth), per_layer(weights, self.depth)
        x, table = self.tokens(pixels)
        tokens = x.shape[1]
        view = _View(table, tokens, clip)
        for index, block in enumerate(self.blocks):
            context = self._context(prompts[index], index, x)
            last = index == self.depth - 1
            if context is not None:
                x = x[:, :tokens]
                if not last and prompts[index + 1] is None:
                    x, context = torch.cat([x, context.expand(x.shape[0], -1, -1)], dim=1), None
            own = weights[index] or OWN
            read = self.read(tokens) if last else None
            x = self.run(self._block, block, own, x, context, view, read)
        return self.head(x)

    @abstractmethod
    def tokens(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """The tokens (N, L, W) before the first block, and the rotary positions of the patches if there are any."""

    @abstractmethod
    def enter(self, prompts: Tensor) -> Tensor:
        """Prompts (1, m, W) of the input layer as tokens before the first block."""

    @abstractmethod
    def read(self, tokens: int) -> slice:
        """Which of the model's own tokens the feature is made of."""

    @abstractmethod
    def head(self, x: Tensor) -> Tensor:
        """The feature (N, D) of the tokens (N, R, W) that are read."""

    def _context(self, prompt: Tensor | None, index: int, x: Tensor) -> Tensor | None:
        """A layer's prompt as tokens (1, m, W)."""
        if prompt is None:
            return None
        tokens = prompt.to(x.dtype)[None]
        return tokens if index else self.enter(tokens)

    def _block(
        self,
        block: nn.Module,
        own: BlockWeights,
        x: Tensor,
        context: Tensor | None,
        view: _View,
        read: slice | None,
    ) -> Tensor:
        """A block over tokens (N, L, W) that also look at context tokens (1, m, W), which are the same for all.

        read: the tokens whose output is wanted; None: all.
        """
        q, k, v = self._project_with(block, own, x, context, view)
        if read is not None:
            q, x = q[:, :, read], x[:, read]
        return self.kind.finish(block, own, x, attend(q, k, v))

    def _project_with(
        self, block: nn.Module, own: BlockWeights, x: Tensor, context: Tensor | None, view: _View
    ) -> Heads:
        """Queries of x; keys and values of the neighbouring frames if they are seen, of x, and then the context."""
        q, k, v = self.kind.project(block, own, x)
        q, k = (rotated(y, view.table, start=self.prefix_tokens, half=self.rotate_half) for y in (q, k))
        if view.clip:
            k, v = (with_neighbours(y, view.clip, view.tokens) for y in (k, v))
        if context is None:
            return q, k, v
        _, context_k, context_v = self.kind.project(block, own, context)
        keys = torch.cat([k, context_k.expand(x.shape[0], -1, -1, -1)], dim=2)
        # Copying the queries frees the packed projection, whose other two thirds are copied above.
        return q.contiguous(), keys, torch.cat([v, context_v.expand(x.shape[0], -1, -1, -1)], dim=2)


class OpenClipVision(TransformerVision):
    """open_clip's own ViT, read at the class token or from the mean of the patches (CLIPA)."""

    visual: VisionTransformer
    first_convolution = "visual.conv1"

    def __init__(self, visual: VisionTransformer) -> None:
        super().__init__()
        self.visual = visual

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer's blocks."""
        return self.visual.transformer.resblocks

    def tokens(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """As `TransformerVision`."""
        patches = self.visual.conv1(pixels).flatten(2).transpose(1, 2)
        class_token = self.visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        x = torch.cat([class_token, patches], dim=1) + self.visual.positional_embedding.to(patches.dtype)
        return self.visual.ln_pre(x), None

    def enter(self, prompts: Tensor) -> Tensor:
        """As `TransformerVision`."""
        return self.visual.ln_pre(prompts)

    def resize(self, size: int) -> None:
        """As `VisionTower`. The positions are interpolated as open_clip does: bicubic, antialiased."""
        refuse_size(size, self.visual.patch_size[0])
        before, after = self.visual.grid_size, (size // self.visual.patch_size[0],) * 2
        positions = self.visual.positional_embedding
        grid = positions[1:].detach().T.unflatten(1, before)[None]
        grid = F.interpolate(grid, size=after, mode="bicubic", antialias=True, align_corners=False)
        self.visual.positional_embedding = nn.Parameter(
            torch.cat([positions[:1].detach(), grid[0].flatten(1).T]), positions.requires_grad
        )
        self.visual.image_size, self.visual.grid_size = (size, size), after

    def read(self, tokens: int) -> slice:
        """As `TransformerVision`."""
        return slice(1) if self.visual.pool_type == "tok" else slice(1, tokens)

    def head(self, x: Tensor) -> Tensor:
        """As `TransformerVision`."""
        if self.visual.pool_type == "tok":
            pooled = self.visual.ln_post(x[:, 0])
        elif self.visual.final_ln_after_pool:
            pooled = self.visual.ln_post(x.mean(dim=1))
        else:
            pooled = self.visual.ln_post(x).mean(dim=1)
        return pooled @ self.visual.proj


_T = TypeVar("_T", bound=Tower)
_Entry = TypeVar("_Entry")


@torch.no_grad()
def with_weights(tower: _T, weights: LayerWeights) -> _T:
    """A tower whose own weights are `weights`, for inference: the tower itself where there are none."""
    if not any(weights):
        return tower
    tower = copy.deepcopy(tower)
    for block, changed in zip(tower.blocks, weights, strict=True):
        tower.kind.store(block, changed or OWN)
    return tower


def run_block(block: nn.Module, x: Tensor) -> Tensor:
    """A block of open_clip with its own weights over tokens (N, L, W)."""
    q, k, v = OPEN_CLIP.project(block, OWN, x)
    return OPEN_CLIP.finish(block, OWN, x, attend(q, k, v))


def refuse_size(size: int, patch: int) -> None:
    """Raises UserError for an image size that patches of this size don't divide."""
    if size % patch:
        near = max(round(size / patch), 1) * patch
        raise UserError(
            f"an image size of {size} is no multiple of the backbone's {patch} pixels", f"such as {near}"
        )


def per_layer(entries: Sequence[_Entry | None], depth: int) -> list[_Entry | None]:
    """Entries for all blocks of a tower: None where there are none."""
    return [*entries[:depth], *[None] * (depth - len(entries))]


def _added(own: BlockWeights, before: BlockWeights, change: BlockWeights) -> BlockWeights:
    def sum_of(weight: Tensor | None, earlier: Tensor | None, added: Tensor | None) -> Tensor | None:
        if added is None:
            return earlier
        start = weight if earlier is None else earlier
        return added if start is None else start + added

    return BlockWeights(*map(sum_of, own, before, change))
