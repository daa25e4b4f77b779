"""Tokenizers of other families against open_clip's `HFTokenizer`, and damaged and hostile files."""

import base64
import contextlib
import copy
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ga2clip.errors import MissingExtraError, UserError
from ga2clip.tokenizer import ClipTokenizer, refuse_same_ids
from ga2clip.tokenizer_files import read_tokenizer, tokenizer_for, tokenizer_like
from ga2clip.tokenizer_json import JsonTokenizer
from tests.ground.test_tokenizer import WORDS, generated_texts
from tests.small_tokenizers import KINDS, METASPACE, PRECOMPILED, Model, charsmap, gemma, siglip, template

tokenizers = pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {name: make() for name, make in KINDS.items()}


class FastTokenizer:
    """What `HFTokenizer` calls of a fast tokenizer of transformers, which is not needed for that.

    With it installed, its own classes are the reference (`test_equals_transformers`).
    """

    padding_side = "right"

    def __init__(self, model: Model) -> None:
        self.backend_tokenizer = tokenizers.Tokenizer.from_str(json.dumps(model.tree))
        pad = model.config["pad_token"]
        self._pad = pad if isinstance(pad, str) else pad["content"]
        self.pad_token_id = self.backend_tokenizer.token_to_id(self._pad)
        self.sep_token_id = self.backend_tokenizer.token_to_id(model.config.get("sep_token", self._pad))

    def __call__(self, texts: list[str], max_length: int, **_: Any) -> SimpleNamespace:
        import torch

        library = tokenizers.Tokenizer.from_str(self.backend_tokenizer.to_str())
        library.enable_truncation(max_length)
        library.enable_padding(length=max_length, pad_id=self.pad_token_id, pad_token=self._pad)
        return SimpleNamespace(input_ids=torch.tensor([row.ids for row in library.encode_batch(texts)]))


def reference(model: Model) -> Any:
    """open_clip's HFTokenizer, with its own cleaning and stripping, over the library's ids."""
    from open_clip.tokenizer import HFTokenizer, get_clean_fn

    options = model.text_cfg.get("tokenizer_kwargs", {})
    theirs = HFTokenizer.__new__(HFTokenizer)
    theirs.tokenizer_mode, theirs.tokenizer = "", FastTokenizer(model)
    theirs.context_length = model.text_cfg["context_length"]
    theirs.clean_fn = get_clean_fn(options.get("clean", "whitespace"))
    theirs.strip_sep_token = options.get("strip_sep_token", False)
    return theirs


def same_rows(ours: Any, theirs: Any, texts: list[str], context: int) -> None:
    expected = theirs(texts).numpy()
    compared, refusals = 0, []
    for text, row in zip(texts, expected, strict=True):
        try:
            got = ours.tokens([text], length=context, context=context)[0]
        except UserError as error:
            refusals.append(error.message)
            continue
        np.testing.assert_array_equal(got, row, err_msg=repr(text))
        compared += 1
    assert compared > 0.7 * len(texts)
    assert all("too long" in refusal or "does not read as text" in refusal for refusal in refusals)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_equal_open_clip_on_thousands_of_strings(kind: str, models, tmp_path: Path) -> None:
    model = models[kind]
    ours = tokenizer_for(model.text_cfg, model.write(tmp_path))
    theirs = reference(model)
    texts = ["", " ", *WORDS, *generated_texts(2000)]
    same_rows(ours, theirs, texts, theirs.context_length)
    of_object = tokenizer_like(theirs)
    assert [of_object.encode(text) for text in texts[:300]] == [ours.encode(text) for text in texts[:300]]
    assert (of_object.start, of_object.pad, of_object.cleaning) == (ours.start, ours.pad, ours.cleaning)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
@pytest.mark.parametrize("kind", KINDS)
def test_equals_transformers(kind: str, models, tmp_path: Path) -> None:
    from open_clip.tokenizer import HFTokenizer

    model = models[kind]
    folder = model.write(tmp_path)
    context, options = model.text_cfg["context_length"], model.text_cfg.get("tokenizer_kwargs", {})
    theirs = HFTokenizer(str(folder), context_length=context, **options)
    texts = ["", " ", *WORDS, *generated_texts(2000)]
    for ours in (tokenizer_for(model.text_cfg, folder), tokenizer_like(theirs)):
        same_rows(ours, theirs, texts, context)


