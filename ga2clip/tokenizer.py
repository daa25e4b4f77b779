"""CLIP's tokenizer: texts to token ids int64 (N, L), torch-free and equal to open_clip's own.

The algorithm is CLIP's byte-pair encoding (Radford et al. 2021, after Sennrich et al. 2016): text is cleaned
and lower-cased, cut into words, each word's UTF-8 bytes become symbols, and the pair of neighbours that comes
first in the merge list is joined until none is left.

`Tokenizer` is what the project needs of a tokenizer; those of other families are in `tokenizer_json.py`.
"""

import functools
import gzip
import html
import importlib.util
import itertools
import json
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ftfy
import numpy as np
import numpy.typing as npt
import regex

from ga2clip.choices import Cleaning
from ga2clip.errors import MissingExtraError, UserError

START, END = "<start_of_text>", "<end_of_text>"
VOCABULARY = 49408  # ids of CLIP's tokenizer; the last one is the end token
CONTEXT = 77  # tokens of CLIP's text towers, both special tokens among them
_END_OF_WORD = "</w>"
_MERGES = VOCABULARY - 2 * 256 - 2  # less two symbols per byte and the two special tokens
_WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CACHED_WORDS = 65536
_LARGEST_FILE = 8 * 2**20  # CLIP's own tokenizer.json has 2.2 MB
_PATTERN = regex.compile(f"{START}|{END}|{_WORDS}", regex.IGNORECASE)


class Tokenizer(Protocol):
    """Turns texts into token ids: start (if the tokenizer has one), words, end, padding."""

    @property
    def cleaning(self) -> Cleaning:
        """How texts are cleaned."""
        ...

    @property
    def start(self) -> int | None:
        """The id before every text; None for a tokenizer without one."""
        ...

    @property
    def pad(self) -> int:
        """The id that fills texts up."""
        ...

    @property
    def size(self) -> int:
        """Number of ids: the largest is `size` − 1."""
        ...

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without start and end tokens."""
        ...

    def tokens(
        self, texts: Sequence[str], length: int | None = None, context: int = ...
    ) -> npt.NDArray[np.int64]:
        """Start, ids and end of each text, filled up to `length` or the longest text: int64 (N, L).

        Raises UserError for a text that needs more than `length` (or `context`) tokens, since texts are never
        truncated, and for a text that spells a special token.
        """
        ...

    def to_json(self) -> str:
        """The tokenizer as Hugging Face's `tokenizer.json`."""
        ...


