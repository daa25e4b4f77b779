"""`Backbone`, a frozen CLIP as two towers; strict loading of weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ga2clip.choices import ScoringRule
from ga2clip.errors import UserError
from ga2clip.model.family import towers_of
from ga2clip.text import some
from ga2clip.tokenizer import ClipTokenizer, Tokenizer, refuse_same_ids
from ga2clip.tokenizer_json import JsonTokenizer
from ga2clip.video import Preprocess


class Backbone(nn.Module):
    """A frozen CLIP as two towers, with its scoring rule, preprocessing, tokenizer, name and licence.

    vision, text: the towers. logit_scale: scalar; cosines are multiplied by its exponential. logit_bias: scalar, added
    to the logits of a sigmoid model; None for a softmax model. preprocess: of frames.

    Args:
        clip: a model of open_clip.
        tokenizer: the one that it was trained with; None: CLIP's.
    """

    def __init__(
        self,
        clip: nn.Module,
        *,
        name: str,
        licence: str,
        preprocess: Preprocess,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        super().__init__()
        towers = towers_of(clip, name, tokenizer or ClipTokenizer.from_open_clip())
        self.vision, self.text, self.logit_scale = towers.vision, towers.text, towers.logit_scale
        self.logit_bias = towers.logit_bias
        self.context_length, self.embed_dim = towers.context_length, towers.embed_dim
        self.tokenizer, self._conventions = towers.tokenizer, towers.conventions
        self.name, self.licence, self.preprocess = name, licence, preprocess
        self.requires_grad_(False).eval()

    @property
    def scoring(self) -> ScoringRule:
        """How logits become probabilities: a softmax over the classes, or a sigmoid of each."""
        return "softmax" if self.logit_bias is None else "sigmoid"

    @property
    def bias(self) -> float:
        """What is added to scale times cosine before a sigmoid; 0 with a softmax."""
        return 0.0 if self.logit_bias is None else float(self.logit_bias.detach())

    def ids(self, texts: Sequence[str], prompt_tokens: int = 0, *, distinct: bool = False) -> Tensor:
        """Ids (N, S) int64 of texts as the text tower takes them: behind SOT and `prompt_tokens` prompt positions.

        Raises UserError for a text that is too long for what the prompt leaves of the context, and with `distinct` for
        two different texts with the same ids.
        """
        room = self.context_length - prompt_tokens
        if room < 2:  # whatever the text is
            raise UserError(
                f"a prompt of {prompt_tokens} tokens leaves no room for words in the context of {self.context_length}",
                "make it shorter: --set method.text_length=N",
            )
        ids = self.tokenizer.tokens(texts, context=room)
        if distinct:
            refuse_same_ids(texts, ids)
        return torch.from_numpy(ids[:, self.text.start_tokens :]).to(self.logit_scale.device)

    def conventions(self) -> dict[str, Any]:
        """What influences its features but can't be seen in its weights, as JSON: heads, activation, preprocessing, and
        the tokenizer where it is not CLIP's.
        """
        tree = {**self._conventions, "preprocess": self.preprocess.to_json()}
        if isinstance(self.tokenizer, JsonTokenizer):
            tree["tokenizer"] = self.tokenizer.fingerprint
        return tree


def load_exactly(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict into a module. Raises UserError listing every missing, unexpected or misshapen tensor."""
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