@pytest.mark.parametrize(
    ("kind", "start", "end", "pad"),
    [
        ("siglip", None, 1, 1),
        ("mt5", None, 1, 0),
        ("xlm_v", 0, 2, 1),
        ("gemma", None, 1, 0),
        ("clipa", 2, 0, 0),
    ],
)
def test_special_tokens(kind: str, start, end: int, pad: int, models, tmp_path: Path) -> None:
    ours = tokenizer_for(models[kind].text_cfg, models[kind].write(tmp_path))
    assert (ours.start, ours.end, ours.pad) == (start, end, pad)
    row = ours.tokens(["yoga"], length=30)[0].tolist()
    words = ours.encode("yoga")
    front = [] if start is None else [start]
    assert row == [*front, *words, end, *[pad] * (29 - len(front) - len(words))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_s_file_reads_the_same(kind: str, models, tmp_path: Path) -> None:
    ours = tokenizer_for(models[kind].text_cfg, models[kind].write(tmp_path))
    assert isinstance(ours, JsonTokenizer)
    (tmp_path / "bundled.json").write_text(ours.to_json(), encoding="utf-8")
    again = read_tokenizer(
        tmp_path / "bundled.json", "json", ours.cleaning, ours.pad, blank_end=ours.blank_end
    )
    texts = generated_texts(200)
    assert [again.encode(text) for text in texts] == [ours.encode(text) for text in texts]
    assert (again.start, again.pad, again.size) == (ours.start, ours.pad, ours.size)
    assert ours.size == tokenizers.Tokenizer.from_str(ours.to_json()).get_vocab_size()


@pytest.mark.parametrize("rule", ["lower", "whitespace", "canonicalize"])
def test_clip_s_tokenizer_with_every_rule_of_cleaning(rule: str) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    theirs = SimpleTokenizer(context_length=32, clean=rule)
    text_cfg = {"context_length": 32, "tokenizer_kwargs": {"clean": rule}}
    for ours in (tokenizer_for(text_cfg, None), tokenizer_like(theirs)):
        assert isinstance(ours, ClipTokenizer)
        for text in ["", *WORDS, *generated_texts(400)]:
            assert ours.encode(text) == theirs.encode(text), repr(text)


def test_too_long_texts_are_refused_not_cut(models, tmp_path: Path) -> None:
    ours = tokenizer_for(models["siglip"].text_cfg, models["siglip"].write(tmp_path))
    fit = next(n for n in range(1, 200) if len(ours.encode("a " * (n + 1))) > 63)
    assert ours.tokens(["a " * fit], context=64).shape[1] <= 64
    with pytest.raises(UserError, match=r"too long for the context: .* tokens, 64 fit"):
        ours.tokens(["a " * (fit + 1)], context=64)
    with pytest.raises(UserError, match=r"too long for the context: .* 1,000,000 characters"):
        ours.tokens(["a" * 1_000_000], context=64)


@pytest.mark.parametrize(
    ("kind", "text"), [("xlm_v", "a </s> b"), ("xlm_v", "&lt;mask&gt;"), ("clipa", "[CLS]"), ("gemma", None)]
)
def test_texts_that_spell_a_special_token_are_refused(kind: str, text, models, tmp_path: Path) -> None:
    ours = tokenizer_for(models[kind].text_cfg, models[kind].write(tmp_path))
    if text is None:  # cleaning has removed its brackets
        assert ours.tokens(["<eos>"]).shape[0] == 1
        return
    with pytest.raises(UserError, match="does not read as text"):
        ours.tokens([text])
    assert ours.tokens(["unknown ☃ character"]).shape[0] == 1


def test_names_that_only_this_tokenizer_confuses_are_refused(models, tmp_path: Path) -> None:
    ours = tokenizer_for(models["siglip"].text_cfg, models["siglip"].write(tmp_path))
    for pair in (["C++", "C#"], ["☃", "☂"]):
        with pytest.raises(UserError, match="are the same to the model's tokenizer"):
            refuse_same_ids(pair, ours.tokens(pair))
    refuse_same_ids(["a ball", "a ball", "balls"], ours.tokens(["a ball", "a ball", "balls"]))


def test_without_the_library_the_extra_is_named(models, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match="'multilingual' extra") as raised:
        tokenizer_for(models["siglip"].text_cfg, models["siglip"].write(tmp_path))
    assert raised.value.hint == "pip install 'ga2clip[multilingual]'"


def test_neither_torch_nor_the_library_is_imported_early() -> None:
    code = (
        "import sys; import ga2clip.tokenizer_files, ga2clip.runtime; "
        "assert not {'torch', 'open_clip', 'tokenizers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Files that can't be had, or contradict each other


GEMMA = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": False, "add_eos_token": True}


def changed(
    model: Model, tree: dict | None = None, config: dict | None = None, text: dict | None = None
) -> Model:
    return Model(
        {**model.tree, **(tree or {})}, {**model.config, **(config or {})}, {**model.text_cfg, **(text or {})}
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": {"tokenizer_kwargs": {"clean": "upper"}}}, "option that is not supported: clean = 'upper'"),
        ({"text": {"tokenizer_kwargs": {"language": "de"}}}, "option that is not supported"),
        ({"text": {"tokenizer_mode": "clips"}}, "option that is not supported"),
        ({"config": {"pad_token": "<other>"}}, "pad_token '<other>' is not a token of tokenizer.json"),
        ({"config": {"pad_token": None}}, "pad_token None is not a token"),
        ({"config": {"padding_side": "left"}}, "fills texts up on the left"),
        ({"config": {"tokenizer_class": "GemmaTokenizerFast"}}, "add_bos_token = True"),
        ({"config": {"tokenizer_class": "GemmaTokenizer", "add_bos_token": False}}, "add_eos_token = False"),
        ({"config": {**GEMMA, "padding_side": "left"}}, "on the left"),
        ({"config": GEMMA}, "on the left"),
        ({"config": {"added_tokens_decoder": {"9": {"content": "<new>"}}}}, "adds the token '<new>'"),
        ({"tree": {"post_processor": template([], [("</s>", 1), ("<pad>", 0)])}}, "adds 2 tokens at the end"),
    ],
)
def test_what_would_be_guessed_is_refused(change: dict, said: str, models, tmp_path: Path) -> None:
    model = changed(models["siglip"], **change)
    with pytest.raises(UserError, match=said):
        tokenizer_for(model.text_cfg, model.write(tmp_path))


def test_bert_s_case_must_be_the_file_s(models, tmp_path: Path) -> None:
    model = changed(models["clipa"], config={"do_lower_case": False})
    with pytest.raises(UserError, match="do_lower_case = False"):
        tokenizer_for(model.text_cfg, model.write(tmp_path))


def test_missing_files_are_named(models, tmp_path: Path) -> None:
    model = models["siglip"]
    for folder in (None, tmp_path):
        with pytest.raises(UserError, match="tokenizer 'x/SigLIP'") as raised:
            tokenizer_for(model.text_cfg, folder)
        assert "put tokenizer.json and tokenizer_config.json beside" in str(raised.value.hint)
    model.write(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match=r"lacks tokenizer_config\.json"):
        tokenizer_for(model.text_cfg, tmp_path)


# Damage and hostility


def read(tree: Any) -> JsonTokenizer:
    content = tree if isinstance(tree, str) else json.dumps(tree)
    return JsonTokenizer(content, "tokenizer.json", cleaning="whitespace", pad=0)


def split_by(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


GROWING = {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaa"}
HOSTILE = {
    "a regular expression that backtracks": {"pre_tokenizer": split_by("(a+)+$")},
    "one in a replacement": {"normalizer": {**GROWING, "pattern": {"Regex": "(a|a)*b"}, "content": "b"}},
    "a text that grows": {"normalizer": {"type": "Sequence", "normalizers": [GROWING] * 12}},
    "many steps": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 99}},
    "nested steps": {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": []}]}
    },
    "an unknown step": {"pre_tokenizer": {"type": "FixedLength", "length": 1}},
    "an unknown field": {"pre_tokenizer": {**METASPACE, "more": 1}},
    "a table that is no base64": {"normalizer": {**PRECOMPILED, "precompiled_charsmap": "*"}},
    "an empty table": {"normalizer": {**PRECOMPILED, "precompiled_charsmap": ""}},
    "a table that leads out of itself": {
        "normalizer": {**PRECOMPILED, "precompiled_charsmap": "BAAAAP////8="}
    },
    "two tables": {"normalizer": {"type": "Sequence", "normalizers": [PRECOMPILED] * 2}},
    "a template without its token": {"post_processor": {**template([], [("</s>", 1)]), "special_tokens": {}}},
    "a template without a text": {"post_processor": {**template([], [("</s>", 1)]), "single": []}},
    "a model without a vocabulary": {"model": {"type": "Unigram"}},
    "an empty vocabulary": {"model": {"type": "Unigram", "vocab": []}},
    "a vocabulary of numbers": {"model": {"type": "Unigram", "vocab": [1, 2]}},
    "an infinite score": {"model": {"type": "Unigram", "vocab": [["a", 1e999]]}},
    "an unknown token out of range": {"model": {"type": "Unigram", "unk_id": 9, "vocab": [["a", 0.0]]}},
    "a merge of nothing": {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}},
    "a negative id": {"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}},
    "a long prefix": {
        "model": {
            "type": "BPE",
            "vocab": {"a": 0, "b": 1, "ab": 2},
            "merges": [["a", "b"]],
            "continuing_subword_prefix": "###",
        }
    },
    "splits at random": {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.5}},
    "endless words": {"model": {"type": "WordPiece", "vocab": {"a": 0}, "max_input_chars_per_word": 10**9}},
    "another model": {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused(what: str, models, capfd) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        read({**models["siglip"].tree, **HOSTILE[what]})
    assert capfd.readouterr().err == ""  # the library's panics print there


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", "{" * 100_000, '{"model": NaN}', '"\\ud800"'])
def test_what_is_no_tokenizer_is_refused(content: str) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        read(content)


def test_damaged_tables_of_characters_never_reach_the_library(models, capfd) -> None:
    """Every unit of the trie, changed to a random one: refused, or read without a panic."""
    rng = np.random.default_rng(0)
    whole = bytearray(base64.b64decode(PRECOMPILED["precompiled_charsmap"]))
    refused = 0
    for _ in range(150):
        table = bytearray(whole)
        for place in rng.choice(len(table), 3, replace=False):
            table[place] = rng.integers(256)
        tree = copy.copy(models["siglip"].tree)
        tree["normalizer"] = {**PRECOMPILED, "precompiled_charsmap": base64.b64encode(bytes(table)).decode()}
        try:
            tokenizer = read(tree)
        except UserError:
            refused += 1
            continue
        for text in ("ﬁsh ½ ｆull\u200b!", *WORDS):
            tokenizer.encode(text)
    assert refused > 20
    assert capfd.readouterr().err == ""


def test_the_library_s_panics_are_errors_of_the_user(models, monkeypatch) -> None:
    class PanicException(BaseException):
        pass

    tokenizer = read(models["siglip"].tree)
    for raised, expected in (
        (PanicException("out of bounds"), UserError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):

        def fail(*_: Any, error: BaseException = raised, **__: Any) -> None:
            raise error

        monkeypatch.setattr(tokenizer, "_library", SimpleNamespace(encode=fail))
        with pytest.raises(expected):
            tokenizer.encode("a ball")


def test_a_charsmap_of_our_own_is_one_to_the_library() -> None:
    table = charsmap({"ﬁ": "fi", "½": "1/2"})
    normalizer = tokenizers.normalizers.Precompiled(base64.b64decode(table))
    assert normalizer.normalize_str("ﬁsh ½ a") == "fish 1/2 a"


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with path.open("wb") as file:
        file.truncate(200 * 2**20)
    with pytest.raises(UserError, match="too large"):
        JsonTokenizer.from_file(path, cleaning="whitespace", pad=0)


@pytest.mark.parametrize("make", [siglip, gemma])
def test_damaged_bytes_give_a_user_s_error_or_a_tokenizer(make, capfd) -> None:
    rng = np.random.default_rng(1)
    whole = json.dumps(make().tree).encode()
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.integers(len(damaged))] = rng.integers(32, 127)
        with contextlib.suppress(UserError):
            read(damaged.decode("utf-8", "replace")).encode("kicking a ball")
    assert "panicked" not in capfd.readouterr().err
