"""For all tests: no deadlines, and what fault tests counted is printed: rows compared, lost, and told twice."""

from __future__ import annotations

import hypothesis
import pytest

# A first call loads and compiles, and machines are shared: how long one example takes says nothing about the code.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line a test that recorded the property ``counted``."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())]
    lines = [
        f"{report.nodeid.rpartition('::')[2]}: {value}"
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "counted" and report.when == "call"
    ]
    if lines:
        terminalreporter.section("counted after faults")
        for line in lines:
            terminalreporter.write_line(line)
