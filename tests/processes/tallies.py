"""What the process tests did, summed over the whole session, in whichever process each test ran."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

import pytest

_PROPERTY = "processes"


@dataclass
class Tally:
    """What was done, and what went wrong.

    Attributes:
        starts: Workers that were started.
        kills: Of these, how many were killed.
        take_overs: Locks that workers took from another holder.
        by_lease: Of these, how many because the holder's lease had run out.
        fenced: Workers that ended with `LockLostException`: none of them stored anything more.
        executions: Executions of stages.
        commits: Stages that became COMPLETE.
        cut: Requests that a proxy cut before they reached the store.
        swallowed: Requests that were applied, and their responses swallowed.
        delayed: Responses that came late.
        lost: Stages without a commit.
        doubled: Commits of a stage beyond the first.
    """

    starts: int = 0
    kills: int = 0
    take_overs: int = 0
    by_lease: int = 0
    fenced: int = 0
    executions: int = 0
    commits: int = 0
    cut: int = 0
    swallowed: int = 0
    delayed: int = 0
    lost: int = 0
    doubled: int = 0

    def add(self, other: "Tally") -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """The test's own tally; it reaches the summary with the report of the test's teardown."""
    tally = Tally()
    yield tally
    request.node.user_properties.append((_PROPERTY, asdict(tally)))
    assert tally.lost == tally.doubled == 0


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # From reports: with pytest-xdist, they are all that comes here from the processes that ran the tests.
    total = Tally()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "teardown":
                for name, value in report.user_properties:
                    if name == _PROPERTY:
                        total.add(Tally(**value))
    if total.starts or total.executions:
        terminalreporter.section("processes")
        terminalreporter.write_line(", ".join(f"{what} {n}" for what, n in asdict(total).items()))
