"""What a `tokenizer.json` may hold: checked before the `tokenizers` library (Rust) parses it.

The library trusts its files: a regular expression may take forever, a replacement may grow a text without end, and a
damaged table of characters ends in a panic. So a file may have only the steps that the tokenizers of open_clip's
models are made of, with parameters that can do neither.
"""

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ga2clip.errors import UserError
from ga2clip.text import printable

_AGAIN = "take the tokenizer.json of the model's publisher again"
_MOST_TOKENS = 2**21
_LONGEST_TOKEN = 2000
_EXPRESSIONS = (
    r"\s+",
    " {2,}",
    r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
)
"""The regular expressions in known files, none of which backtracks: blanks, and CLIP's words."""


class Template(NamedTuple):
    """The ids that a tokenizer adds before and behind a text."""

    start: tuple[int, ...] = ()
    end: tuple[int, ...] = ()


class _Step(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


_Letter = Annotated[str, Field(max_length=1)]
_Id = Annotated[int, Field(ge=0, lt=2**31, strict=True)]


class _Text(_Step):
    String: Annotated[str, Field(min_length=1, max_length=20)]


class _Expression(_Step):
    Regex: Literal[_EXPRESSIONS]  # type: ignore[valid-type]


_Pattern = _Text | _Expression


class _Plain(_Step):
    """Steps without parameters."""

    type: Literal[
        "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt",
        "BertPreTokenizer", "Whitespace", "WhitespaceSplit",
    ]  # fmt: skip


class _Strip(_Step):
    type: Literal["Strip"]
    strip_left: bool
    strip_right: bool


class _Bert(_Step):
    type: Literal["BertNormalizer"]
    clean_text: bool
    handle_chinese_chars: bool
    strip_accents: bool | None
    lowercase: bool


class _Prepend(_Step):
    type: Literal["Prepend"]
    prepend: _Letter


class _Replace(_Step):
    """Replacements that can't make a text longer."""

    type: Literal["Replace"]
    pattern: _Pattern
    content: _Letter


class _Precompiled(_Step):
    type: Literal["Precompiled"]
    precompiled_charsmap: str


class _Metaspace(_Step):
    type: Literal["Metaspace"]
    replacement: Annotated[str, Field(min_length=1, max_length=1)]
    prepend_scheme: Literal["always", "never", "first"] | None = None
    split: bool | None = None
    add_prefix_space: bool | None = None
    str_rep: _Letter | None = None


class _ByteLevel(_Step):
    type: Literal["ByteLevel"]
    add_prefix_space: bool = True
    trim_offsets: bool = True
    use_regex: bool = True


class _Split(_Step):
    type: Literal["Split"]
    pattern: _Pattern
    behavior: Literal["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
    invert: bool


class _Digits(_Step):
    type: Literal["Digits"]
    individual_digits: bool


class _Punctuation(_Step):
    type: Literal["Punctuation"]
    behavior: Literal["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


_Single = Annotated[
    _Plain | _Strip | _Bert | _Prepend | _Replace | _Precompiled | _Metaspace | _ByteLevel | _Split
    | _Digits | _Punctuation,
    Field(discriminator="type"),
]  # fmt: skip


class _Sequence(_Step):
    """Steps one after the other; files nest no sequences."""

    type: Literal["Sequence"]
    normalizers: Annotated[list[_Single], Field(max_length=16)] = []
    pretokenizers: Annotated[list[_Single], Field(max_length=16)] = []


_Steps = _Single | _Sequence | None


class _Special(_Step):
    id: str
    ids: Annotated[list[_Id], Field(min_length=1, max_length=1)]
    tokens: list[str]


class _Piece(_Step):
    SpecialToken: dict[str, Any] | None = None
    Sequence: dict[str, Any] | None = None


class _Processing(_Step):
    type: Literal["TemplateProcessing"]
    single: Annotated[list[_Piece], Field(max_length=8)]
    pair: Any = None
    special_tokens: dict[str, _Special]


class _Around(_Step):
    """BERT's and RoBERTa's: a token before and one behind the text."""

    type: Literal["BertProcessing", "RobertaProcessing"]
    sep: tuple[str, _Id]
    cls: tuple[str, _Id]
    trim_offsets: bool = True
    add_prefix_space: bool = True


_Processor = Annotated[_Processing | _Around | _ByteLevel, Field(discriminator="type")] | None


class _Added(_Step):
    id: _Id
    content: Annotated[str, Field(min_length=1, max_length=_LONGEST_TOKEN)]
    single_word: bool
    lstrip: bool
    rstrip: bool
    normalized: bool
    special: bool


class _File(_Step):
    """Everything but the model, whose vocabulary is checked by hand: it may have a million entries."""

    version: Any = None
    truncation: Any = None
    padding: Any = None
    decoder: Any = None
    model: dict[str, Any]
    added_tokens: Annotated[list[_Added], Field(max_length=2**16)] = []
    normalizer: _Steps = None
    pre_tokenizer: _Steps = None
    post_processor: _Processor = None


_FILE = TypeAdapter(_File)


def check_tokenizer(tree: Mapping[str, Any], source: str) -> Template:
    """Check the content of a `tokenizer.json`.

    Args:
        tree: the file's JSON object.
        source: its name, for messages.

    Returns:
        The ids that it adds to every text.

    Raises:
        UserError: a step that is not known here, or a damaged part.
    """
    try:
        file = _FILE.validate_python(tree)
        _check_model(file.model)
        for step in _single_steps(file.normalizer, file.pre_tokenizer):
            if isinstance(step, _Precompiled):
                _check_characters(step.precompiled_charsmap)
        return _template(file.post_processor)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"])
        raise UserError(printable(f"{source}: {where}: {first['msg'][:300]}"), _AGAIN) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(printable(f"{source} is not a tokenizer.json: {str(error)[:200]}"), _AGAIN) from None


def _single_steps(*chains: Any) -> list[_Step]:
    steps: list[_Step] = []
    for chain in chains:
        if isinstance(chain, _Sequence):
            steps += [*chain.normalizers, *chain.pretokenizers]
        elif chain is not None:
            steps.append(chain)
    if sum(isinstance(step, _Precompiled) for step in steps) > 1:
        raise ValueError("it has more than one table of characters")
    return steps


def _template(processor: Any) -> Template:
    if isinstance(processor, _Around):
        return Template((processor.cls[1],), (processor.sep[1],))
    if not isinstance(processor, _Processing):
        return Template()
    places = [piece.SpecialToken is None for piece in processor.single]
    if places.count(True) != 1:
        raise ValueError("its post-processor does not place one text")
    ids = [
        () if piece.SpecialToken is None else tuple(processor.special_tokens[piece.SpecialToken["id"]].ids)
        for piece in processor.single
    ]
    text = places.index(True)
    return Template(sum(ids[:text], ()), sum(ids[text:], ()))


def _check_model(model: Mapping[str, Any]) -> None:
    kind = model.get("type", "BPE" if "merges" in model else "Unigram")
    vocabulary = model["vocab"]
    if not 1 <= len(vocabulary) <= _MOST_TOKENS:
        raise ValueError(f"its vocabulary has {len(vocabulary):,} tokens")
    if kind == "Unigram":
        _check_scored(vocabulary)
        unknown = model.get("unk_id")
        if unknown is not None and not (type(unknown) is int and 0 <= unknown < len(vocabulary)):
            raise ValueError(f"its unknown token is {unknown!r:.40}")
    elif kind in ("BPE", "WordPiece"):
        _check_numbered(vocabulary)
        # With a longer one, the library cuts pieces that are shorter than it, and panics.
        if len(model.get("continuing_subword_prefix") or "") > (0 if kind == "BPE" else 8):
            raise ValueError("its pieces have a prefix that is not known here")
        if kind == "WordPiece" and not 0 < model.get("max_input_chars_per_word", 0) <= 1000:
            raise ValueError("its words have no limit")
    else:
        raise ValueError(f"its model is of the kind {kind!r:.40}, not Unigram, BPE or WordPiece")
    if model.get("dropout"):
        raise ValueError("it splits words at random (dropout)")


def _check_scored(vocabulary: Any) -> None:
    if not isinstance(vocabulary, list):
        raise ValueError("its vocabulary is not a list")
    for entry in vocabulary:
        token, score = entry
        number = type(score) in (float, int) and math.isfinite(score)
        if not (type(token) is str and number and len(token) <= _LONGEST_TOKEN):
            raise ValueError(f"no token with its score: {entry!r:.60}")


def _check_numbered(vocabulary: Any) -> None:
    if not isinstance(vocabulary, dict):
        raise ValueError("its vocabulary is not an object")
    for token, number in vocabulary.items():
        if not (type(number) is int and 0 <= number < 2**31 and len(token) <= _LONGEST_TOKEN):
            raise ValueError(f"no token with its number: {token!r:.60} {number!r:.20}")


def _check_characters(encoded: str) -> None:
    """Check a sentencepiece table of characters: a double-array trie, then the texts that it points to.

    The library follows the trie without looking at its bounds. All places that a byte can lead to must exist, and each
    text must begin at a character. Layout of a unit: `darts.h` of sentencepiece, third_party/darts_clone.
    """
    try:
        table = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("its table of characters is not base64") from None
    size = int.from_bytes(table[:4], "little")
    if len(table) < 8 or size % 4 or not 4 <= size <= len(table) - 4:
        raise ValueError("its table of characters is cut off")
    units = np.frombuffer(table[4 : 4 + size], "<u4").astype(np.int64)
    texts = table[4 + size :]
    texts.decode("utf-8")
    starts = np.ones(len(texts) + 1, bool)
    starts[:-1] = (np.frombuffer(texts, np.uint8) & 0xC0) != 0x80
    is_value = units >> 31 == 1
    if is_value[0]:
        raise ValueError("its table of characters has no root")
    nodes = np.flatnonzero(~is_value)
    unit = units[nodes]
    target = nodes ^ ((unit >> 10) << ((unit & (1 << 9)) >> 6))
    if ((target | 0xFF) >= len(units)).any():
        raise ValueError("its table of characters leads out of itself")
    values = units[target[(unit >> 8) & 1 == 1]]
    places = values & (2**31 - 1)
    if not ((values >> 31 == 1) & (places <= len(texts))).all() or not starts[places].all():
        raise ValueError("its table of characters leads to no text")
