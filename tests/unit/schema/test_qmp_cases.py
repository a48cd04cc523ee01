"""Every request has a case beside qemu-storage-daemon, and so has every message of the reference.

What is asked for here is declared in tests/support/qmp_cases, whose docstring says how.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from monitor.engine.schema.base import request_types
from tests.support.qmp_cases import Never, gathered
from tests.support.qmp_cases.messages import REFERENCE

TESTS = Path(__file__).parents[2]

OURS = {
    "block_passwd", "query-status", "query-name", "query-kvm", "query-cpus-fast", "query-tpm",
    "query-iothreads",
}  # fmt: skip
"""Requests that qemu-storage-daemon does not know, beside those named x-blkmon-…."""

REQUESTS = sorted(
    name for name in request_types() if not name.startswith("x-blkmon-") and name not in OURS
)


def test_there_are_enough() -> None:
    assert len(gathered().cases) >= 100


@pytest.mark.parametrize("request_name", REQUESTS)
def test_each_request_succeeds_in_a_case(request_name: str) -> None:
    """That it does is checked where the case is run."""
    where = gathered().succeeds.get(request_name)
    assert where is not None, f"no case in SUCCEEDS for {request_name}"
    assert isinstance(where, Never) or _exists(where), where


@pytest.mark.parametrize("request_name", sorted(REFERENCE.keys() & request_types().keys()))
def test_each_message_has_a_case(request_name: str) -> None:
    """That it is given is checked where the case is run."""
    shown = gathered().refusals.get(request_name, {})
    missing = [text for text in REFERENCE[request_name] if text not in shown]
    assert not missing, f"no case in REFUSALS for {request_name}"
    unknown = [text for text in shown if text not in REFERENCE[request_name]]
    assert not unknown, f"not a message of {request_name}"
    for where in shown.values():
        assert isinstance(where, Never) or _exists(where), where


def test_a_job_is_completed_once_there_is_one_that_gets_ready() -> None:
    if {"block-commit", "blockdev-mirror", "drive-mirror"} & request_types().keys():
        for name in ("job-complete", "block-job-complete"):
            where = gathered().succeeds[name]
            assert not isinstance(where, Never), f"no case in SUCCEEDS for {name}"


def test_nothing_is_declared_for_what_is_not_there() -> None:
    """A name that is misspelt would be looked for nowhere."""
    declared = gathered().succeeds.keys() | gathered().refusals.keys()
    assert declared <= request_types().keys()
    assert gathered().refusals.keys() <= REFERENCE.keys()
    assert gathered().unlooked <= gathered().cases.keys()


def _exists(where: str) -> bool:
    """A case, a script of the human monitor, or a test (file::name)."""
    if where.startswith("hmp: "):
        return where.removeprefix("hmp: ") in _hmp_scripts()
    if "::" in where:
        path, _, name = where.partition("::")
        return f"def {name}(" in (TESTS / path).read_text(encoding="utf-8")
    return where in gathered().cases


def _hmp_scripts() -> set[str]:
    """Read, not imported: that module needs QEMU."""
    tree = ast.parse((TESTS / "interop" / "test_hmp.py").read_text(encoding="utf-8"))
    table = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id == "SCRIPTS"
    )
    assert isinstance(table, ast.Dict)
    return {str(ast.literal_eval(key)) for key in table.keys if key is not None}