class ClipTokenizer:
    """CLIP's tokenizer for a merge list.

    Args:
        merges: pairs of symbols, most frequent first. They determine the vocabulary: 256 byte symbols, the same at the
            end of a word, one symbol per merge, then the start and end tokens.
        cleaning: how texts are cleaned.
    """

    pad = 0

    def __init__(self, merges: Sequence[tuple[str, str]], cleaning: Cleaning = "clip") -> None:
        self._merges, self.cleaning = list(merges), cleaning
        self._rank = {pair: rank for rank, pair in enumerate(self._merges)}
        self._symbol = _byte_symbols()
        symbols = list(self._symbol)
        symbols.sort(key=_vocabulary_order)
        characters = [self._symbol[byte] for byte in symbols]
        vocabulary = [
            *characters,
            *(character + _END_OF_WORD for character in characters),
            *(first + second for first, second in self._merges),
            START,
            END,
        ]
        self._id = {symbol: index for index, symbol in enumerate(vocabulary)}
        self._symbols = vocabulary
        self._byte = {character: byte for byte, character in self._symbol.items()}
        self._word_ids = functools.lru_cache(_CACHED_WORDS)(self._encode_word)

    @classmethod
    def from_open_clip(cls, cleaning: Cleaning = "clip") -> "ClipTokenizer":
        """The tokenizer over the merge list inside the installed open_clip package, which is not imported.

        Raises MissingExtraError when open_clip is not installed.
        """
        spec = importlib.util.find_spec("open_clip")
        if spec is None or not spec.submodule_search_locations:
            raise MissingExtraError("making a tokenizer from open_clip's vocabulary", "train")
        file = Path(spec.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
        lines = gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")[1 : _MERGES + 1]
        return cls([_pair(line) for line in lines], cleaning)

    @classmethod
    def from_json(cls, path: Path, cleaning: Cleaning = "clip") -> "ClipTokenizer":
        """The tokenizer that `to_json` wrote (Hugging Face's `tokenizer.json` format).

        Raises UserError for a file that can't be read or holds no byte-pair encoding.
        """
        try:
            if path.stat().st_size > _LARGEST_FILE:
                raise ValueError("too large")
            merges = json.loads(path.read_text(encoding="utf-8"))["model"]["merges"]
            return cls([_pair(merge) for merge in merges], cleaning)
        except OSError as error:
            raise UserError(f"cannot read tokenizer {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UserError(f"{path} is not a byte-pair tokenizer.json", "export the bundle again") from None

    def to_json(self) -> str:
        """The tokenizer as Hugging Face's `tokenizer.json`, which the `tokenizers` library reads.

        That format can't express CLIP's cleaning (ftfy, HTML entities), so other readers only agree on text that needs
        no cleaning.
        """
        special = [
            {
                "id": self._id[token],
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": True,
                "special": True,
            }
            for token in (START, END)
        ]
        tree: dict[str, Any] = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": special,
            "normalizer": {
                "type": "Sequence",
                "normalizers": [
                    {"type": "NFC"},
                    {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                    {"type": "Lowercase"},
                ],
            },
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": _WORDS}, "behavior": "Removed", "invert": True},
                    {
                        "type": "ByteLevel",
                        "add_prefix_space": False,
                        "trim_offsets": True,
                        "use_regex": False,
                    },
                ],
            },
            "post_processor": {
                "type": "RobertaProcessing",
                "sep": [END, self._id[END]],
                "cls": [START, self._id[START]],
                "trim_offsets": False,
                "add_prefix_space": False,
            },
            "decoder": {
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": True,
                "use_regex": True,
            },
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": END,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": _END_OF_WORD,
                "fuse_unk": False,
                "vocab": self._id,
                "merges": [f"{first} {second}" for first, second in self._merges],
            },
        }
        return json.dumps(tree, ensure_ascii=False, separators=(",", ":"))

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without start and end tokens."""
        return [token for word in split_words(text, self.cleaning) for token in self._word_ids(word)]

    @property
    def size(self) -> int:
        """Number of ids."""
        return len(self._symbols)

    @property
    def start(self) -> int:
        """The id of the start token."""
        return self._id[START]

    @property
    def end(self) -> int:
        """The id of the end token."""
        return self._id[END]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids up to the first end token: lower case, a blank between two words."""
        symbols = "".join(self._symbols[token] for token in itertools.takewhile(self.end.__ne__, ids))
        pieces = symbols.replace(START, "").split(_END_OF_WORD)
        words = (bytes(self._byte[character] for character in piece) for piece in pieces)
        return " ".join(word.decode("utf-8", "replace") for word in words).strip()

    def tokens(
        self, texts: Sequence[str], length: int | None = None, context: int = CONTEXT
    ) -> npt.NDArray[np.int64]:
        """Start token, ids, end token of each text, zero-padded: int64 (N, L).

        L is `length`, or the length of the longest text, so that little padding is computed. Raises UserError for a
        text that needs more than `length` (or `context`) tokens, since texts are never truncated, and for a text that
        contains the start or end token literally: CLIP's tokenizer would read it as a special token.
        """
        words = [self.encode(text) for text in texts]
        marks = {self.start: START, self.end: END}
        return rows(texts, words, [self.start], [self.end], self.pad, marks, length, context)

    def _encode_word(self, word: str) -> tuple[int, ...]:
        if word in (START, END):
            return (self._id[word],)
        symbols = [self._symbol[byte] for byte in word.encode("utf-8")]
        symbols[-1] += _END_OF_WORD
        while len(symbols) > 1:
            best = min(
                itertools.pairwise(symbols),
                key=lambda pair: self._rank.get(pair, len(self._rank)),
            )
            if best not in self._rank:
                break
            symbols = _join(symbols, best)
        return tuple(self._id[symbol] for symbol in symbols)


