"""What the simulated runs did, summed over the whole session, in whichever process each test ran."""

from collections import Counter
from collections.abc import Iterator

import pytest

from checkmate_core.testing.simulation.__main__ import describe

_PROPERTY = "simulated"


@pytest.fixture
def totals(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """The test's own totals; they reach the summary with the report of the test's teardown."""
    totals: Counter[str] = Counter()
    yield totals
    request.node.user_properties.append((_PROPERTY, dict(totals)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # From reports: with pytest-xdist, they are all that comes here from the processes that ran the tests.
    total: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "teardown":
                continue
            for name, counts in report.user_properties:
                if name == _PROPERTY:
                    total.update(counts)
    if total:
        terminalreporter.section("what was simulated")
        terminalreporter.write_line(describe(total))
