"""What every test may use, and how all of them are run."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import hypothesis
import pytest

from monitor.engine.graph.policy import allow_deep_reads
from tests.support import tools

# No deadline: the machine is shared. `HYPOTHESIS_PROFILE=thorough` looks longer.
hypothesis.settings.register_profile("default", deadline=None, max_examples=25)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=500)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
allow_deep_reads()  # now, as the first graph does: hypothesis wants the limit to stay


@pytest.fixture
def need() -> Callable[..., None]:
    """``need("qemu-img")``: skips aloud where a program is missing (tests.support.tools)."""
    return tools.need


@pytest.fixture(autouse=True)
def _events_are_as_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test has an engine in this process report is held against its declaration."""
    from monitor.engine.embedded import EmbeddedEngine
    from tests.support.event_checks import check_event

    emit = EmbeddedEngine.emit

    def checked(self: EmbeddedEngine, name: str, data: dict[str, Any]) -> None:
        check_event(name, data)
        emit(self, name, data)

    monkeypatch.setattr(EmbeddedEngine, "emit", checked)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _skips_fail_in_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _skips_fail_in_ci((yield))


Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def _skips_fail_in_ci(report: Report) -> Report:
    """Where everything is installed (BLKMON_CI is set), what is skipped is not tested."""
    if os.environ.get("BLKMON_CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, which BLKMON_CI does not allow: {reason}"
    return report
