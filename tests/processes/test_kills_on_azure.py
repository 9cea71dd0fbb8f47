"""Workers that are killed at random moments, on Azurite behind a proxy as in `test_kills_on_s3`.

On one host the next worker sees that the last one is dead; on another it waits until the lease has run out.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from checkmate_core import open_task_io

from .killing import kill_many
from .pipeline import Job
from .proxy import Fault, Proxy, seeded
from .tallies import Tally

AT_ONCE = 3
KILLS_OF_EACH = 10
LEASE = 1.0
CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"


@pytest.fixture
def bad_network(checkmate_azure_server: str, tally: Tally, rng: random.Random) -> Iterator[Proxy]:
    with Proxy(checkmate_azure_server) as proxy:
        proxy.plan = seeded(random.Random(rng.random()), cut=0.02, swallow=0.02, delay=0.04)
        yield proxy
    tally.cut += proxy.counts[Fault.CUT]
    tally.swallowed += proxy.counts[Fault.SWALLOW]
    tally.delayed += proxy.counts[Fault.DELAY]


@pytest.fixture
def badly_reached_url(
    checkmate_azure_url: str,
    checkmate_azure_server: str,
    bad_network: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """A store that this process, which has opened it already, reaches directly, and workers do not."""
    assert list(open_task_io(checkmate_azure_url).list()) == []
    direct = f"{urlsplit(checkmate_azure_server).scheme}://{urlsplit(checkmate_azure_server).netloc}"
    monkeypatch.setenv(CONNECTION, os.environ[CONNECTION].replace(direct, bad_network.endpoint))
    return checkmate_azure_url


@pytest.mark.slow
def test_survives_kills_on_azure_behind_a_bad_network(
    badly_reached_url: str, bad_network: Proxy, log: Path, tally: Tally, rng: random.Random
) -> None:
    job = Job(url=badly_reached_url, task_ids=(), log=str(log), pause=0.01)
    kill_many(job, badly_reached_url, tally, rng, at_once=AT_ONCE, kills_of_each=KILLS_OF_EACH)
    assert tally.kills >= AT_ONCE * KILLS_OF_EACH
    assert all(bad_network.counts[fault] for fault in (Fault.CUT, Fault.SWALLOW, Fault.DELAY))


@pytest.mark.slow
def test_survives_kills_on_many_hosts_with_azure_behind_a_bad_network(
    badly_reached_url: str, log: Path, tally: Tally, rng: random.Random
) -> None:
    job = Job(url=badly_reached_url, task_ids=(), log=str(log), pause=0.01, lease=LEASE, wait=100.0)
    kill_many(job, badly_reached_url, tally, rng, at_once=AT_ONCE, kills_of_each=KILLS_OF_EACH)
    assert tally.by_lease > AT_ONCE
