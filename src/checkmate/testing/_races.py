"""What the races of a `TaskIOConformance` prove, for the report of a test run."""

from collections.abc import Generator

import pytest

from checkmate_core.testing import Subject

_RACES = "races"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Record what the races of a conformance subject prove."""
    subject = getattr(item, "funcargs", {}).get("subject")
    if isinstance(subject, Subject):
        item.user_properties.append((_RACES, f"{item.nodeid.rpartition('::')[0]}: {subject.races}"))
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print, once for each backend, what its races prove."""
    evidence = {
        text: None
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, text in getattr(report, "user_properties", ())
        if name == _RACES
    }
    if evidence:
        terminalreporter.section("what the races prove")
        for text in evidence:
            terminalreporter.write_line(str(text))
