"""Soft vision prompts: VPT-Deep (ECCV 2022)."""

from ga2clip.model.part import Part, Prompts, Site, random_prompts, refuse_if_closed
from ga2clip.registry import PARTS


@PARTS.register("vision_prompt")
class VisionPrompt(Part):
    """`method.vision_depth` learnable prompts (m, W_v), the first for the input layer."""

    order = 10
    trains = frozenset({"vision"})

    def __init__(self, site: Site) -> None:
        super().__init__()
        method = site.settings.method
        depth = min(method.vision_depth, site.vision.depth)
        self.layers = random_prompts(method.vision_length, site.vision.width, depth)

    @classmethod
    def build(cls, site: Site) -> "VisionPrompt | None":
        """The part if length and depth are above 0 and no inter-modal map replaces the vision prompts.

        Raises UserError for a vision tower that takes no prompts.
        """
        method = site.settings.method
        replaced = method.inter_modal == "text-to-vision" and not method.inter_modal_free
        wanted = method.vision_length and method.vision_depth and not replaced
        if wanted:
            refuse_if_closed(
                site.vision, "vision prompts", "set method.vision_length=0, or take a method without them"
            )
        return cls(site) if wanted else None

    def prompts(self, prompts: Prompts) -> Prompts:
        """Its prompts in the vision tower."""
        return prompts._replace(vision=list(self.layers))

    def describe(self) -> str:
        """Length × depth."""
        return f"vision {len(self.layers[0])}×{len(self.layers)}"
