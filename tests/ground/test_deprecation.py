"""A name that goes away still works and says so once, at the line that used it."""

import subprocess
import sys
import warnings

import pytest

from ga2clip.deprecation import warn_deprecated


def old_name() -> int:
    warn_deprecated("test.old_name", "test.new_name")
    return 7


def test_the_warning_comes_once_and_points_at_the_caller() -> None:
    with pytest.warns(
        DeprecationWarning, match=r"test\.old_name is deprecated: use test\.new_name"
    ) as caught:
        assert old_name() == 7
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert old_name() == 7


def test_the_runtime_s_old_place() -> None:
    script = (
        "from ga2clip_export.runtime import Predictor; import ga2clip.runtime; "
        "assert Predictor is ga2clip.runtime.Predictor"
    )
    command = [sys.executable, "-W", "always::DeprecationWarning", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "<string>:1: DeprecationWarning: ga2clip_export.runtime is deprecated" in done.stderr
