"""Which tokenizer a model has: by open_clip's `text_cfg` and the files beside its weights, or by a bundle's card."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ga2clip.choices import Cleaning
from ga2clip.errors import UserError
from ga2clip.tokenizer import ClipTokenizer, Tokenizer
from ga2clip.tokenizer_json import JsonTokenizer, parse, read_text
from ga2clip.tokenizer_schema import Template, check_tokenizer

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
Kind = Literal["clip", "json"]
_CLEANINGS: dict[str, Cleaning] = {
    "lower": "clip",
    "whitespace": "whitespace",
    "canonicalize": "canonicalize",
}
"""open_clip's names for the rules of cleaning."""
_BEGUN_BY_CLASS = ("GemmaTokenizer", "LlamaTokenizer")
"""Classes of transformers whose special tokens, and the side of the padding, come from the class and its config."""
_PUBLISHER = "take it from the model's publisher"


def read_tokenizer(path: Path, kind: Kind, cleaning: Cleaning, pad: int, *, blank_end: bool) -> Tokenizer:
    """A bundle's tokenizer; the arguments are those of its card. Raises as the tokenizers' classes."""
    if kind == "clip":
        return ClipTokenizer.from_json(path, cleaning)
    return JsonTokenizer.from_file(path, cleaning=cleaning, pad=pad, blank_end=blank_end)


def tokenizer_for(text_cfg: Mapping[str, Any], folder: Path | None) -> Tokenizer:
    """The tokenizer of an open_clip model, as `open_clip.get_tokenizer` makes it.

    Args:
        text_cfg: from the model's config.
        folder: where the model's files are: `tokenizer.json` and `tokenizer_config.json` are read where the model has
            a tokenizer of Hugging Face. None: there is none.

    Raises:
        UserError: a tokenizer whose files are missing, damaged or contradictory, or of a kind that is not supported.
        MissingExtraError: the `tokenizers` library is not installed.
    """
    name = text_cfg.get("hf_tokenizer_name")
    options = dict(text_cfg.get("tokenizer_kwargs") or {})
    rule = options.pop("clean", "whitespace" if name else "lower")
    blank_end = bool(options.pop("strip_sep_token", False))
    mode = text_cfg.get("tokenizer_mode")
    if rule not in _CLEANINGS or options or mode:
        wrong = f"clean = {rule!r}" if rule not in _CLEANINGS else f"{options or mode!r}"
        raise UserError(f"the model's tokenizer has an option that is not supported: {wrong:.100}")
    if not name:
        return ClipTokenizer.from_open_clip(_CLEANINGS[rule])
    if folder is None or not (folder / FILE).is_file():
        where = "its weights are not in a folder of their own" if folder is None else f"{folder} lacks {FILE}"
        raise UserError(
            f"this model's texts are split by the tokenizer '{name}': {where}",
            f"put {FILE} and {CONFIG} beside the weights and open_clip_config.json; {_PUBLISHER}",
        )
    return _from_folder(folder, _CLEANINGS[rule], blank_end)


def tokenizer_like(tokenizer: Any) -> Tokenizer:
    """The tokenizer that an open_clip tokenizer object is (`open_clip.get_tokenizer`).

    Raises:
        UserError: it is none of `SimpleTokenizer` and `HFTokenizer`, or not of a kind that is supported.
    """
    kind = type(tokenizer).__name__
    cleaning = _CLEANINGS.get(getattr(tokenizer.clean_fn, "__name__", "").removeprefix("_clean_"))
    library = getattr(getattr(tokenizer, "tokenizer", None), "backend_tokenizer", None)
    if cleaning and kind == "SimpleTokenizer" and tokenizer.reduction_fn is None:
        return ClipTokenizer.from_open_clip(cleaning)
    if cleaning and kind == "HFTokenizer" and library is not None and not tokenizer.tokenizer_mode:
        _refuse_left(tokenizer.tokenizer.padding_side, "the model's tokenizer")
        pad = tokenizer.tokenizer.pad_token_id
        if pad is None:
            raise UserError("the model's tokenizer has no padding token")
        return JsonTokenizer(
            library.to_str(),
            "the model's tokenizer",
            cleaning=cleaning,
            pad=pad,
            blank_end=tokenizer.strip_sep_token,
        )
    raise UserError(f"the model's tokenizer, a {kind}, is not of a kind that is supported")


