"""Updates the frame cache of a prepared dataset, with several processes."""

import logging
import threading
from dataclasses import asdict

from ga2clip.data.cache import plan_shards
from ga2clip.data.check import GRACE, file_time_limit
from ga2clip.data.manifest import Clip, Manifest
from ga2clip.data.pool import Answer, Job, Lost, Progress, run_jobs, silent
from ga2clip.errors import UserError
from ga2clip.text import printable

logger = logging.getLogger(__name__)


def build_cache(manifest: Manifest, workers: int, progress: Progress = silent) -> int:
    """Store the clips that the frame cache lacks; returns the number of clips in it.

    A clip that can't be read or that crashes its process is logged and left out. An interrupted call loses the shards
    that it was writing, at most one per worker. progress: called with ("caching", clips done, clips in all).
    Raises UserError when a shard can't be written.
    """
    clips = [clip for clip in manifest.clips if clip.frames]
    jobs: list[Job] = [
        {
            "job": "cache",
            "shard": str(shard),
            "root": str(manifest.root),
            "clips": [asdict(clip) for clip in group],
            "time_limit": _time_limit(manifest, group),
        }
        for shard, group in plan_shards(manifest.root, clips)
    ]
    done, counting = len(clips) - sum(len(job["clips"]) for job in jobs), threading.Lock()
    progress("caching", done, len(clips))

    def hear(_: Answer) -> None:
        nonlocal done
        with counting:
            done = min(done + 1, len(clips))  # the clips of a restarted shard are reported twice
            progress("caching", done, len(clips))

    lost = 0
    while jobs:
        again: list[Job] = []
        for job, answer in run_jobs(jobs, workers=min(workers, len(jobs)), hear=hear):
            unreadable, rest = _outcome(job, answer)
            for name, reason in unreadable:
                logger.warning("clip %s can't be cached: %s", printable(name), reason)
            lost += len(unreadable)
            again += rest
        jobs = again
    return len(clips) - lost


def _outcome(job: Job, answer: Answer | Lost) -> tuple[list[tuple[str, str]], list[Job]]:
    """(clip, reason) for clips that can't be stored, and, after a crash, the job without the clip that caused it."""
    if isinstance(answer, Lost):
        ids = [Clip(**clip).id for clip in job["clips"]]
        name = str((answer.last or {"clip": ids[0]})["clip"])
        rest = [clip for clip, id in zip(job["clips"], ids, strict=True) if id != name]
        return [(name, answer.reason)], [{**job, "clips": rest}] if rest else []
    if "failed" in answer:
        raise UserError(answer["failed"], answer["hint"])
    return [(name, reason) for name, reason in answer["broken"]], []


def _time_limit(manifest: Manifest, clips: list[Clip]) -> float:
    return GRACE + max(file_time_limit(manifest.root / clip.path) for clip in clips)
