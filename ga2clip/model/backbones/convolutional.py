"""Convolutional vision towers: ResNet, ConvNeXt, FastViT (MobileCLIP-S). Everything but vision prompts works."""

from collections.abc import Mapping
from typing import Any

from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from timm.models import is_model_in_modules
from timm.utils.model import reparameterize_model
from torch import Tensor, nn

from ga2clip.errors import UserError
from ga2clip.model.family import Support, Towers, assemble
from ga2clip.model.text_tower import text_config_refusal, text_refusal
from ga2clip.model.towers import LayerPrompts, LayerWeights, VisionTower, refuse_size
from ga2clip.registry import BACKBONES
from ga2clip.tokenizer import Tokenizer

_MODULES = ("convnext", "fastvit", "resnet", "byobnet", "resnetv2", "regnet")
_STRIDE = 32
_NO_PROMPTS = "its vision tower is convolutional and has no tokens that prompts could join"


class ConvolutionalVision(VisionTower):
    """A convolutional tower of open_clip or timm as it is: nothing enters it."""

    no_prompts = _NO_PROMPTS
    depth = 0
    hidden = 0
    gates = 1

    def __init__(self, visual: ModifiedResNet | TimmModel, width: int) -> None:
        super().__init__()
        self.visual, self._width = visual, width

    @property
    def width(self) -> int:
        """Channels of the last feature map."""
        return self._width

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """None: no weights can be changed."""
        return ()

    def forward(
        self, pixels: Tensor, prompts: LayerPrompts = (), weights: LayerWeights = (), clip: int = 0
    ) -> Tensor:
        """Encode frames. `prompts`, `weights` and `clip` are empty: what would fill them is refused."""
        assert not prompts
        assert not any(weights)
        assert not clip
        return self.run(self.visual, pixels)

    def resize(self, size: int) -> None:
        """As `VisionTower`: a convolution takes any size. Attention pooling (ResNet) has positions."""
        refuse_size(size, _STRIDE)
        if isinstance(self.visual, ModifiedResNet):
            raise UserError(
                "a ResNet that is pooled by attention takes frames of the size it was trained with alone",
                "leave out backbone.image_size",
            )

    def simplified(self) -> VisionTower:
        """As `VisionTower`: parallel branches and batch norms of FastViT (MobileCLIP, CVPR 2024) in one convolution."""
        return ConvolutionalVision(reparameterize_model(self.visual), self._width).eval()


class ConvolutionalFamily:
    """Models with open_clip's ResNet or a convolutional model of timm, and open_clip's own text tower."""

    def support(self, config: Mapping[str, Any]) -> Support | None:
        """As `Family`: a ResNet of open_clip, or a name of timm's convolutional files."""
        vision = config["vision_cfg"]
        name = vision.get("timm_model_name")
        if not (
            is_model_in_modules(name, _MODULES) if name else isinstance(vision.get("layers"), list | tuple)
        ):
            return None
        reason = text_config_refusal(config)
        return (
            Support("convolutional", "none", reason)
            if reason
            else Support("convolutional", "text", _NO_PROMPTS)
        )

    def accepts(self, model: nn.Module) -> bool:
        """As `Family`."""
        visual: Any = getattr(model, "visual", None)
        if isinstance(visual, TimmModel):
            module = type(visual.trunk).__module__.rpartition(".")[2]
            return module in _MODULES and not text_refusal(model)
        return isinstance(visual, ModifiedResNet) and not text_refusal(model)

    def towers(self, model: Any, tokenizer: Tokenizer) -> Towers:
        """As `Family`."""
        visual = model.visual
        timm = isinstance(visual, TimmModel)
        width = visual.trunk.num_features if timm else visual.attnpool.c_proj.in_features
        kind = type(visual.trunk if timm else visual).__name__
        heads = {} if timm else {"heads": visual.attnpool.num_heads}
        return assemble(model, ConvolutionalVision(visual, width), tokenizer, {**heads, "trunk": kind})


BACKBONES.register("convolutional")(ConvolutionalFamily())
