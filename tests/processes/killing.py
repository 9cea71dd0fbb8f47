"""Killing workers at random moments until their tasks are done all the same."""

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from .checks import check_finished, executions
from .pipeline import STAGES, Job
from .tallies import Tally
from .workers import Ended, Workers, wait_until

LONGEST_STREAK = 60
# How a worker may end that was not killed: well, or because the store could not be reached, or because
# this machine was so busy that its lease ran out.
ENDS = {None, "StorageUnavailableException", "LockLostException"}


def kill_many(
    job: Job, url: str, tally: Tally, rng: random.Random, *, at_once: int, kills_of_each: int
) -> None:
    """Do the job for so many tasks side by side, each anew until so many of its workers were killed."""
    seeds = [rng.random() for _ in range(at_once)]
    tallies = [Tally() for _ in seeds]

    def one(lane: int) -> None:
        own, number = random.Random(seeds[lane]), 0
        with Workers(tallies[lane]) as workers:
            while tallies[lane].kills < kills_of_each:
                task_id = f"lane-{lane}-{number}"
                run_to_the_end(replace(job, task_ids=[task_id]), workers, own)
                check_finished(url, task_id, Path(job.log), tallies[lane])
                number += 1

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, range(at_once)))
    for each in tallies:
        tally.add(each)


def run_to_the_end(job: Job, workers: Workers, rng: random.Random) -> None:
    """Kill and start again until one worker gets through."""
    for _ in range(LONGEST_STREAK):
        # Where a lease is waited for, each on a host of its own.
        boot = None if job.wait is None else str(uuid4())
        ended = run_and_kill(replace(job, boot=boot), workers, rng)
        assert ended.was_killed or ended.said.get("error") in ENDS, ended
        assert boot is None or "its holder is dead" not in ended.errors, ended
        if ended.returncode == 0:
            return
    raise AssertionError(f"{LONGEST_STREAK} workers in a row did not get through")


def run_and_kill(job: Job, workers: Workers, rng: random.Random) -> Ended:
    """Kill a worker at some moment, if it does not end before."""
    log, (task_id,) = Path(job.log), job.task_ids
    done = len(executions(log)[task_id])
    worker = workers.start(job)
    # Mostly from the moment that it executes a stage: most of a worker's short life is connecting,
    # and moments in it are all alike.
    if rng.random() < 0.8:
        wanted = done + rng.randrange(1, STAGES)
        wait_until(lambda: worker.has_ended or len(executions(log)[task_id]) >= wanted)
        time.sleep(rng.uniform(0, 0.03))
    else:
        time.sleep(rng.uniform(0, 0.5))
    worker.signal(signal.SIGKILL)
    return worker.wait()
