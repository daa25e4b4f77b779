"""Maps between the prompts of the two branches: MaPLe's and ViLT-CLIP's."""

from collections.abc import Sequence

from torch import Tensor, nn

from ga2clip.errors import UserError
from ga2clip.model.part import Part, Prompts, Site, Tower, refuse_if_closed
from ga2clip.registry import PARTS
from ga2clip.settings import MethodSettings


class LayerMaps(nn.Module):
    """One linear map per prompted layer, (n, W_from) → (n, W_to)."""

    def __init__(self, width_from: int, width_to: int, depth: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width_from, width_to) for _ in range(depth))

    def forward(self, prompts: Sequence[Tensor | None], free: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Mapped prompts, added to the free ones, for the layers that have a map; the free prompts for later layers."""
        mapped = [layer(prompt) for layer, prompt in zip(self.maps, prompts, strict=False)]
        if not free:
            return mapped
        return [m + f for m, f in zip(mapped, free, strict=False)] + list(free[len(mapped) :])


@PARTS.register("inter_modal")
class InterModal(Part):
    """Linear maps from one branch's prompts to the other's at every layer that is prompted in both.

    ViLT-CLIP (AAAI 2024) maps between the branches at every prompted layer; its formula is not in the abstract,
    so this is our reading: a linear map of the (coupled) prompt whose result is added to the free prompt there.
    With `method.inter_modal_free` False the result replaces that prompt, as in MaPLe (CVPR 2023), sec. 3.2.3.
    """

    order = 30

    def __init__(self, site: Site) -> None:
        super().__init__()
        method, text, vision = site.settings.method, site.text, site.vision
        depth = min(method.text_depth, text.depth, method.vision_depth, vision.depth)
        both = method.inter_modal == "both"
        to_vision, to_text = both or method.inter_modal == "text-to-vision", both or not _to_vision(method)
        self.to_vision = LayerMaps(text.width, vision.width, depth) if to_vision else None
        self.to_text = LayerMaps(vision.width, text.width, depth) if to_text else None
        self._direction = method.inter_modal + ("" if method.inter_modal_free else " (replacing)")
        reached: tuple[tuple[bool, Tower], ...] = ((to_vision, "vision"), (to_text, "text"))
        self.trains = frozenset(tower for there, tower in reached if there)

    @classmethod
    def build(cls, site: Site) -> "InterModal | None":
        """The part if `method.inter_modal` is set.

        Raises UserError for prompts of different lengths, and for a vision tower that takes none.
        """
        method = site.settings.method
        if method.inter_modal == "none":
            return None
        _check_lengths(method)
        refuse_if_closed(site.vision, "maps between the branches' prompts", "set method.inter_modal=none")
        return cls(site)

    def prompts(self, prompts: Prompts) -> Prompts:
        """Both branches mapped from what the other had before."""
        text, vision = prompts.text, prompts.vision
        return prompts._replace(
            text=self.to_text(vision, text) if self.to_text else text,
            vision=self.to_vision(text, vision) if self.to_vision else vision,
        )

    def describe(self) -> str:
        """Which direction."""
        return f"{self._direction} maps"


def _to_vision(method: MethodSettings) -> bool:
    return method.inter_modal == "text-to-vision"


def _check_lengths(method: MethodSettings) -> None:
    text, vision = method.text_length, method.vision_length
    if text != vision or not text or not method.text_depth:
        raise UserError(
            f"inter-modal maps need text and vision prompts of one length, got {text} and {vision}",
            "set method.text_length and method.vision_length to the same number",
        )
    if not _to_vision(method) and not method.inter_modal_free:
        raise UserError(
            "mapped prompts can replace the vision prompts only", "set method.inter_modal_free=true"
        )
