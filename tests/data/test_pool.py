"""Workers that hang, crash or are interrupted, played by small scripts in place of the real one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ga2clip.data import pool
from ga2clip.data.cache import FrameStore
from ga2clip.data.cache_build import build_cache
from ga2clip.data.manifest import Clip, Manifest
from ga2clip.data.pool import Lost, run_jobs
from ga2clip.errors import UserError

SCRIPT = """
import json, os, sys, time
print('{"ready": true}', flush=True)
for line in sys.stdin:
    job = json.loads(line)
    print(json.dumps({"started": job["n"]}), flush=True)
    if job["do"] == "hang":
        time.sleep(60)
    if job["do"] == "crash":
        os.kill(os.getpid(), 11)
    print(json.dumps({"done": {"n": job["n"], "pid": os.getpid()}}), flush=True)
"""


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="ascii"
        )

    monkeypatch.setattr(pool, "_start", start)


def jobs(*what: str) -> list[dict[str, object]]:
    return [{"n": number, "do": do, "time_limit": 2.0} for number, do in enumerate(what)]


def test_every_job_is_answered_by_few_processes() -> None:
    heard: list[dict[str, object]] = []
    answers = list(run_jobs(jobs(*["work"] * 9), workers=2, hear=heard.append))
    assert sorted(answer["n"] for _, answer in answers) == list(range(9))  # type: ignore[index]
    assert len({answer["pid"] for _, answer in answers}) <= 2  # type: ignore[index]
    assert len(heard) == 9


def test_hanging_and_crashing_jobs_cost_only_themselves() -> None:
    todo = jobs("work", "hang", "crash", "work", "work")
    answers = {job["n"]: answer for job, answer in run_jobs(todo, workers=1)}
    assert [n for n, answer in answers.items() if isinstance(answer, Lost)] == [1, 2]
    assert answers[1] == Lost("decoding took longer than 2 seconds", {"started": 1})
    assert answers[2] == Lost("the decoder crashed (exit code -11)", {"started": 2})


def test_a_process_that_cannot_start_is_an_error_not_a_thousand_broken_clips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"{__name__}.SCRIPT", "raise SystemExit(3)")
    with pytest.raises(UserError, match="before it was ready"):
        list(run_jobs(jobs("work", "work"), workers=1))


def test_leaving_early_ends_the_processes(tmp_path: Path) -> None:
    heard: list[dict[str, object]] = []
    todo = [{**job, "time_limit": 30.0} for job in jobs("work", "hang", "work")]
    answers = run_jobs(todo, workers=2, hear=heard.append)
    pid = next(answers)[1]["pid"]  # type: ignore[index]
    answers.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


CRASHES_ON_ONE_CLIP = """
import os
from ga2clip.data import worker

write_shard = worker.write_shard

def crash_before(clip):
    if clip.path == "1.mp4":
        os.kill(os.getpid(), 9)

worker.write_shard = lambda shard, root, clips, before: write_shard(
    shard, root, clips, lambda clip: (before(clip), crash_before(clip))
)
worker.main()
"""


def test_a_clip_that_crashes_the_decoder_costs_only_its_place_in_the_cache(
    tmp_path: Path, make_video, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(f"{__name__}.SCRIPT", CRASHES_ON_ONE_CLIP)
    clips = tuple(
        Clip(
            make_video(tmp_path / f"{n}.mp4", seed=n).name,
            "run",
            "train",
            10,
            1.0,
            "hash",
            width=64,
            height=48,
        )
        for n in range(3)
    )
    assert build_cache(Manifest("folder", tmp_path, ("run",), (), clips), workers=1) == 2
    store = FrameStore.find(tmp_path)
    assert store is not None
    assert [clip in store for clip in clips] == [True, False, True]
    assert "1.mp4 can't be cached: the decoder crashed" in caplog.text
