"""open_clip's own ViT with its own text tower: OpenAI's CLIPs and most of open_clip's, CLIPA, MetaCLIP 2 worldwide."""

from collections.abc import Mapping
from typing import Any

from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import nn

from ga2clip.model.blocks import activation_name
from ga2clip.model.family import Support, Towers, assemble
from ga2clip.model.text_tower import CUSTOM_BLOCKS, text_config_refusal, text_refusal
from ga2clip.model.towers import OpenClipVision
from ga2clip.registry import BACKBONES
from ga2clip.tokenizer import Tokenizer

_POOLED_BY_QUERIES = "its vision tower is pooled by queries that a decoder reads (CoCa)"
_OTHER_BLOCKS = "its vision tower has attention blocks of another kind than CLIP's"


class ClipFamily:
    """Models with a ViT of open_clip, read at its class token or from the mean of its patches (CLIPA)."""

    def support(self, config: Mapping[str, Any]) -> Support | None:
        """As `Family`: a vision tower that is neither timm's nor a ResNet."""
        vision = config["vision_cfg"]
        if vision.get("timm_model_name") or isinstance(vision.get("layers"), list | tuple):
            return None
        reason = text_config_refusal(config)
        if not reason and vision.get("attentional_pool"):
            reason = _POOLED_BY_QUERIES
        if not reason and any(vision.get(key) for key in CUSTOM_BLOCKS):
            reason = _OTHER_BLOCKS
        return Support("clip", "none" if reason else "full", reason)

    def accepts(self, model: nn.Module) -> bool:
        """As `Family`."""
        visual = getattr(model, "visual", None)
        return (
            isinstance(visual, VisionTransformer)
            and visual.attn_pool is None
            and visual.pool_type in ("tok", "avg")
            and all(type(block) is ResidualAttentionBlock for block in visual.transformer.resblocks)
            and not text_refusal(model)
        )

    def towers(self, model: Any, tokenizer: Tokenizer) -> Towers:
        """As `Family`."""
        visual = model.visual
        block = visual.transformer.resblocks[0]
        conventions = {"heads": block.attn.num_heads, "activation": activation_name(block.mlp.gelu)}
        if visual.pool_type != "tok":
            conventions["pool"] = (
                f"{visual.pool_type}, norm {'after' if visual.final_ln_after_pool else 'before'}"
            )
        return assemble(model, OpenClipVision(visual), tokenizer, conventions)


BACKBONES.register("clip")(ClipFamily())
