import pytest

_SEARCH = "search"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # From the reports, and not from a global: under pytest-xdist the searches are other processes'.
    found = [
        (report.nodeid.rpartition("::")[2], text)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, text in report.user_properties
        if name == _SEARCH
    ]
    if found:
        terminalreporter.section("states of the ownership protocol")
        for test, text in sorted(found):
            terminalreporter.write_line(f"{test}: {text}")
