"""savevm, loadvm, delvm and info snapshots beside QEMU's human monitor; images afterwards."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.schema.extra import IoRequest
from monitor.engine.schema.snapshot import (
    BlockdevSnapshotInternalSync,
    DeleteDisks,
    LoadDisks,
    QueryDiskSnapshots,
    SaveDisks,
)
from tests.support import tools
from tests.support.drives import with_drives
from tests.support.hmp import side_by_side
from tests.support.qcow2 import qemu_check
from tests.support.side_by_side import OURS, Session, comparable, converse
from tests.support.side_by_side import fill as fill_folder

IMAGES = [
    ["qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "1M"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "b.qcow2", "1M"],
    ["qemu-img", "create", "-q", "-f", "raw", "r.raw", "1M"],
]
A, B = (f"drive_add 0 if=none,id={name},file={name}.qcow2,format=qcow2" for name in "ab")
RAW = "drive_add 0 if=none,id=r,file=r.raw,format=raw"

SCRIPTS = {
    "no disks": ["info snapshots", "savevm x", "loadvm x", "delvm x"],
    "one disk": [
        A,
        "info snapshots",
        "savevm x",
        "info snapshots",
        "savevm",
        "info snapshots",
        "loadvm x",
        "loadvm nope",
        "delvm nope",
        "savevm 7",
        "info block -v a",
        "delvm x",
        "info snapshots",
        "loadvm",
        "delvm",
        "savevm y z",
    ],
    "two disks": [
        A,
        "savevm x",
        B,
        "savevm y",
        "snapshot_blkdev_internal a i1",
        "info snapshots",
        "loadvm x",
        "delvm y",
        "info snapshots",
        RAW,
        "savevm z",
        "loadvm x",
        "delvm x",
        "info snapshots",
        "drive_del r",
        f"{RAW},readonly=on",
        "savevm z",
        "info snapshots",
    ],
    "one at a time": [
        A,
        "snapshot_blkdev_internal a i1",
        "snapshot_blkdev_internal a i1",
        "snapshot_blkdev_internal nope i1",
        "snapshot_blkdev_internal a",
        "snapshot_blkdev_internal",
        "info snapshots",
        "snapshot_delete_blkdev_internal a i1 2",
        "snapshot_delete_blkdev_internal a i1 1",
        "snapshot_delete_blkdev_internal a i1",
        "snapshot_delete_blkdev_internal a",
        "snapshot_delete_blkdev_internal nope i1",
    ],
}

_MOMENT = re.compile(r"vm-\d{14}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
_STATE = re.compile(r" +\d+ B(?= *…)")


def without_state(exchange: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without times, and without the size of the machine's state, which is QEMU's alone."""
    return [(line, _STATE.sub(" 0 B", _MOMENT.sub("…", text))) for line, text in exchange]


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=list(SCRIPTS))
def test_the_answers_are_qemus(tmp_path: Path, script: list[str]) -> None:
    tools.need("qemu-system-x86_64", "qemu-img")
    theirs, ours = side_by_side(tmp_path, IMAGES, script)
    assert without_state(ours) == without_state(theirs)
    for name in "ab":
        assert qemu_check(tmp_path / "blkmon" / f"{name}.qcow2") == {"leaks": 0, "corruptions": 0}


async def fill(engine: EmbeddedEngine, device: str, pattern: int) -> None:
    request = IoRequest(device=device, operation="write", offset=0, length=200_000, pattern=pattern)
    await engine.execute(request)


async def holds(engine: EmbeddedEngine, device: str, pattern: int) -> bool:
    request = IoRequest(device=device, operation="read", offset=0, length=200_000, pattern=pattern)
    answer: Any = await engine.execute(request)
    return not isinstance(answer.mismatch, int)


def test_all_disks_go_back_together(tmp_path: Path) -> None:
    tools.need("qemu-img")

    async def main() -> None:
        engine = await with_drives(tmp_path, "a", "b")
        for pattern in (1, 2):
            for name in "ab":
                await fill(engine, name, pattern)
            await engine.execute(SaveDisks(name=f"s{pattern}"))
        await engine.execute(LoadDisks(name="s1"))
        assert await holds(engine, "a", 1)
        assert await holds(engine, "b", 1)
        await engine.execute(LoadDisks(name="s2"))
        assert await holds(engine, "a", 2)
        await engine.execute(DeleteDisks(name="s1"))
        disks = await engine.execute(QueryDiskSnapshots())
        assert [[s.name for s in disk.snapshots] for disk in disks] == [["s2"], ["s2"]]
        await engine.shut_down()

    asyncio.run(main())
    for name in "ab":
        path = tmp_path / f"{name}.qcow2"
        assert qemu_check(path) == {"leaks": 0, "corruptions": 0}
        assert "s2" in tools.run("qemu-img", "snapshot", "-l", path)


