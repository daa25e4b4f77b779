"""Tokenizers of other families than CLIP's, from Hugging Face's `tokenizer.json`: SigLIP, MetaCLIP 2, CLIPA and others.

The `tokenizers` library (Rust) splits the text; it is the extra `multilingual`. Cleaning, special tokens, padding and
refusals are done here, and equal open_clip's `HFTokenizer` except that a text which is too long is refused, not cut.

A file may come with an untrusted bundle, so it is checked before the library sees it (`tokenizer_schema.py`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ga2clip.choices import Cleaning
from ga2clip.errors import MissingExtraError, UserError, first_line
from ga2clip.tokenizer import CONTEXT, clean, rows
from ga2clip.tokenizer_schema import Template, check_tokenizer

_LARGEST_FILE = 128 * 2**20
"""Bytes. The largest one known, of MetaCLIP 2 worldwide (XLM-V, 901,629 tokens), has about 60 MB."""
_CHARACTERS_PER_TOKEN = 100
"""Characters of a text per token of the context, above which it is too long without being split."""
_AGAIN = "export the bundle again, or take the tokenizer.json of the model's publisher again"


class JsonTokenizer:
    """A tokenizer by its `tokenizer.json`.

    Args:
        content: the file, as text.
        source: its name, for messages.
        cleaning: how texts are cleaned.
        pad: id that fills texts up.
        blank_end: replace the end token by 0, as open_clip does for CLIPA (`strip_sep_token`).

    Attributes:
        start, end: ids before and behind every text, by the file's post-processor; None: there is none.

    Raises:
        UserError: the file is damaged, too large, or of a kind that we don't know.
        MissingExtraError: the `tokenizers` library is not installed.
    """

    def __init__(
        self,
        content: str,
        source: str,
        *,
        cleaning: Cleaning,
        pad: int,
        blank_end: bool = False,
    ) -> None:
        self.cleaning, self.pad, self.blank_end, self._source = cleaning, pad, blank_end, source
        self._tree = parse(content, source)
        template = check_tokenizer(self._tree, source)
        self.start = _at_most_one(template, "start", source)
        end = _at_most_one(template, "end", source)
        self.end = 0 if blank_end and end is not None else end
        self._marks = _special_tokens(self._tree)
        self._library = self._load()

    @classmethod
    def from_file(
        cls, path: Path, *, cleaning: Cleaning, pad: int, blank_end: bool = False
    ) -> "JsonTokenizer":
        """The tokenizer of a file. Raises as the class."""
        return cls(read_text(path), str(path), cleaning=cleaning, pad=pad, blank_end=blank_end)

    @property
    def size(self) -> int:
        """Number of ids: the largest is `size` − 1."""
        vocabulary = self._tree["model"]["vocab"]
        largest = len(vocabulary) - 1 if isinstance(vocabulary, list) else max(vocabulary.values())
        return 1 + max([largest, *(token["id"] for token in self._tree.get("added_tokens", ()))])

    @property
    def fingerprint(self) -> str:
        """SHA-256, 64 hexadecimal digits, of the file and of how it is used."""
        used = f"{self.cleaning} {self.pad} {self.blank_end} {self.to_json()}"
        return hashlib.sha256(used.encode("utf-8", "surrogatepass")).hexdigest()

    def to_json(self) -> str:
        """The tokenizer's file, without line breaks."""
        return _compact(self._tree)

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without start and end tokens."""
        try:
            ids: list[int] = self._library.encode(clean(text, self.cleaning), add_special_tokens=False).ids
        except BaseException as error:
            raise self._failed(error, f"the tokenizer cannot read '{text[:60]}'") from None
        return ids

    def tokens(
        self, texts: Sequence[str], length: int | None = None, context: int = CONTEXT
    ) -> npt.NDArray[np.int64]:
        """As `Tokenizer.tokens`."""
        for text in texts:
            if len(text) > _CHARACTERS_PER_TOKEN * context:
                raise UserError(
                    f"class name too long for the context: '{text[:57]}...' has {len(text):,} characters",
                    "use a shorter class name or template",
                )
        start, end = ([] if token is None else [token] for token in (self.start, self.end))
        words = [self.encode(text) for text in texts]
        return rows(texts, words, start, end, self.pad, self._marks, length, context)

    def _load(self) -> Any:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise MissingExtraError("reading this model's class names", "multilingual") from None
        # The special tokens are added here, so the library needs none of what adds them.
        bare = {**self._tree, "post_processor": None, "truncation": None, "padding": None, "decoder": None}
        try:
            return Tokenizer.from_str(_compact(bare))
        except BaseException as error:
            raise self._failed(error, "it is not a tokenizer that the `tokenizers` library reads") from None

    def _failed(self, error: BaseException, what: str) -> BaseException:
        """What to raise for an error of the library, whose panics are no `Exception`."""
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            return error
        return UserError(f"{self._source}: {what}: {first_line(error)[:200]}", _AGAIN)


def read_text(path: Path) -> str:
    """The content of a `tokenizer.json`. Raises UserError for a file that is too large or no text."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UserError(f"{path} is too large to be a tokenizer.json", _AGAIN)
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read tokenizer {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text", _AGAIN) from None


def parse(content: str, source: str) -> dict[str, Any]:
    """The JSON object of a `tokenizer.json`, not checked further. Raises UserError for anything else."""
    try:
        tree = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} is not valid JSON: {first_line(error)[:200]}", _AGAIN) from None
    if not isinstance(tree, dict):
        raise UserError(f"{source} is not a tokenizer.json", _AGAIN)
    return tree


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")


def _compact(tree: Mapping[str, Any]) -> str:
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":"))


def _at_most_one(template: Template, side: str, source: str) -> int | None:
    ids = getattr(template, side)
    if len(ids) > 1:
        raise UserError(f"{source} adds {len(ids)} tokens at the {side} of a text, where one is supported")
    return ids[0] if ids else None


def _special_tokens(tree: Mapping[str, Any]) -> dict[int, str]:
    """The ids that no text may spell. The token for unknown words is none of them: words that it lacks become it."""
    model = tree["model"]
    unknown = model.get("unk_token")
    if model.get("unk_id") is not None:
        unknown = model["vocab"][model["unk_id"]][0]
    return {
        token["id"]: token["content"]
        for token in tree.get("added_tokens", ())
        if token["special"] and token["content"] != unknown
    }
