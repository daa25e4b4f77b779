"""timm's vision transformers as open_clip wraps them: SigLIP, EVA-02, Perception Encoder, MobileCLIP-B."""

from collections.abc import Mapping, Sequence
from typing import Any

from open_clip.timm_model import TimmModel
from timm.models import is_model_in_modules
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ga2clip.errors import UserError
from ga2clip.model.blocks import TIMM, activation_name, is_timm_block
from ga2clip.model.family import Support, Towers, assemble
from ga2clip.model.text_tower import text_config_refusal, text_refusal
from ga2clip.model.towers import TransformerVision, refuse_size
from ga2clip.registry import BACKBONES
from ga2clip.tokenizer import Tokenizer

_MODULES = ("vision_transformer", "vision_transformer_hybrid", "eva")
_POOLS = ("token", "avg", "map")


class TimmVision(TransformerVision):
    """A `VisionTransformer` or an `Eva` of timm, read at its class token, from the mean of its patches or by attention.

    Rotary positions (EVA-02, Perception Encoder) turn queries and keys of patches only, as timm does: class token and
    prompts are not turned. The query of attention pooling (SigLIP, Perception Encoder) looks at the tokens that it
    looked at in pre-training, not at prompts.
    """

    kind = TIMM
    visual: TimmModel

    def __init__(self, visual: TimmModel) -> None:
        super().__init__()
        self.visual = visual
        trunk: Any = visual.trunk
        self.prefix_tokens = trunk.num_prefix_tokens
        self.rotate_half = bool(getattr(trunk.blocks[0].attn, "rotate_half", False))
        projection = getattr(trunk.patch_embed, "proj", None)
        if isinstance(projection, nn.Conv2d) and not isinstance(
            getattr(trunk.patch_embed, "backbone", None), nn.Module
        ):
            self.first_convolution = "visual.trunk.patch_embed.proj"

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The trunk's blocks."""
        return self.visual.trunk.blocks

    def tokens(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """As `TransformerVision`."""
        trunk: Any = self.visual.trunk
        placed = trunk._pos_embed(trunk.patch_embed(pixels))
        x, table = placed if isinstance(placed, tuple) else (placed, None)
        return trunk.norm_pre(x), table

    def enter(self, prompts: Tensor) -> Tensor:
        """As `TransformerVision`."""
        return self.visual.trunk.norm_pre(prompts)

    def resize(self, size: int) -> None:
        """As `VisionTower`. timm interpolates the positions and computes the rotary ones anew."""
        trunk: Any = self.visual.trunk
        refuse_size(size, trunk.patch_embed.img_size[0] // trunk.patch_embed.grid_size[0])
        trunk.set_input_size(img_size=(size, size))
        self.visual.image_size = (size, size)

    def read(self, tokens: int) -> slice:
        """As `TransformerVision`."""
        trunk: Any = self.visual.trunk
        if trunk.global_pool == "token":
            return slice(1)
        if trunk.global_pool == "avg":
            whole = bool(getattr(trunk, "pool_include_prefix", False))
        else:  # Eva's attention pooling takes all tokens, a ViT's says so
            whole = bool(getattr(trunk, "pool_include_prefix", True))
        return slice(0 if whole else self.prefix_tokens, tokens)

    def head(self, x: Tensor) -> Tensor:
        """As `TransformerVision`."""
        trunk: Any = self.visual.trunk
        x = trunk.norm(x)
        if trunk.global_pool == "token":
            pooled = x[:, 0]
        else:
            pooled = x.mean(dim=1) if trunk.attn_pool is None else trunk.attn_pool(x)
        return self.visual.head(trunk.head(trunk.fc_norm(pooled)))


class TimmViTFamily:
    """Models with a ViT of timm whose blocks are `Block` or `EvaBlock`, and open_clip's own text tower."""

    def support(self, config: Mapping[str, Any]) -> Support | None:
        """As `Family`: a name of timm's ViT or EVA files."""
        vision = config["vision_cfg"]
        name = vision.get("timm_model_name")
        if not name or not is_model_in_modules(name, _MODULES):
            return None
        reason = text_config_refusal(config)
        if not reason and (pool := vision.get("timm_pool", "avg")) not in _POOLS:
            # open_clip then takes the pooling of timm's model, which nothing states before the model is built.
            left_out = "its config does not say how its vision tower is pooled"
            reason = f"its vision tower is pooled by '{pool}'" if pool else left_out
        return Support("timm_vit", "none" if reason else "full", reason)

    def accepts(self, model: nn.Module) -> bool:
        """As `Family`."""
        trunk = getattr(getattr(model, "visual", None), "trunk", None)
        return (
            isinstance(trunk, VisionTransformer | Eva)
            and type(trunk)
            in (VisionTransformer, Eva)  # a subclass may read other tokens, as a distilled DeiT does
            and trunk.global_pool in _POOLS
            and not getattr(trunk, "rope_mixed", False)
            and all(is_timm_block(block) for block in trunk.blocks)
            and not text_refusal(model)
        )

    def towers(self, model: Any, tokenizer: Tokenizer) -> Towers:
        """As `Family`. Raises UserError for an image size that is not the trunk's, with which open_clip builds too."""
        trunk = model.visual.trunk
        stated, taken = model.visual.image_size[0], trunk.patch_embed.img_size[0]
        if stated != taken:
            raise UserError(
                f"image_size = {stated} is said of a vision tower for {taken} pixels",
                f"correct it in the config; frames of another size: --image-size {stated}",
            )
        block = trunk.blocks[0]
        conventions = {
            "heads": block.attn.num_heads,
            "activation": activation_name(block.mlp.act),
            "pool": trunk.global_pool,
            "trunk": f"{type(trunk).__name__}, norm eps {block.norm1.eps:g}",
        }
        return assemble(model, TimmVision(model.visual), tokenizer, conventions)


BACKBONES.register("timm_vit")(TimmViTFamily())