def test_a_name_that_is_there_is_replaced_once_the_new_one_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monitor.engine.drivers.qcow2.driver import Qcow2Driver

    create = Qcow2Driver.create_snapshot

    def failing(driver: Qcow2Driver, wanted: Any) -> str:
        if driver is broken:
            raise OSError(28, "No space left on device")
        return create(driver, wanted)

    broken: Any = None
    monkeypatch.setattr(Qcow2Driver, "create_snapshot", failing)

    async def main() -> None:
        nonlocal broken
        engine = await with_drives(tmp_path, "a", "b")
        await fill(engine, "a", 1)
        await engine.execute(SaveDisks(name="s"))
        await fill(engine, "a", 2)
        node = engine.graph.drives["b"].node
        broken = node.driver if node else None
        message = "Could not create snapshot 's' on 'b': No space left on device"
        with pytest.raises(RequestError, match=message):
            await engine.execute(SaveDisks(name="s"))
        await engine.execute(LoadDisks(name="s"))
        assert await holds(engine, "a", 1)
        broken = None
        await fill(engine, "a", 3)
        await engine.execute(SaveDisks(name="s"))
        disks = await engine.execute(QueryDiskSnapshots())
        assert [[s.name for s in disk.snapshots] for disk in disks] == [["s"], ["s"]]
        await engine.shut_down()

    asyncio.run(main())


def test_a_snapshot_through_a_raw_node_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in QEMU, the node that holds the data keeps the snapshot; whoever uses it is drained."""

    async def main() -> None:
        from monitor.engine.schema.decode import decode
        from monitor.engine.schema.graph import BlockdevAdd

        engine = await with_drives(tmp_path, "a")
        inner = engine.graph.drives["a"].inserted()
        above = {"driver": "raw", "node-name": "above", "file": inner.name}
        await engine.execute(decode(BlockdevAdd, above))
        create, closed = inner.driver.create_snapshot, []

        def watched(wanted: Any) -> str:
            closed.append(engine.graph.drives["a"].closed)
            return create(wanted)

        monkeypatch.setattr(inner.driver, "create_snapshot", watched)
        await engine.execute(BlockdevSnapshotInternalSync(device="above", name="s"))
        assert [info["name"] for info in inner.driver.snapshots()] == ["s"]
        assert closed[0] > 0  # the drive too, which goes to that node past the one that was named
        await engine.shut_down()

    asyncio.run(main())


NODE = {"driver": "qcow2", "node-name": "n", "file": {"driver": "file", "filename": "a.qcow2"}}
READ_ONLY = NODE | {"node-name": "ro", "read-only": True, "file": {"driver": "file"}}
READ_ONLY["file"] = {"driver": "file", "filename": "b.qcow2"}


def job(verb: str, job_id: str, tag: str, *devices: str, vmstate: str = "n") -> list[Any]:
    """A snapshot job to its end, and what is said of it."""
    arguments: dict[str, Any] = {"job-id": job_id, "tag": tag, "devices": list(devices)}
    if verb != "delete":
        arguments["vmstate"] = vmstate
    return [
        {"execute": f"snapshot-{verb}", "arguments": arguments},
        {"wait": job_id, "until": "concluded"},
        {"execute": "query-jobs"},
        {"execute": "job-dismiss", "arguments": {"id": job_id}},
    ]


JOBS = [
    {"execute": "blockdev-add", "arguments": NODE},
    {"execute": "blockdev-add", "arguments": READ_ONLY},
    *job("save", "j0", "t", "n"),
    *job("save", "j1", "t", "n"),
    *job("save", "j2", "u", "n", "zz"),
    *job("save", "j3", "u", "n", "ro"),
    *job("save", "j4", "u", "n", vmstate="zz"),
    *job("save", "j5", "u"),
    *job("load", "j6", "v", "n"),
    *job("load", "j7", "t", "n"),
    *job("delete", "j8", "v", "n"),
    *job("delete", "j9", "t", "n"),
    *job("load", "k0", "t", "n"),
    *job("load", "k1", "t"),
    *job("delete", "k2", "t"),
    *job("delete", "k3", "t", "zz"),
    {"execute": "snapshot-save", "arguments": {"job-id": "0j", "tag": "t", "vmstate": "n",
                                               "devices": ["n"]}},
    {"execute": "snapshot-save", "arguments": {"job-id": "j", "tag": "t", "devices": ["n"]}},
    {"execute": "snapshot-delete", "arguments": {"job-id": "j", "tag": "t", "devices": [1]}},
    {"execute": "query-named-block-nodes", "arguments": {"flat": True}},
]  # fmt: skip

SYSTEM = ("qemu-system-x86_64", "-M", "none", "-display", "none", "-nodefaults", "-S", "-qmp",
          "stdio")  # fmt: skip


def test_the_jobs_are_qemus(tmp_path: Path) -> None:
    tools.need("qemu-system-x86_64", "qemu-img")
    sessions = [
        converse(command, fill_folder(tmp_path / side, IMAGES), JOBS)
        for side, command in (("theirs", SYSTEM), ("ours", OURS))
    ]
    theirs, ours = (
        [without_machine(reply) for reply in comparable_replies(session)] for session in sessions
    )
    assert ours == theirs
    ends = [
        [e for e in session.events if e["event"] == "JOB_STATUS_CHANGE"] for session in sessions
    ]
    assert ends[0] == ends[1]


def comparable_replies(session: Session) -> list[Any]:
    return [comparable(reply) for reply in session.replies]


def without_machine(value: Any) -> Any:
    """Without the size of the machine's state."""
    if isinstance(value, dict):
        return {k: without_machine(v) for k, v in value.items() if k != "vm-state-size"}
    return [without_machine(v) for v in value] if isinstance(value, list) else value
