import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from .proxy import Fault, Proxy
from .tallies import Tally
from .workers import Workers


@pytest.fixture
def workers(tally: Tally) -> Iterator[Workers]:
    with Workers(tally) as workers:
        yield workers


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log of executions; no file yet."""
    return tmp_path / "executions.log"


@pytest.fixture(params=["file", "s3", "gcs", "azure"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty store that processes can share."""
    found = request.getfixturevalue(f"checkmate_{request.param}_url")
    assert isinstance(found, str)
    return found


@pytest.fixture
def proxy(checkmate_s3_server: str, tally: Tally) -> Iterator[Proxy]:
    """A proxy before the S3 server, without any faults yet."""
    with Proxy(checkmate_s3_server) as proxy:
        yield proxy
    tally.cut += proxy.counts[Fault.CUT]
    tally.swallowed += proxy.counts[Fault.SWALLOW]
    tally.delayed += proxy.counts[Fault.DELAY]


@pytest.fixture
def proxied_url(checkmate_s3_url: str, checkmate_s3_server: str, proxy: Proxy) -> str:
    """The store of ``checkmate_s3_url``, through the proxy."""
    return checkmate_s3_url.replace(checkmate_s3_server, proxy.endpoint)


@pytest.fixture
def rng() -> random.Random:
    """Chance that can be repeated."""
    seed = int(os.environ.get("CHECKMATE_SEED", random.SystemRandom().randrange(2**32)))
    print(f"repeat with CHECKMATE_SEED={seed}")
    return random.Random(seed)
