"""Soft text prompts: CoOp's at the input layer, deep ones before each block."""

from ga2clip.model.part import Part, Prompts, Site, random_prompts
from ga2clip.registry import PARTS


@PARTS.register("text_prompt")
class TextPrompt(Part):
    """`method.text_depth` learnable prompts (n, W_t), the first for the input layer."""

    order = 10
    trains = frozenset({"text"})

    def __init__(self, site: Site) -> None:
        super().__init__()
        method = site.settings.method
        start = site.phrase_prompts(method.text_init, method.text_length)
        if method.deep_init == "random":
            start = start[:1]
        depth = min(method.text_depth, site.text.depth)
        self.layers = random_prompts(method.text_length, site.text.width, depth, start)

    @classmethod
    def build(cls, site: Site) -> "TextPrompt | None":
        """The part if `method.text_length` and `method.text_depth` are above 0."""
        method = site.settings.method
        return cls(site) if method.text_length and method.text_depth else None

    def prompts(self, prompts: Prompts) -> Prompts:
        """Its prompts in the text tower."""
        return prompts._replace(text=list(self.layers))

    def describe(self) -> str:
        """Length × depth."""
        return f"text {len(self.layers[0])}×{len(self.layers)}"
