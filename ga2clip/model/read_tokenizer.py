"""The tokenizer that an open_clip model config asks for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ga2clip.errors import UserError
from ga2clip.model.family import Tokenizer
from ga2clip.tokenizer import VOCABULARY, ClipTokenizer


def read_tokenizer(text: Mapping[str, Any], folder: Path | None, source: str) -> Tokenizer:
    """The tokenizer of a text tower.

    Args:
        text: open_clip's `text_cfg`.
        folder: where the weights are, with a `tokenizer.json` beside them; None: it is downloaded.
        source: the weights, for messages.

    Raises:
        UserError: no tokenizer to be had, or one with more ids than the tower has embeddings.
    """
    name = text.get("hf_tokenizer_name")
    size = text.get("vocab_size", VOCABULARY)
    if name:
        raise UserError(f"{source} needs the tokenizer {name}", "not yet")
    if size != VOCABULARY:
        raise UserError(
            f"{source} has a vocabulary of {size:,}; CLIP's tokenizer has {VOCABULARY:,}",
            "it was trained with another tokenizer, so it would be given the wrong words",
        )
    return ClipTokenizer.from_open_clip()
