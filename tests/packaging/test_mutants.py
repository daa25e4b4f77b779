"""The list of `make mutants` names edits that can be made and tests that exist."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_edit_can_be_made_once() -> None:
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "scripts" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    mutants = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = mutants
    spec.loader.exec_module(mutants)
    assert len(mutants.MUTANTS) >= 20
    for mutant in mutants.MUTANTS:
        assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1, mutant.what
        assert mutant.old != mutant.new
        assert all((ROOT / place).exists() for place in mutant.tests.split()), mutant.what
