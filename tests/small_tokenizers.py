"""Small tokenizers of the kinds that open_clip's models have, trained here: files as their publishers give them."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

CORPUS = [
    "a video of a person doing yoga",
    "riding a bike in the rain, juggling balls and more balls!",
    "Übung naïve straße 你好 世界 مرحبا नमस्ते 안녕 สวัสดี",
    "playing the piano and the violin; kicking a ball's don't I'll",
    *(f"{verb}ing {thing}" for verb in ("kick", "throw", "catch", "paint") for thing in ("balls", "walls")),
]


class Model(NamedTuple):
    """A tokenizer's two files, and how the model's config says that it is used."""

    tree: dict[str, Any]
    config: dict[str, Any]
    text_cfg: dict[str, Any]

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(json.dumps(self.tree), encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(self.config), encoding="utf-8")
        return folder


def charsmap(replaced: Mapping[str, str]) -> str:
    """A sentencepiece table of characters: a double-array trie in which every node has 256 places of its own."""
    texts, units, places = b"", [0] * 256, {b"": 0}

    def base(node: bytes) -> int:
        """Where the children of a node begin, the node being given its own."""
        place = places[node]
        offset = units[place] >> 10
        if not offset:
            offset = place ^ len(units)
            units[place] |= offset << 10
            units.extend([0] * 256)
        return place ^ offset

    for key, text in replaced.items():
        encoded = key.encode()
        for end in range(1, len(encoded) + 1):
            if encoded[:end] not in places:
                place = base(encoded[: end - 1]) ^ encoded[end - 1]
                units[place] |= encoded[end - 1]
                places[encoded[:end]] = place
        units[base(encoded)] = 1 << 31 | len(texts)
        units[places[encoded]] |= 1 << 8
        texts += text.encode() + b"\0"
    trie = b"".join(unit.to_bytes(4, "little") for unit in units)
    return base64.b64encode(len(trie).to_bytes(4, "little") + trie + texts).decode()


PRECOMPILED = {
    "type": "Precompiled",
    "precompiled_charsmap": charsmap({"ﬁ": "fi", "½": "1/2", "ｆ": "f", "\u200b": "-"}),
}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
BLANKS = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}


def template(start: Sequence[tuple[str, int]], end: Sequence[tuple[str, int]]) -> dict[str, Any]:
    around = [[{"SpecialToken": {"id": token, "type_id": 0}} for token, _ in side] for side in (start, end)]
    return {
        "type": "TemplateProcessing",
        "single": [*around[0], {"Sequence": {"id": "A", "type_id": 0}}, *around[1]],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            token: {"id": token, "ids": [i], "tokens": [token]} for token, i in (*start, *end)
        },
    }


def _trained(tokenizer: Tokenizer, trainer: Any, **changes: Any) -> dict[str, Any]:
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    return {**json.loads(tokenizer.to_str()), **changes}


def _unigram(special: Sequence[str], unknown: str, **changes: Any) -> dict[str, Any]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=220, special_tokens=list(special), unk_token=unknown, show_progress=False
    )
    return _trained(tokenizer, trainer, **changes)


def siglip() -> Model:
    """As SigLIP's: sentencepiece's Unigram, no start token, filled up with the end token."""
    normalizer = {"type": "Sequence", "normalizers": [PRECOMPILED, BLANKS]}
    tree = _unigram(
        ["<pad>", "</s>", "<unk>"],
        "<unk>",
        normalizer=normalizer,
        pre_tokenizer=METASPACE,
        post_processor=template([], [("</s>", 1)]),
    )
    config = {"tokenizer_class": "T5Tokenizer", "pad_token": "</s>", "eos_token": "</s>", "extra_ids": 0}
    text = {
        "context_length": 64,
        "hf_tokenizer_name": "x/SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    }
    return Model(tree, config, text)


def mt5() -> Model:
    """As MetaCLIP 2's ViT-L: filled up with a token of its own."""
    tree, config, text = siglip()
    return Model(tree, {**config, "pad_token": "<pad>"}, {**text, "context_length": 77})


def xlm_v() -> Model:
    """As MetaCLIP 2's ViT-H: XLM-V's, with start and end; case counts."""
    tree = _unigram(
        ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        "<unk>",
        normalizer=PRECOMPILED,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, METASPACE]},
        post_processor=template([("<s>", 0)], [("</s>", 2)]),
    )
    pad = {"__type": "AddedToken", "content": "<pad>"}
    config = {"tokenizer_class": "XLMRobertaTokenizer", "pad_token": pad}
    return Model(tree, config, {"context_length": 77, "hf_tokenizer_name": "x/xlm-v"})


def gemma() -> Model:
    """As SigLIP 2's: byte-pair encoding that falls back to bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)],
        limit_alphabet=60,
        show_progress=False,
    )
    tree = _trained(tokenizer, trainer)
    tree["added_tokens"] = tree["added_tokens"][:4]
    tree["post_processor"] = template([], [("<eos>", 1)])
    config = {
        "tokenizer_class": "GemmaTokenizer",
        "add_bos_token": False,
        "add_eos_token": True,
        "padding_side": "right",
        **{f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")},
    }
    text = {
        "context_length": 64,
        "hf_tokenizer_name": "x/SigLIP2",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    }
    return Model(tree, config, text)


def clipa() -> Model:
    """As CLIPA's: BERT's word pieces, whose end token is replaced by 0."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    tree = _trained(tokenizer, trainer, post_processor=template([("[CLS]", 2)], [("[SEP]", 3)]))
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "pad_token": "[PAD]"}
    text = {
        "context_length": 32,
        "hf_tokenizer_name": "x/bert",
        "tokenizer_kwargs": {"strip_sep_token": True},
    }
    return Model(tree, {**config, "sep_token": "[SEP]", "cls_token": "[CLS]", "unk_token": "[UNK]"}, text)


def roberta() -> Model:
    """Byte-pair encoding of bytes, as RoBERTa's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    around = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}
    around |= {"trim_offsets": True, "add_prefix_space": False}
    tree = _trained(tokenizer, trainer, post_processor=around)
    config = {"tokenizer_class": "RobertaTokenizer", "pad_token": "<pad>"}
    return Model(tree, config, {"context_length": 77, "hf_tokenizer_name": "x/roberta"})


KINDS = {make.__name__: make for make in (siglip, mt5, xlm_v, gemma, clipa, roberta)}
