"""Plain ViT CLIPs: OpenAI's, and most of open_clip's."""

from typing import Any

import open_clip
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import nn

from ga2clip.model.family import Towers
from ga2clip.model.towers import TextTower, VisionTower
from ga2clip.registry import BACKBONES
from ga2clip.tokenizer import ClipTokenizer


class PlainClip:
    """A ViT CLIP whose image feature is read at the class token and whose text tower is causal and read at EOT."""

    def accepts(self, model: nn.Module) -> bool:
        """Whether the model is such a CLIP, without layers that the towers don't support."""
        visual = getattr(model, "visual", None)
        plain_text = (
            isinstance(model, open_clip.CLIP)
            and model.text_pool_type == "argmax"
            and model.attn_mask is not None
            and isinstance(model.text_projection, nn.Parameter)
        )
        plain_vision = (
            isinstance(visual, VisionTransformer) and visual.pool_type == "tok" and visual.attn_pool is None
        )
        return (
            plain_text and plain_vision and all(type(b) is ResidualAttentionBlock for b in _all_blocks(model))
        )

    def towers(self, model: open_clip.CLIP) -> Towers:
        """Both towers with open_clip's weights."""
        return Towers(
            VisionTower(model.visual),
            TextTower(model),
            model.logit_scale,
            model.context_length,
            model.text_projection.shape[1],
            ClipTokenizer.from_open_clip(),
            _conventions(model),
        )


def _conventions(clip: open_clip.CLIP) -> dict[str, Any]:
    """Heads and activation of both towers."""
    towers = {"vision": clip.visual.transformer.resblocks[0], "text": clip.transformer.resblocks[0]}
    return {
        "heads": {name: block.attn.num_heads for name, block in towers.items()},
        "activation": {name: type(block.mlp.gelu).__name__ for name, block in towers.items()},
    }


def _all_blocks(clip: open_clip.CLIP) -> list[nn.Module]:
    return [*clip.visual.transformer.resblocks, *clip.transformer.resblocks]


BACKBONES.register("clip")(PlainClip())
