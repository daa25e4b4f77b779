"""The worker process of `ga2clip.data.pool`: reads jobs from stdin and writes answers to stdout, one JSON per line.

Decoders can hang or crash on damaged files; in a separate process that costs one clip, not the whole run.
"""

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ga2clip.data.cache import write_shard
from ga2clip.data.manifest import Clip
from ga2clip.errors import UserError
from ga2clip.files import file_sha256
from ga2clip.video import VideoError, probe_times

_LOOK_SECONDS, _GRACE_SECONDS = 1.0, 60.0

Say = Callable[[dict[str, Any]], None]


def check_clip(path: Path, time_limit: float, *, times: bool = False) -> dict[str, Any]:
    """Decode a whole file: {frames, duration, width, height, sha256, warnings}, or {error: reason}.

    times: add {steps: milliseconds from each frame to the next}.
    """
    try:
        info, seconds = probe_times(path, time_limit=time_limit)
        sha256 = file_sha256(path)
    except VideoError as error:
        return {"error": error.reason}
    except OSError as error:
        return {"error": error.strerror or str(error)}
    return {
        "frames": info.frames,
        "duration": round(info.duration, 3),
        "width": info.width,
        "height": info.height,
        "sha256": sha256,
        "warnings": list(info.warnings),
        "steps": np.diff(np.rint(1000 * seconds).astype(int)).tolist() if times else [],
    }


def cache_clips(shard: Path, root: Path, clips: list[dict[str, Any]], say: Say) -> dict[str, Any]:
    """Write a shard of the frame cache, saying {clip: id} before each clip: {broken: [[id, reason], …]}."""
    try:
        broken = write_shard(
            shard, root, [Clip(**clip) for clip in clips], lambda clip: say({"clip": clip.id})
        )
    except UserError as error:
        return {"failed": error.message, "hint": error.hint}
    return {"broken": broken}


def _end_after(parent: int) -> None:
    """End this process some time after its parent has gone, even if the decoder hangs."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


def main() -> None:
    """Report that it is ready, then answer jobs until stdin ends, which also happens when the parent has gone."""
    threading.Thread(target=_end_after, args=(os.getppid(),), daemon=True).start()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a decoder that prints must not garble the answers
    logging.getLogger("ga2clip").addHandler(
        logging.NullHandler()
    )  # what is wrong with a clip is in its answer

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    say({"ready": True})
    for line in sys.stdin:
        job = json.loads(line)
        if job["job"] == "check":
            say({"done": check_clip(Path(job["path"]), job["decode_limit"], times=job["times"])})
        else:
            say({"done": cache_clips(Path(job["shard"]), Path(job["root"]), job["clips"], say)})


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # the parent has gone
        main()
