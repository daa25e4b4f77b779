"""Coupling of the frozen hard prompt with the soft one: GA2-CLIP's mapping layer and its variants."""

import torch
from torch import Tensor, nn

from ga2clip.errors import UserError
from ga2clip.model.part import Part, Prompts, Site
from ga2clip.registry import PARTS
from ga2clip.settings import MethodSettings


@PARTS.register("coupling")
class Coupling(Part):
    """The frozen hard prompt (n, W) joined with the soft one (n, W) of the input layer.

    mapping: ReLU(Linear(concat(hard, soft) along features, 2W → W)), then dropout: GA2-CLIP (arXiv 2511.22125),
    the mapping layer. residual: the same added to the soft prompt. gated: the same, times a learned number per channel
    that starts at zero (ReZero, UAI 2021, eq. 1, has one per layer), so that the coupled prompt is the soft one at the
    start. concat: no mapping, hard then soft as 2n tokens.

    The gate, and not a mapping of zeros, makes that start: a ReLU of zeros passes no gradient, so such a mapping would
    never train. `mapping` has no start that keeps the prompt, since what a ReLU returns is nowhere negative.
    """

    trains = frozenset({"text"})
    hard: Tensor

    def __init__(self, kind: str, hard: Tensor, dropout: float) -> None:
        super().__init__()
        self.kind = kind
        # Inter-modal maps see the coupled prompt, but not the tokens that `concat` puts before it.
        self.order = 40 if kind == "concat" else 20
        self.register_buffer("hard", hard.detach().clone().float())
        width = hard.shape[1]
        self.mapping = nn.Linear(2 * width, width) if kind != "concat" else None
        self.gate = nn.Parameter(torch.zeros(width)) if kind == "gated" else None
        self.dropout = nn.Dropout(dropout)

    @classmethod
    def build(cls, site: Site) -> "Coupling | None":
        """The part if `method.coupling` is set. Raises UserError for prompts of different lengths."""
        method, hard = site.settings.method, site.hard_prompt
        if method.coupling == "none":
            return None
        if hard is None:
            raise UserError(
                "coupling needs a hard prompt", "--hard-prompts takes a run, a published file or a phrase"
            )
        _check_lengths(method, hard)
        return cls(method.coupling, hard, method.coupling_dropout)

    def mix(self, soft: Tensor) -> Tensor:
        """The coupled prompt for a soft prompt (n, W): (n, W), or (2n, W) for `concat`."""
        if self.mapping is None:
            return torch.cat([self.hard, soft])
        mixed = self.dropout(torch.relu(self.mapping(torch.cat([self.hard, soft], dim=-1))))
        if self.gate is not None:
            mixed = self.gate * mixed
        return mixed if self.kind == "mapping" else soft + mixed

    def prompts(self, prompts: Prompts) -> Prompts:
        """Replace the soft text prompt of the input layer by the coupled prompt."""
        soft = prompts.text[0]
        assert soft is not None
        return prompts._replace(text=[self.mix(soft), *prompts.text[1:]])

    def describe(self) -> str:
        """Which kind."""
        return f"hard prompt, {self.kind}"


def _check_lengths(method: MethodSettings, hard: Tensor) -> None:
    if not method.text_length or not method.text_depth:
        raise UserError("coupling needs a soft text prompt", "set method.text_length above 0")
    if method.coupling != "concat" and len(hard) != method.text_length:
        raise UserError(
            f"the hard prompt has {len(hard)} tokens and the soft prompt {method.text_length}; "
            "the mapping layer needs as many",
            f"set method.text_length={len(hard)}",
        )
