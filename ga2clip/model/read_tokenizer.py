"""The tokenizer that an open_clip model config asks for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_clip.tokenizer import HFTokenizer

from ga2clip.errors import UserError, first_line
from ga2clip.tokenizer import VOCABULARY, ClipTokenizer, Tokenizer
from ga2clip.tokenizer_files import tokenizer_for, tokenizer_like


def read_tokenizer(text: Mapping[str, Any], folder: Path | None, source: str) -> Tokenizer:
    """The tokenizer of a text tower.

    Args:
        text: open_clip's `text_cfg`.
        folder: where the weights are, with a `tokenizer.json` beside them; None: it is downloaded.
        source: the weights, for messages.

    Raises:
        UserError: no tokenizer to be had, or one whose ids are not those of the tower's embeddings.
        MissingExtraError: the `tokenizers` library is not installed.
    """
    name = text.get("hf_tokenizer_name")
    tokenizer = _downloaded(text, name) if name and folder is None else tokenizer_for(text, folder)
    size = text.get("vocab_size", VOCABULARY)
    if tokenizer.size > size or (isinstance(tokenizer, ClipTokenizer) and size != VOCABULARY):
        whose = "CLIP's tokenizer" if isinstance(tokenizer, ClipTokenizer) else "its tokenizer.json"
        raise UserError(
            f"{source} has a vocabulary of {size:,}; {whose} has {tokenizer.size:,}",
            "it was trained with another tokenizer, so it would be given the wrong words",
        )
    return tokenizer


def _downloaded(text: Mapping[str, Any], name: str) -> Tokenizer:
    try:
        theirs = HFTokenizer(
            name,
            context_length=text.get("context_length", 77),
            tokenizer_mode=text.get("tokenizer_mode"),
            **text.get("tokenizer_kwargs", {}),
        )
    except ImportError:
        raise UserError(
            f"downloading the tokenizer {name} needs the package transformers",
            "pip install transformers, or give the model's folder with its tokenizer.json: --pretrained FOLDER",
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"could not get the tokenizer {name}: {first_line(error)}",
            "check the network connection, or give the model's folder with its tokenizer.json",
        ) from None
    return tokenizer_like(theirs)
