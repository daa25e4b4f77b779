"""The benchmark measures each engine in every round and prints a table that can be pasted."""

import json

import pytest

from ga2clip.errors import UserError
from ga2clip_export.bench import bench


def test_a_table_with_a_row_per_bundle_and_provider(bundle, clip_path) -> None:
    report = bench([bundle, bundle], [clip_path, clip_path], rounds=2, threads=1)
    assert len(report.rows) == 2
    for row in report.rows:
        assert len(row.encode) == 4
        assert len(row.text) == len(row.start) == 2
        assert row.cosine > 0.99999
        assert row.memory > 10
    lines = report.table().splitlines()
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert json.loads(json.dumps(report.to_json()))["rows"][0]["provider"] == "cpu"


def test_no_rounds_and_no_bundle_are_errors(bundle) -> None:
    with pytest.raises(UserError, match="rounds"):
        bench([bundle], rounds=0)
    with pytest.raises(UserError, match="no bundle to measure"):
        bench([])
