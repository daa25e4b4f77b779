"""`ga2clip cache`: what is remembered of class names, checked and cleared."""

import json
import sqlite3

import pytest

from ga2clip.runtime.feature_cache import FeatureCache


@pytest.fixture
def remembered(empty, monkeypatch) -> FeatureCache:
    monkeypatch.setenv("GA2CLIP_CACHE", str(empty / "cache"))
    cache = FeatureCache({"embedding": 2}, 2)
    cache.put({"running": [0.6, 0.8], "sleeping": [1.0, 0.0]})
    return cache


def test_said_checked_and_cleared(remembered, ga2clip, empty) -> None:
    code, out, _ = ga2clip("cache")
    assert code == 0
    assert out.startswith("2 features of 1 model (")
    assert ga2clip("cache", "verify").out.endswith("all as written\n")
    assert json.loads(ga2clip("cache", "verify", "--json").out)["files"][0]["fault"] is None

    connection = sqlite3.connect(remembered.path)
    with connection:
        connection.execute("UPDATE features SET feature = zeroblob(8) WHERE text = 'running'")
    connection.close()
    code, out, err = ga2clip("cache", "verify")
    assert code == 1
    assert f"{remembered.path}: 1 feature: changed since it was written" in out
    assert "ga2clip cache clear" in err

    assert "1 file deleted" in ga2clip("cache", "clear").out
    assert not remembered.path.exists()
    assert json.loads(ga2clip("cache", "clear", "--json").out)["deleted"] == 0
    assert ga2clip("cache", "verify").code == 0


def test_an_unknown_action_is_wrong_usage(ga2clip) -> None:
    assert ga2clip("cache", "wipe").code == 2
