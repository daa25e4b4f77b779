"""Files are written whole or not at all, whatever their names and places."""

from pathlib import Path

import pytest

from ga2clip.errors import UserError
from ga2clip.files import replacing, write_text


def test_an_error_leaves_the_old_version_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as temporary:
        temporary.write_text("half \ud800", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_name_that_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".txt")
    write_text(path, "whole")
    assert path.read_text() == "whole"


def test_a_file_in_the_way_of_a_folder_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_text(tmp_path / "file" / "a.txt", "x")
