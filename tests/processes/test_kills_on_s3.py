"""Workers of one host that are killed at random moments, on S3 behind a proxy that cuts, swallows and delays."""

import random
from pathlib import Path

import pytest

from .killing import kill_many
from .pipeline import Job
from .proxy import Fault, Proxy, seeded
from .tallies import Tally

AT_ONCE = 2
KILLS_OF_EACH = 16


@pytest.mark.slow
def test_survives_kills_on_s3_behind_a_bad_network(
    checkmate_s3_url: str, proxied_url: str, proxy: Proxy, log: Path, tally: Tally, rng: random.Random
) -> None:
    proxy.plan = seeded(random.Random(rng.random()), cut=0.02, swallow=0.02, delay=0.04)
    job = Job(url=proxied_url, task_ids=(), log=str(log), pause=0.01)
    kill_many(job, checkmate_s3_url, tally, rng, at_once=AT_ONCE, kills_of_each=KILLS_OF_EACH)
    assert tally.kills >= AT_ONCE * KILLS_OF_EACH
    assert all(proxy.counts[fault] for fault in (Fault.CUT, Fault.SWALLOW, Fault.DELAY))