def rows(
    texts: Sequence[str],
    words: Sequence[Sequence[int]],
    start: Sequence[int],
    end: Sequence[int],
    pad: int,
    marks: Mapping[int, str],
    length: int | None,
    context: int,
) -> npt.NDArray[np.int64]:
    """The ids of texts, with start, end and padding: int64 (N, L), as `Tokenizer.tokens`.

    words: ids of each text. marks: the ids that no text may have, with their spelling.
    """
    limit = context if length is None else min(length, context)
    whole = [[*start, *ids, *end] for ids in words]
    for text, ids, row in zip(texts, words, whole, strict=True):
        if spelled := [marks[token] for token in ids if token in marks]:
            raise UserError(
                f"class text '{_shortened(text)}' holds '{spelled[0]}', which the tokenizer does not read as text",
                "write it in another way",
            )
        if len(row) > limit:
            raise UserError(
                f"class name too long for the context: '{_shortened(text)}' needs {len(row)} tokens, {limit} fit",
                "use a shorter class name or template",
            )
    width = max(map(len, whole), default=0) if length is None else length
    result = np.full((len(whole), width), pad, dtype=np.int64)
    for index, row in enumerate(whole):
        result[index, : len(row)] = row
    return result


def refuse_same_ids(texts: Sequence[str], ids: Iterable[npt.NDArray[Any]]) -> None:
    """Raises UserError for two class texts that a tokenizer gives the same ids (L,): they would share a feature.

    What CLIP's tokenizer tells apart, another one may not: punctuation that its cleaning removes, or characters that
    are not in its vocabulary.
    """
    seen: dict[bytes, str] = {}
    for text, row in zip(texts, ids, strict=True):
        other = seen.setdefault(row.tobytes(), text)
        if other != text:
            raise UserError(
                f"class texts '{_shortened(other)}' and '{_shortened(text)}' are the same to the model's tokenizer",
                "class names must differ in more than punctuation and characters that it does not know",
            )


def clean(text: str, rule: Cleaning) -> str:
    """The text, cleaned by a rule."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    if rule == "canonicalize":
        text = text.replace("_", " ").translate(_NO_PUNCTUATION)
    text = " ".join(text.split())
    return text if rule == "whitespace" else text.lower()


def split_words(text: str, rule: Cleaning = "clip") -> list[str]:
    """The words that CLIP's tokenizer encodes one by one: the text, cleaned and split."""
    words: list[str] = _PATTERN.findall(clean(text, rule))
    return words


def _join(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    index = 0
    while index < len(symbols):
        if tuple(symbols[index : index + 2]) == pair:
            joined.append(pair[0] + pair[1])
            index += 2
        else:
            joined.append(symbols[index])
            index += 1
    return joined


def _pair(merge: str | list[str]) -> tuple[str, str]:
    """A merge, given as "first second" or as a list of both. Raises ValueError or TypeError for anything else."""
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    if not (isinstance(first, str) and isinstance(second, str) and first and second):
        raise ValueError(f"not a pair of symbols: {merge!r:.60}")
    return first, second


def _printable(byte: int) -> bool:
    return 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte <= 0xFF


def _byte_symbols() -> dict[int, str]:
    """One visible character per byte: printable Latin-1 stands for itself, the others start at U+0100."""
    others = iter(range(0x100, 0x200))
    return {byte: chr(byte if _printable(byte) else next(others)) for byte in range(256)}


def _vocabulary_order(byte: int) -> tuple[bool, int]:
    return not _printable(byte), byte


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
