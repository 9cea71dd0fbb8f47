"""Workers that are killed at random moments until their tasks are done all the same."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from .checks import check_finished, executions
from .pipeline import STAGES, Job, cm_factory_pipeline
from .workers import Tally, Workers, wait_until

KILLS = {"file": 30, "s3": 20}
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
        held = cm_factory_pipeline(job, task_id).has_lockfile
        done = len(executions(log)[task_id])
        worker = workers.start(job)
        # Mostly from the moment that it executes a stage: most of a worker's short life is connecting,
        # and moments in it are all alike.
        if rng.random() < 0.8:
            wanted = done + rng.randrange(1, STAGES)
            wait_until(lambda: worker.has_ended or len(executions(log)[task_id]) >= wanted)  # noqa: B023
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
