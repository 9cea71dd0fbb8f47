"""Workers that are killed at random moments, on files: on one host, and on ever other ones.

On one host, the next worker sees that the last one is dead. On another, which a worker only says that
it is on, it can only wait until the lease has run out.
"""

import random
from pathlib import Path

import pytest

from .checks import check_finished
from .killing import kill_many, run_and_kill
from .pipeline import Job, cm_factory_pipeline
from .tallies import Tally
from .workers import Workers

KILLS = 50
AT_ONCE = 5
KILLS_OF_EACH = 9
LEASE = 1.0


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
def test_survives_kills_on_many_hosts_with_files(
    checkmate_file_url: str, log: Path, tally: Tally, rng: random.Random
) -> None:
    job = Job(url=checkmate_file_url, task_ids=(), log=str(log), pause=0.01, lease=LEASE, wait=100.0)
    kill_many(job, checkmate_file_url, tally, rng, at_once=AT_ONCE, kills_of_each=KILLS_OF_EACH)
    assert tally.by_lease > AT_ONCE
