"""Workers that are killed at random moments, each on a host of its own, on S3 behind a proxy as in `test_kills_on_s3`."""

import random
from pathlib import Path

import pytest

from .killing import kill_many
from .pipeline import Job
from .proxy import Proxy, seeded
from .tallies import Tally

AT_ONCE = 5
KILLS_OF_EACH = 8
LEASE = 1.0


@pytest.mark.slow
def test_survives_kills_on_many_hosts_with_s3_behind_a_bad_network(
    checkmate_s3_url: str, proxied_url: str, proxy: Proxy, log: Path, tally: Tally, rng: random.Random
) -> None:
    proxy.plan = seeded(random.Random(rng.random()), cut=0.02, swallow=0.02, delay=0.04)
    job = Job(url=proxied_url, task_ids=(), log=str(log), pause=0.01, lease=LEASE, wait=100.0)
    kill_many(job, checkmate_s3_url, tally, rng, at_once=AT_ONCE, kills_of_each=KILLS_OF_EACH)
    assert tally.by_lease > AT_ONCE
