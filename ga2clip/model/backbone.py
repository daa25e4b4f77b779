"""A frozen CLIP as two towers, its temperature and what else belongs to it; strict loading of weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import open_clip
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from ga2clip.errors import UserError
from ga2clip.model.backbones.clip import TextTower, VisionTower
from ga2clip.tokenizer import ClipTokenizer
from ga2clip.video import Preprocess


class Backbone(nn.Module):
    """A frozen CLIP as two towers, its temperature, and what else belongs to it.

    vision, text: the towers. logit_scale: () float, its exponent multiplies cosines. preprocess: the pixel recipe.
    """

    def __init__(self, clip: open_clip.CLIP, *, name: str, licence: str, preprocess: Preprocess) -> None:
        super().__init__()
        _refuse_other_architectures(clip, name)
        self.vision = VisionTower(clip.visual)
        self.text = TextTower(clip)
        self.logit_scale: nn.Parameter = clip.logit_scale
        self.name, self.licence, self.preprocess = name, licence, preprocess
        self.context_length: int = clip.context_length
        self.embed_dim: int = clip.text_projection.shape[1]
        self.tokenizer = ClipTokenizer.from_open_clip()
        self.requires_grad_(False).eval()

    def conventions(self) -> dict[str, Any]:
        """What its weights don't show and its features depend on, as JSON: heads, activation, pixels."""
        towers = {"vision": self.vision.blocks[0], "text": self.text.blocks[0]}
        return {
            "heads": {name: block.attn.num_heads for name, block in towers.items()},
            "activation": {name: type(block.mlp.gelu).__name__ for name, block in towers.items()},
            "preprocess": self.preprocess.to_json(),
        }


def load_exactly(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict into a module. Errors: UserError listing every missing, unexpected or misshapen tensor."""
    own = module.state_dict()
    missing = sorted(own.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - own.keys())
    shapes = sorted(key for key in own.keys() & tensors.keys() if own[key].shape != tensors[key].shape)
    problems = [f"missing: {some(missing)}"] if missing else []
    problems += [f"unexpected: {some(unexpected)}"] if unexpected else []
    problems += [f"wrong shape: {some(shapes)}"] if shapes else []
    if problems:
        raise UserError(f"{source} does not fit the model: {'; '.join(problems)}")
    module.load_state_dict({key: value.to(own[key].dtype) for key, value in tensors.items()})


def some(names: Sequence[str]) -> str:
    """The first six names of a list, and how many more there are."""
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _refuse_other_architectures(clip: open_clip.CLIP, name: str) -> None:
    visual = getattr(clip, "visual", None)
    plain_text = (
        hasattr(clip, "transformer")
        and getattr(clip, "text_pool_type", "") == "argmax"
        and clip.attn_mask is not None
        and isinstance(clip.text_projection, nn.Parameter)
    )
    plain_vision = (
        isinstance(visual, VisionTransformer) and visual.pool_type == "tok" and visual.attn_pool is None
    )
    if not (
        plain_text and plain_vision and all(type(b) is ResidualAttentionBlock for b in _all_blocks(clip))
    ):
        raise UserError(
            f"backbone '{name}' is not a plain ViT CLIP with a causal text tower",
            "prompts are defined for these; take ViT-B-32, ViT-B-16, ViT-L-14 or another CLIP ViT",
        )


def _all_blocks(clip: open_clip.CLIP) -> list[nn.Module]:
    return [*clip.visual.transformer.resblocks, *clip.transformer.resblocks]
