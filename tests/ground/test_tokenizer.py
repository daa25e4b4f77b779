"""The tokenizer against open_clip's own (the reference) and against the `tokenizers` library."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ga2clip.errors import MissingExtraError, UserError
from ga2clip.tokenizer import ClipTokenizer

NASTY = r"""Kicking a BALL's don't I'LL we're they've rock'n'roll 'tis naïve Übung straße İstanbul ǅ ﬁsh
ｆｕｌｌ 你好 世界 مرحبا नमस्ते 안녕 สวัสดี 👍 👩‍👩‍👧 🇩🇪 &amp; &amp;amp; &lt;b&gt; &nbsp; &#39; x² ½ ٣ 12345 3.14
a_b C++ #tag @me — … “quoted” ''s <start_of_text> <END_OF_TEXT> sch├╢n doesnâ€™t ſ 'ſ ^_^ !!! ??!"""
INVISIBLE = ["\u200b", "\u00ad", "\ufeff", "\x00", "\x1b[31m", "\x85", "\u2028", "e\u0301", "\u1e9e"]
WORDS = [*NASTY.split(), *INVISIBLE]


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return ClipTokenizer.from_open_clip()


def generated_texts(number: int) -> list[str]:
    rng = random.Random(0)
    pools = [
        lambda: rng.choice(WORDS),
        lambda: "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(1, 14))),
        lambda: "".join(rng.choice("aAzZ09 .,'&;<>#-_\t\n\r\x0b\x7f") for _ in range(rng.randint(1, 8))),
        lambda: chr(
            rng.choice(
                [rng.randrange(0x20, 0x3000), rng.randrange(0x3000, 0xD800), rng.randrange(0x1F000, 0x20000)]
            )
        ),
    ]
    texts = []
    for _ in range(number):
        glue = rng.choice([" ", " ", "", "  "])
        texts.append(glue.join(rng.choice(pools)() for _ in range(rng.randint(0, 9))))
    return texts


def test_ids_equal_open_clip_on_thousands_of_strings(tokenizer: ClipTokenizer) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    reference = SimpleTokenizer()
    for text in ["", " ", *WORDS, *generated_texts(4000)]:
        assert tokenizer.encode(text) == reference.encode(text), repr(text)


@pytest.mark.parametrize("text", ["a photo of a cat", "naïve übung 你好 👍", "c ++ # tag", ""])
def test_ids_become_their_text_up_to_the_end(text: str, tokenizer: ClipTokenizer) -> None:
    row = tokenizer.tokens([text], length=40)[0].tolist()
    assert tokenizer.decode(row) == text
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_padded_tokens_equal_open_clip(tokenizer: ClipTokenizer) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    texts = ["kicking a ball", "", "a video of a person doing yoga."]
    expected = SimpleTokenizer()(texts).numpy()
    full = tokenizer.tokens(texts, length=77)
    assert full.dtype == np.int64
    np.testing.assert_array_equal(full, expected)
    short = tokenizer.tokens(texts)
    assert short.shape == (3, 10)
    np.testing.assert_array_equal(short, expected[:, :10])
    assert tokenizer.tokens([]).shape == (0, 0)


def test_too_long_texts_are_refused_not_cut(tokenizer: ClipTokenizer) -> None:
    assert tokenizer.tokens(["ball " * 75]).shape == (1, 77)
    with pytest.raises(UserError, match=r"needs 78 tokens, 77 fit"):
        tokenizer.tokens(["ok", "ball " * 76])
    with pytest.raises(UserError, match="too long for the context"):
        tokenizer.tokens(["kicking a ball"], length=4)


@pytest.mark.parametrize("text", ["a <end_of_text> b", "<START_OF_TEXT>", "&lt;end&#95;of_text&gt;"])
def test_texts_that_spell_a_mark_are_refused(tokenizer: ClipTokenizer, text: str) -> None:
    with pytest.raises(UserError, match=r"holds '<(start|end)_of_text>'"):
        tokenizer.tokens(["fine", text])


def test_json_round_trip_and_other_readers(tokenizer: ClipTokenizer, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_json(), encoding="utf-8")
    again = ClipTokenizer.from_json(path)
    other = tokenizers.Tokenizer.from_file(str(path))
    texts = [
        "Kicking a ball!",
        "rock'n'roll isn't 12 o'clock",
        "Übung  macht\tden Meister",
        "you're 3.14 — ok?",
        "你好",
    ]
    for text in texts:
        expected = tokenizer.encode(text)
        assert again.encode(text) == expected
        assert other.encode(text).ids == [49406, *expected, 49407]
    assert other.get_vocab_size() == 49408


@pytest.mark.parametrize(
    "content", ["", "{}", '{"model": {"merges": [1]}}', '{"model": {"merges": ["a b c"]}}']
)
def test_bad_json_is_a_user_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError):
        ClipTokenizer.from_json(path)


def test_without_open_clip_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="train"):
        ClipTokenizer.from_open_clip()


def test_neither_torch_nor_open_clip_is_imported() -> None:
    code = (
        "import sys; from ga2clip.tokenizer import ClipTokenizer; import ga2clip.labels; "
        "ClipTokenizer.from_open_clip().encode('a'); assert not {'torch', 'open_clip'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
