"""For all tests: no deadlines, a file stays together, and what fault tests counted is printed."""

from __future__ import annotations

import hypothesis
import pytest

pytest_plugins = ["object_store"]

# A first call loads and compiles, and machines are shared: how long one example takes says nothing about the code.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests run in one process of a parallel run: what they share is made once."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


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
