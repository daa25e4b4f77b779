from pathlib import Path

import pytest

from ga2clip.errors import UserError
from ga2clip.labels import check_class_names, fill, read_class_list, readable_name


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


@pytest.mark.parametrize("names", [[], ["run", " "], ["run", "Run"], ["two  blanks", "two blanks"]])
def test_names_that_cannot_be_told_apart_are_refused(names: list[str]) -> None:
    with pytest.raises(UserError):
        check_class_names(names)


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


def test_fill_keeps_braces_of_the_name() -> None:
    assert fill("a {}.", "{x}") == "a {x}."
    for template in ("none", "{} and {}"):
        with pytest.raises(UserError, match="exactly one"):
            fill(template, "x")
