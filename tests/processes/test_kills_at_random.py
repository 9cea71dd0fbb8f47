"""Workers that are killed at random moments until their tasks are done all the same."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from checkmate_core import open_task_io
from checkmate_core.layout import lock_object_name
from checkmate_core.lock import read_lock

from .checks import check_finished, executions
from .pipeline import STAGES, Job
from .workers import Tally, Workers

KILLS = {"file": 40, "s3": 20}
LONGEST_STREAK = 60


@pytest.mark.slow
def test_survives_kills_at_random_moments(url: str, log: Path, workers: Workers, tally: Tally) -> None:
    seed = int(os.environ.get("CHECKMATE_SEED", random.SystemRandom().randrange(2**32)))
    print(f"repeat with CHECKMATE_SEED={seed}")
    rng = random.Random(seed)
    kills, task = 0, 0
    while kills < KILLS[url.partition(":")[0]]:
        task_id = f"t{task}"
        kills += _run_until_done(url, task_id, log, workers, rng)
        check_finished(url, task_id, log, tally)
        task += 1


def _run_until_done(url: str, task_id: str, log: Path, workers: Workers, rng: random.Random) -> int:
    """Kill and start again until one worker gets through; how many were killed."""
    job = Job(url=url, task_ids=[task_id], log=str(log), pause=0.01)
    for kills in range(LONGEST_STREAK):
        held = _is_held(url, task_id)
        done = len(executions(log)[task_id])
        worker = workers.start(job)
        # Sometimes from the very start, sometimes from the moment that it executes a stage: most of a
        # worker's short life is connecting, and moments in it are all alike.
        if rng.random() < 0.7:
            _wait_for_executions(log, task_id, done + rng.randrange(1, STAGES))
            time.sleep(rng.uniform(0, 0.03))
        else:
            time.sleep(rng.uniform(0, 0.5))
        worker.signal(signal.SIGKILL)
        ended = worker.wait()
        if not ended.was_killed:
            assert ended.returncode == 0, ended
            assert ended.took_over == held, ended
            return kills
    raise AssertionError(f"{LONGEST_STREAK} workers in a row were killed")


def _is_held(url: str, task_id: str) -> bool:
    # Not asked of the task: a worker may have died between the lock and the manifest.
    lock = read_lock(open_task_io(url), lock_object_name(task_id))
    return lock is not None and lock.owner is not None


def _wait_for_executions(log: Path, task_id: str, count: int) -> None:
    deadline = time.monotonic() + 3.0
    while len(executions(log)[task_id]) < count and time.monotonic() < deadline:
        time.sleep(0.001)
