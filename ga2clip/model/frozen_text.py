"""Text features of the backbone without prompts, and prompts that start from a phrase."""

from collections.abc import Sequence
from importlib import resources

import torch
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.labels import fill, unknown_words
from ga2clip.model.backbone import Backbone
from ga2clip.settings import AnchorSettings, OutlierSettings


@torch.no_grad()
def frozen_text_features(backbone: Backbone, texts: Sequence[str]) -> Tensor:
    """Features (N, D) of texts from the text tower without prompts.

    Raises UserError for a text that is too long for the context.
    """
    return backbone.text(backbone.ids(texts))


def class_text_features(backbone: Backbone, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Features (C, D) of class names: the mean of the unnormalised features over the templates.

    This is how PromptSRC's authors average their teacher.
    """
    features = [frozen_text_features(backbone, [fill(t, name) for name in names]) for t in templates]
    return torch.stack(features).mean(dim=0)


def negative_features(backbone: Backbone, settings: AnchorSettings) -> Tensor:
    """Features (K, D) of the negative prompts, to which anchor videos are compared.

    Raises UserError for an empty list of negatives.
    """
    if not settings.negatives:
        raise UserError(
            "anchors need at least one negative prompt", """--set 'anchors.negatives=["nothing"]'"""
        )
    return frozen_text_features(
        backbone, [fill(settings.negative_template, text) for text in settings.negatives]
    )


def outlier_words(settings: OutlierSettings, classes: Sequence[str]) -> tuple[str, ...]:
    """The words of the settings, by default the built-in ones, without those that are class names.

    Raises:
        UserError: where none is left.
    """
    file = resources.files("ga2clip.assets") / "words.txt"
    known = {name.casefold() for name in classes}
    words = settings.words or file.read_text(encoding="utf-8").split()
    others = tuple(word for word in dict.fromkeys(words) if word.casefold() not in known)
    if not others:
        raise UserError(
            "all outlier words are class names", """name others: --set 'outliers.words=["apple", "sea"]'"""
        )
    return others


@torch.no_grad()
def phrase_embedding(backbone: Backbone, phrase: str) -> Tensor:
    """The token embeddings (n, W) of a phrase, without SOT and EOT. Raises UserError for an empty phrase."""
    ids = backbone.tokenizer.encode(phrase)
    if not ids:
        raise UserError(f"the phrase '{phrase}' has no words")
    return backbone.text.embed(torch.tensor(ids, device=backbone.logit_scale.device)).clone()


@torch.no_grad()
def phrase_prompts(backbone: Backbone, phrase: str, length: int) -> list[Tensor]:
    """Initial text prompts of all layers that have the effect of writing the phrase before every class name.

    The input prompt ends with the phrase, next to the class name; if it is longer, random tokens come first. Deeper
    prompts start from the frozen tower's hidden states at these positions, so that training starts from the zero-shot
    model and not from one whose prompt positions are noise. In a text tower without causal mask these states depend on
    the name; those before no name are taken. An empty phrase gives an empty list.
    """
    if not phrase or not length:
        return []
    words = phrase_embedding(backbone, phrase)[-length:]
    start = torch.randn(length, words.shape[1]) * words.std()
    start[length - len(words) :] = words
    return backbone.text.prefix_states(start, backbone.ids([""], length))


def trained_tokens(backbone: Backbone) -> tuple[int, ...]:
    """The ids of the tokens that pre-training saw, whose embedding is not zero; empty: all, as of real CLIPs."""
    seen = (backbone.text.token_embedding.weight != 0).any(dim=1)
    return () if bool(seen.all()) else tuple(seen.nonzero()[:, 0].tolist())


def unknown_class_words(backbone: Backbone, names: Sequence[str]) -> list[str]:
    """The words in class names that the backbone's text tower has never seen."""
    return unknown_words(names, backbone.tokenizer.encode, trained_tokens(backbone))
