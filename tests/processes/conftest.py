from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from .workers import Tally, Workers

_TALLY = Tally()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than about five seconds")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _TALLY.starts:
        terminalreporter.section("processes")
        terminalreporter.write_line(", ".join(f"{what} {n}" for what, n in asdict(_TALLY).items()))


@pytest.fixture
def tally() -> Tally:
    return _TALLY


@pytest.fixture
def workers(tally: Tally) -> Iterator[Workers]:
    with Workers(tally) as workers:
        yield workers


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log of executions; no file yet."""
    return tmp_path / "executions.log"


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty store that processes can share."""
    found = request.getfixturevalue(f"checkmate_{request.param}_url")
    assert isinstance(found, str)
    return found