def _from_folder(folder: Path, cleaning: Cleaning, blank_end: bool) -> JsonTokenizer:
    """The tokenizer of a folder as `transformers.AutoTokenizer` reads it."""
    path, beside = folder / FILE, str(folder / CONFIG)
    config, content = _read_config(folder / CONFIG), read_text(path)
    tree = parse(content, str(path))
    _refuse_other_marks(config, check_tokenizer(tree, str(path)), beside)
    _refuse_contradiction(config, tree, beside)
    _refuse_left(config.get("padding_side", _usual_side(config)), beside)
    pad = _pad_id(config.get("pad_token"), _ids(tree), beside)
    return JsonTokenizer(content, str(path), cleaning=cleaning, pad=pad, blank_end=blank_end)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path.parent} has {FILE} but lacks {CONFIG}, which names the padding token", _PUBLISHER
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not valid JSON", _PUBLISHER) from None
    if not isinstance(config, dict):
        raise UserError(f"{path} is not the config of a tokenizer", _PUBLISHER)
    return config


def _ids(tree: Mapping[str, Any]) -> dict[str, int]:
    """The ids of all tokens by their spelling."""
    vocabulary = tree["model"]["vocab"]
    if isinstance(vocabulary, list):
        vocabulary = {token: place for place, (token, _) in reversed(list(enumerate(vocabulary)))}
    return {**vocabulary, **{token["content"]: token["id"] for token in tree.get("added_tokens", ())}}


def _pad_id(token: Any, ids: Mapping[str, int], source: str) -> int:
    spelling = token.get("content") if isinstance(token, dict) else token
    if not isinstance(spelling, str) or spelling not in ids:
        raise UserError(
            f"{source}: pad_token {spelling!r:.60} is not a token of {FILE} beside it",
            f"both must be of the same model; {_PUBLISHER}",
        )
    return ids[spelling]


def _refuse_other_marks(config: Mapping[str, Any], template: Template, source: str) -> None:
    """Refuse special tokens around a text that the config states otherwise than the file: whether the one or the other
    counts depends on the version of transformers (4: the config; 5: the file).
    """
    if not str(config.get("tokenizer_class", "")).startswith(_BEGUN_BY_CLASS):
        return
    for key, usual, ids in (("add_bos_token", True, template.start), ("add_eos_token", False, template.end)):
        if bool(config.get(key, usual)) != bool(ids):
            raise UserError(
                f"{source} has {key} = {bool(config.get(key, usual))}, and {FILE} beside it the opposite",
                _PUBLISHER,
            )


def _usual_side(config: Mapping[str, Any]) -> str:
    """The side on which transformers' class of the tokenizer pads where its config does not say it."""
    return "left" if str(config.get("tokenizer_class", "")).startswith(_BEGUN_BY_CLASS) else "right"


def _refuse_left(side: str, source: str) -> None:
    if side != "right":
        raise UserError(
            f"{source} fills texts up on the {side}, which no model of open_clip was trained with",
            'its publisher\'s tokenizer_config.json says "padding_side": "right"',
        )


def _refuse_contradiction(config: Mapping[str, Any], tree: Mapping[str, Any], source: str) -> None:
    """Refuse a config that changes the tokenizer of the file beside it, as transformers would do in silence."""
    normalizer = tree.get("normalizer") or {}
    lower = config.get("do_lower_case")
    if normalizer.get("type") == "BertNormalizer" and lower not in (None, normalizer["lowercase"]):
        raise UserError(f"{source} says do_lower_case = {lower}, {FILE} beside it the opposite", _PUBLISHER)
    held = {token["content"] for token in tree.get("added_tokens", ())}
    added = config.get("added_tokens_decoder")
    for token in added.values() if isinstance(added, dict) else ():
        content = token.get("content") if isinstance(token, dict) else None
        if content not in held:
            raise UserError(
                f"{source} adds the token {content!r:.60}, which {FILE} beside it lacks", _PUBLISHER
            )
