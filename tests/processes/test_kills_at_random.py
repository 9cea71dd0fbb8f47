"""Workers that are killed at random moments until their tasks are done all the same.

Four times: on files, and on S3 behind a proxy that cuts, swallows and delays; there each with workers
of one host, where the next one sees that the last one is dead, and with workers of ever other hosts,
where it can only wait until the lease has run out.
"""

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from .checks import check_finished, executions
from .pipeline import STAGES, Job, cm_factory_pipeline
from .proxy import Proxy, seeded
from .tallies import Tally
from .workers import Ended, Workers, wait_until

KILLS = 60
AT_ONCE = 5
KILLS_OF_EACH = 10
LONGEST_STREAK = 60
LEASE = 1.0
# How a worker may end that was not killed: well, or because the store could not be reached, or because
# this machine was so busy that its lease ran out.
ENDS = {None, "StorageUnavailableException", "LockLostException"}


@pytest.mark.slow
def test_survives_kills_on_files(
    checkmate_file_url: str, log: Path, workers: Workers, tally: Tally, rng: random.Random
) -> None:
    killed, task = 0, 0
    while killed < KILLS:
        task_id = f"t{task}"
        job = Job(url=checkmate_file_url, task_ids=[task_id], log=str(log), pause=0.01)
        while True:
            held = cm_factory_pipeline(job, task_id).has_lockfile
            ended = run_and_kill(job, workers, rng)
            if not ended.was_killed:
                assert ended.returncode == 0, ended
                assert ended.took_over == held, ended
                break
            killed += 1
            assert not ended.took_over or held, ended
        check_finished(checkmate_file_url, task_id, log, tally)
        task += 1


@pytest.mark.slow
def test_survives_kills_on_s3_behind_a_bad_network(
    checkmate_s3_url: str, proxied_url: str, proxy: Proxy, log: Path, tally: Tally, rng: random.Random
) -> None:
    proxy.plan = seeded(random.Random(rng.random()), cut=0.02, swallow=0.02, delay=0.04)
    job = Job(url=proxied_url, task_ids=(), log=str(log), pause=0.01)
    kill_many(job, checkmate_s3_url, tally, rng, at_once=2, kills_of_each=KILLS // 2)


@pytest.mark.slow
def test_survives_kills_on_many_hosts_with_files(
    checkmate_file_url: str, log: Path, tally: Tally, rng: random.Random
) -> None:
    job = Job(url=checkmate_file_url, task_ids=(), log=str(log), pause=0.01, lease=LEASE, wait=100.0)
    kill_many(job, checkmate_file_url, tally, rng, at_once=AT_ONCE, kills_of_each=KILLS_OF_EACH)
    assert tally.by_lease == tally.take_overs > AT_ONCE


@pytest.mark.slow
def test_survives_kills_on_many_hosts_with_s3_behind_a_bad_network(
    checkmate_s3_url: str, proxied_url: str, proxy: Proxy, log: Path, tally: Tally, rng: random.Random
) -> None:
    proxy.plan = seeded(random.Random(rng.random()), cut=0.02, swallow=0.02, delay=0.04)
    job = Job(url=proxied_url, task_ids=(), log=str(log), pause=0.01, lease=LEASE, wait=100.0)
    kill_many(job, checkmate_s3_url, tally, rng, at_once=AT_ONCE, kills_of_each=KILLS_OF_EACH)
    assert tally.by_lease == tally.take_overs > AT_ONCE


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
