"""Events are declared, and what is emitted is held against the declaration."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.schema.events import event_types
from tests.support.event_checks import check_event

COMPLETED = {"type": "stream", "device": "j", "len": 1, "offset": 1, "speed": 0}


def test_what_is_as_declared_passes() -> None:
    check_event("BLOCK_JOB_COMPLETED", COMPLETED)
    check_event("BLOCK_JOB_COMPLETED", {**COMPLETED, "error": "No space left on device"})
    check_event("JOB_STATUS_CHANGE", {"id": "j", "status": "null"})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("NO_SUCH_EVENT", {}),
        ("JOB_STATUS_CHANGE", {"id": "j"}),
        ("JOB_STATUS_CHANGE", {"id": "j", "status": "asleep"}),
        ("JOB_STATUS_CHANGE", {"id": "j", "status": "null", "more": 1}),
        ("BLOCK_JOB_COMPLETED", {**COMPLETED, "len": "1"}),
        ("BLOCK_JOB_COMPLETED", {**COMPLETED, "error": None}),
        ("BLOCK_WRITE_THRESHOLD", {"node_name": "n"}),
    ],
)
def test_what_is_not_is_found(name: str, data: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        check_event(name, data)


def test_every_engine_in_a_test_is_checked() -> None:
    async def emit() -> None:
        engine = EmbeddedEngine()
        engine.emit("X_BLKMON_NOTE", {"text": "fine"})
        with pytest.raises(AssertionError, match="not declared"):
            engine.graph.emit("NO_SUCH_EVENT", {})

    asyncio.run(emit())


def test_names_are_unique_and_say_what_is_ours() -> None:
    ours = {name for name in event_types() if name.startswith("X_BLKMON_")}
    names = {"CLOSE_FAILED", "NODE_DROPPED", "NOTE", "SUSPENDED"}
    assert ours == {f"X_BLKMON_{name}" for name in names}
    assert {type_.__doc__ for type_ in event_types().values()}.isdisjoint({None, ""})
