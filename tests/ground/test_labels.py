import random
from pathlib import Path

import pytest

from ga2clip.errors import UserError
from ga2clip.labels import check_class_names, fill, read_class_list, readable_name
from ga2clip.tokenizer import ClipTokenizer


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    return path


def test_comments_blank_lines_bom_and_crlf_are_not_names(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeff# my classes\r\nkicking a ball\r\n\r\n  tänzeln  \r\n".encode())
    assert read_class_list(path) == ["kicking a ball", "tänzeln"]


def test_duplicates_name_both_lines_and_ignore_case(tmp_path: Path) -> None:
    path = write(tmp_path, b"run\n# x\nswim\nRUN \n")
    with pytest.raises(UserError, match=r"line 1 and again on line 4"):
        read_class_list(path)


@pytest.mark.parametrize("content", [b"", b"\n\n# only a comment\n"])
def test_empty_list_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match="no class name"):
        read_class_list(write(tmp_path, content))


def test_undecodable_and_missing_files_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not UTF-8 text \(byte 3\)"):
        read_class_list(write(tmp_path, b"run\xff"))
    with pytest.raises(UserError, match="cannot read class list"):
        read_class_list(tmp_path / "absent.txt")


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["run", " "],
        ["run", "Run"],
        ["two  blanks", "two blanks"],
        ["caf\u00e9", "cafe\u0301"],  # one character or two
        ["rock &amp; roll", "rock & roll"],
        ["lap2", "lap 2"],  # digits are words of their own
        ["\uff52\uff55\uff4e", "run"],  # full width
        ["run", "&nbsp;"],
        "run",
        ["run", b"swim"],
        ["run", None],
        None,
        {"run", "swim"},  # in no order
        ["run", "swim\udc80"],  # a byte that is no text
        ["run", "\u200b\u2060"],  # shows nothing
        ["run", "\x1b[0m"],
        ["dog", "do\u200bg"],
        ["dog", "do\x07g"],
    ],
)
def test_names_that_cannot_be_told_apart_are_refused(names: list[str]) -> None:
    with pytest.raises(UserError):
        check_class_names(names)


def test_names_are_equal_exactly_where_their_tokens_are() -> None:
    """The quick comparison of plain names must not differ from what the tokenizer does."""
    tokenizer = ClipTokenizer.from_open_clip()
    rng = random.Random(0)
    letters = "aAbt019 '&.,-_<>;#/x" + "\u00e9\u0301\u00c9\uff41\u00df"
    names = ["".join(rng.choice(letters) for _ in range(rng.randint(1, 4))) for _ in range(3000)]
    by_ids: dict[tuple[int, ...], str] = {}
    for name in names:
        ids = tuple(tokenizer.encode(fill("{}", name)))
        other = by_ids.setdefault(ids, name)
        if other != name:
            with pytest.raises(UserError):
                check_class_names([other, name])
    unlike = [name for ids, name in by_ids.items() if ids]
    assert len(unlike) > 1000
    assert check_class_names(unlike) == tuple(unlike)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("brush_hair", "brush hair"),
        ("TVShow", "TV show"),
        ("YoYo", "yo yo"),
        ("run2Laps", "run 2 laps"),
        ("cart-wheel", "cart wheel"),
        ("tai  chi (slow)", "tai chi (slow)"),
    ],
)
def test_labels_become_words(raw: str, words: str) -> None:
    assert readable_name(raw) == words


def test_fill_makes_underscores_blanks_unless_they_are_kept() -> None:
    assert fill("a photo of a {}.", "apply_eye_makeup") == "a photo of a apply eye makeup."
    assert fill("a photo of a {_}.", "apply_eye_makeup") == "a photo of a apply_eye_makeup."
    with pytest.raises(UserError, match="exactly one"):
        fill("{} or {_}", "x")


def test_fill_keeps_braces_of_the_name() -> None:
    assert fill("a {_}.", "{}") == "a {}."
    assert fill("a {}.", "{x}") == "a {x}."
    assert fill("a {_}.", "{_}") == "a {_}."
    assert fill("a {}.", "{_}") == "a { }."  # no hole: the underscore of a name becomes a blank
    for template in ("none", "{} and {}"):
        with pytest.raises(UserError, match="exactly one"):
            fill(template, "x")
