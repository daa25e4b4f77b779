"""Recovers the template and class names of a published checkpoint from the token embeddings that it stores.

ViFi-CLIP and GA2-CLIP store the embedded texts of their classes. They are compared token by token with the names that
the user gives, so that a wrong name, order or template is detected.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.labels import fill
from ga2clip.model.backbone import Backbone
from ga2clip.text import counted
from ga2clip.tokenizer import ClipTokenizer

WHOLE_TEXTS = "prompt_learner.complete_text_embeddings"
"""(C, L, W): the class texts of a model without text prompt, start token included."""
START, BEHIND_PROMPT = "prompt_learner.token_prefix", "prompt_learner.token_suffix"
"""(C, 1, W): the start token; (C, L − 1 − n, W): the tokens after the n prompt positions."""
KEYS = (WHOLE_TEXTS, START, BEHIND_PROMPT)

_BLANK_BEFORE_MARK = re.compile(r" (?=[.,;:!?])")
_READ = 16
"""Most texts that are decoded to find the template; each token is compared with the whole vocabulary."""


def find_template(
    published: Mapping[str, Tensor],
    backbone: Backbone,
    names: Sequence[str],
    source: str,
    template: str | None = None,
    *,
    prompted: bool,
) -> str:
    """The template that, filled with the class names, gives the texts stored in the checkpoint.

    Args:
        published: the checkpoint's flat state dict.
        backbone: of the checkpoint, with the token embedding it was tuned with.
        names: class names in the checkpoint's order.
        source: the checkpoint, for messages.
        template: the only one to try; None finds it in the checkpoint.
        prompted: whether the checkpoint has a text prompt, so that its texts are stored in two parts.

    Returns:
        The text after the prompt positions, or the whole sentence if there are none; with `{_}` if underscores of
        class names were kept.

    Raises:
        UserError: no class texts in the checkpoint, another number of classes, a name that differs from the stored
            one (the message has the stored text), another template, or another token embedding.
    """
    tokenizer = backbone.tokenizer
    if not isinstance(tokenizer, ClipTokenizer):
        raise UserError(
            f"{source} was tuned from a CLIP, and the given backbone has another tokenizer than CLIP's",
            "give the CLIP that it started from: --clip-weights FILE",
        )
    start, stored = _split_texts(published, backbone, source, prompted)
    if len(stored) != len(names):
        raise UserError(f"{source} was tuned on {counted(len(stored), 'class')}, the list has {len(names)}")
    texts = _StoredTexts(stored.float(), backbone, tokenizer)
    if not texts.same(start.float().flatten(0, 1), tokenizer.start).all():
        raise _other_embedding(source)
    right: dict[str, list[bool]] = {}
    for candidate in itertools.chain([] if template is None else [template], texts.templates(names)):
        right[candidate] = texts.agree(candidate, names)
        if all(right[candidate]):
            break
    best = max(right, key=lambda candidate: sum(right[candidate]), default="")
    if template not in (None, best):
        raise UserError(
            f"{source} was not tuned with the template '{template}' but with '{best}'",
            "leave out --template",
        )
    if right and all(right[best]):
        return best
    wrong = right[best].index(False) if right else 0
    text = texts.read(wrong)
    if right and tokenizer.encode(text) == tokenizer.encode(fill(best, names[wrong])):
        raise _other_embedding(source)
    raise UserError(
        f"class {wrong + 1} of the list, '{names[wrong]}', is not what {source} was tuned on: "
        f"its text reads '{text}'",
        "give the names in the checkpoint's order, spelled as its label file has them",
    )


def _split_texts(
    published: Mapping[str, Tensor], backbone: Backbone, source: str, prompted: bool
) -> tuple[Tensor, Tensor]:
    """The start tokens (C, 1, W) and what stands behind them and behind the prompt (C, L, W)."""
    needed = (START, BEHIND_PROMPT) if prompted else (WHOLE_TEXTS,)
    if missing := [name for name in needed if name not in published]:
        raise UserError(
            f"{source} does not hold the texts of its classes (missing: {', '.join(missing)}), so nothing can "
            "tell whether the names, their order and the template are those it was tuned with",
            "take the checkpoint as its training saved it; both repositories store these tensors",
        )
    for name in needed:
        shape = tuple(published[name].shape)
        if len(shape) != 3 or shape[2] != backbone.text.width or not 1 <= shape[1] <= backbone.context_length:
            raise UserError(f"{source}: {name} has the shape {shape}, which class texts do not have")
    if prompted:
        return published[START], published[BEHIND_PROMPT]
    return published[WHOLE_TEXTS][:, :1], published[WHOLE_TEXTS][:, 1:]


def _other_embedding(source: str) -> UserError:
    return UserError(
        f"{source} was tuned with another token embedding than that of the given CLIP",
        "give the CLIP that it started from: --clip-weights FILE",
    )


def _precision(values: Tensor) -> float:
    """The spacing of numbers around 1 in the coarsest type that holds float32 values exactly."""
    for dtype in (torch.bfloat16, torch.float16):
        if torch.equal(values.to(dtype).float(), values):
            return torch.finfo(dtype).eps
    return torch.finfo(torch.float32).eps


class _StoredTexts:
    """Embedded class texts (C, L, W) float32 without start token, and the token embedding (V, W)."""

    def __init__(self, stored: Tensor, backbone: Backbone, tokenizer: ClipTokenizer) -> None:
        self.stored, self.tokenizer = stored, tokenizer
        self.vocabulary = backbone.text.token_embedding.weight.detach().float()
        # How far rounding moves a token, as norm over norm; another token is ~1 away. OpenAI's CLIPs, and so what
        # is tuned from them, passed through half precision whatever their files are stored in.
        types = _precision(stored), _precision(self.vocabulary), torch.finfo(torch.float16).eps
        self.rounding = sum(types)

    def same(self, rows: Tensor, tokens: Tensor | int) -> Tensor:
        """Whether each row (N, W) is the embedding of its token (N): (N,) bool."""
        expected = self.vocabulary[tokens]
        return (rows - expected).norm(dim=-1) <= self.rounding * expected.norm(dim=-1)

    def agree(self, template: str, names: Sequence[str]) -> list[bool]:
        """For each class, whether the filled template has the stored embeddings, including padding."""
        length = self.stored.shape[1]
        right = []
        for rows, name in zip(self.stored, names, strict=True):
            ids = [*self.tokenizer.encode(fill(template, name)), self.tokenizer.end]
            tokens = torch.tensor((ids + [0] * length)[:length])
            right.append(len(ids) <= length and bool(self.same(rows, tokens).all()))
        return right

    def read(self, index: int) -> str:
        """The text of a class: the tokens with the nearest embeddings, up to the end token."""
        nearest = torch.cdist(self.stored[index], self.vocabulary).argmin(dim=1)
        return _BLANK_BEFORE_MARK.sub("", self.tokenizer.decode(nearest.tolist()))

    def templates(self, names: Sequence[str]) -> Iterator[str]:
        """Candidates for the template: the text around the name, for the first classes."""
        for index, name in enumerate(names[:_READ]):
            text = self.read(index)
            for hole in ("{}", "{_}"):
                words = self.tokenizer.decode(self.tokenizer.encode(fill(hole, name)))
                words = re.escape(_BLANK_BEFORE_MARK.sub("", words))
                for place in re.finditer(rf"(?<![^\W_]){words}(?![^\W_])", text):
                    yield text[: place.start()] + hole + text[place.end() :]
