"""Transactions of requests: order of steps, undoing, drained sections, jobs that end together."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import threading
from pathlib import Path
from typing import Any

import pytest

from monitor.engine import images
from monitor.engine.api import Event
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import Refused, RequestError
from monitor.engine.graph.graph import Graph
from monitor.engine.jobs.job import Job
from monitor.engine.schema.decode import decode
from monitor.engine.schema.extra import CreateImage, DriveAdd
from monitor.engine.schema.graph import BlockdevAdd
from monitor.engine.schema.job import JobCancel
from monitor.engine.schema.transaction import RehearseTransaction, Transaction
from monitor.engine.transaction import undoing
from tests.support.graphs import reader, run, shape

SIZE = 1 << 20


def transaction(*actions: tuple[str, dict[str, Any]], **properties: Any) -> Transaction:
    arguments: dict[str, Any] = {"actions": [{"type": t, "data": d} for t, d in actions]}
    if properties:
        arguments["properties"] = properties
    request: Transaction = decode(Transaction, arguments)
    return request


async def with_nodes(folder: Path, *names: str) -> EmbeddedEngine:
    """An engine with a qcow2 node of each name."""
    engine = EmbeddedEngine()
    for name in names:
        path = str(folder / f"{name}.qcow2")
        await engine.execute(CreateImage(filename=path, format="qcow2", size=SIZE))
        options = {"driver": "qcow2", "node-name": name, "file": {"driver": "file"}}
        options["file"]["filename"] = path  # type: ignore[index]
        await engine.execute(decode(BlockdevAdd, options))
    return engine


def overlay(folder: Path, node: str, name: str) -> tuple[str, dict[str, Any]]:
    data = {"node-name": node, "snapshot-node-name": name}
    return "blockdev-snapshot-sync", data | {"snapshot-file": str(folder / f"{name}.qcow2")}


def test_two_stacked_snapshots_are_undone(tmp_path: Path) -> None:
    async def main() -> None:
        engine = await with_nodes(tmp_path, "n0")
        before = shape(engine.graph)
        stacked = overlay(tmp_path, "n0", "ov1"), overlay(tmp_path, "ov1", "ov2")
        with pytest.raises(RequestError, match="aborted using Abort action") as failure:
            await engine.execute(transaction(*stacked, ("abort", {})))
        assert failure.value.failed_action == 2
        assert shape(engine.graph) == before
        assert sorted(node.name for node in engine.graph.nodes.values())[-1] == "n0"
        assert not engine.graph.nodes["n0"].read_only
        assert (tmp_path / "ov2.qcow2").exists()  # as QEMU leaves it
        await engine.shut_down()

    run(main())


def test_two_stacked_snapshots_are_kept(tmp_path: Path) -> None:
    async def main() -> None:
        engine = await with_nodes(tmp_path, "n0", "ov2")
        nodes = engine.graph.nodes
        stacked = "blockdev-snapshot", {"node": "n0", "overlay": "ov2"}
        await engine.execute(transaction(stacked))
        assert nodes["ov2"].backing is nodes["n0"]
        assert nodes["n0"].read_only
        await engine.shut_down()

    run(main())


def test_completion_mode_is_for_jobs(tmp_path: Path) -> None:
    async def main() -> None:
        engine = await with_nodes(tmp_path, "n0")
        grouped = transaction(overlay(tmp_path, "n0", "ov"), **{"completion-mode": "grouped"})
        with pytest.raises(RequestError) as failure:
            await engine.execute(grouped)
        assert failure.value.text == (
            "Action 'blockdev-snapshot-sync' does not support Transaction property "
            "completion-mode = grouped"
        )
        assert not (tmp_path / "ov.qcow2").exists()
        await engine.shut_down()

    run(main())


# -- jobs ----------------------------------------------------------------------------------------


class Task(Job):
    """Notes what is called; its run ends when its gate is opened, or fails."""

    type = "backup"

    def __init__(self, engine: EmbeddedEngine, job_id: str, *, fails: bool = False) -> None:
        super().__init__(job_id, engine.clock, engine.graph.emit)
        self.gate = threading.Event()
        self.fails = fails
        self.calls: list[str] = []

    def run(self) -> None:
        while not self.gate.wait(0.01):
            self.pause_point()
        if self.fails:
            raise OSError(errno.EIO, "injected")
        self.calls.append("run")

    def commit(self) -> None:
        self.calls.append("commit")

    def abort(self) -> None:
        self.calls.append("abort")


def statuses(engine: EmbeddedEngine) -> dict[str, list[str]]:
    """Collects the statuses that each job comes to from now on."""
    told: dict[str, list[str]] = {}

    def note(event: Event) -> None:
        if event.name == "JOB_STATUS_CHANGE":
            told.setdefault(event.data["id"], []).append(event.data["status"])

    engine.subscribe(note)
    return told


def test_jobs_begin_when_all_is_committed() -> None:
    async def main() -> None:
        engine = EmbeddedEngine()
        job = Task(engine, "j")
        async with undoing(engine) as actions:
            actions.add_job(job)
            actions.add(commit=lambda: job.calls.append(f"committed, {job.status.value}"))
        assert job.calls == ["committed, created"]
        job.gate.set()
        assert (await engine.job_ended("j")).status == "null"
        assert job.calls == ["committed, created", "run", "commit"]

    run(main())


def test_jobs_of_a_failed_transaction_never_begin() -> None:
    """They go as QEMU's do, with the events of a cancelled job, the last one first."""

    async def main() -> None:
        engine = EmbeddedEngine()
        told = statuses(engine)
        jobs = [Task(engine, "one"), Task(engine, "two")]
        with pytest.raises(Refused):
            async with undoing(engine, "grouped") as actions:
                for job in jobs:
                    actions.add_job(job)
                raise Refused("no")
        gone = ["created", "aborting", "concluded", "null"]
        assert told == {"one": gone, "two": gone}
        assert [job.calls for job in jobs] == [["abort"], ["abort"]]
        assert engine.jobs() == []

    run(main())


@pytest.mark.parametrize("completion", ["individual", "grouped"])
@pytest.mark.parametrize("how", ["well", "fails", "cancelled"])
def test_how_jobs_of_a_transaction_end(completion: Any, how: str) -> None:
    """Grouped they end together, whatever becomes of one; individually each for itself."""

    async def main() -> None:
        engine = EmbeddedEngine()
        one, two = Task(engine, "one"), Task(engine, "two", fails=how == "fails")
        async with undoing(engine, completion) as actions:
            actions.add_job(one)
            actions.add_job(two)
        one.gate.set()
        waited = asyncio.ensure_future(engine.job_ended("one"))
        if completion == "individual":
            await waited
        if how == "cancelled":
            await engine.execute(JobCancel(id="two"))
        two.gate.set()
        await asyncio.gather(waited, two.settled())
        good = how == "well"
        alone = completion == "individual"
        assert one.calls[-1] == ("commit" if good or alone else "abort")
        assert two.calls[-1] == ("commit" if good else "abort")
        assert engine.jobs() == []

    run(main())


@pytest.mark.parametrize("fails", [False, True])
def test_a_job_that_a_user_cancels_before_it_begins(fails: bool) -> None:
    async def main() -> None:
        engine = EmbeddedEngine()
        told = statuses(engine)
        one, two = Task(engine, "one"), Task(engine, "two")
        one.gate.set()
        with contextlib.suppress(Refused):
            async with undoing(engine, "grouped") as actions:
                actions.add_job(one)
                actions.add_job(two)
                await engine.execute(JobCancel(id="two"))
                if fails:
                    raise Refused("no")
        await asyncio.gather(one.settled(), two.settled())
        await engine.shut_down()
        assert told["two"] == ["created", "aborting", "concluded", "null"]
        assert told["one"][-3:] == ["aborting", "concluded", "null"]

    run(main())


# -- the order of steps --------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
def test_the_order_of_steps(fails: bool) -> None:
    """Commits in order; or aborts in reverse; cleans last of all, in reverse. Steps may wait."""

    async def main() -> None:
        engine = EmbeddedEngine()
        calls: list[str] = []

        def note(word: str) -> None:
            calls.append(word)

        async def wait(word: str) -> None:
            await asyncio.sleep(0)
            calls.append(word)

        with contextlib.suppress(Refused):
            async with undoing(engine) as actions:
                for n, step in enumerate((note, wait)):
                    named = functools.partial(functools.partial, step)
                    actions.add(
                        commit=named(f"commit {n}"), abort=named(f"abort {n}"),
                        clean=named(f"clean {n}"),
                    )  # fmt: skip
                if fails:
                    raise Refused("no")
        ends = ["abort 1", "abort 0"] if fails else ["commit 0", "commit 1"]
        assert calls == [*ends, "clean 1", "clean 0"]

    run(main())


def test_a_step_that_fails_does_not_keep_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        calls: list[str] = []
        with pytest.raises(Refused):
            async with undoing(EmbeddedEngine()) as actions:
                actions.add(abort=lambda: calls.append("one"))
                actions.add(abort=lambda: 1 // 0)  # type: ignore[arg-type,return-value]
                actions.add(abort=lambda: calls.append("three"))
                raise Refused("no")
        assert calls == ["three", "one"]

    run(main())
    assert "ZeroDivisionError" in caplog.text


def test_a_transaction_that_is_given_up_is_undone_to_the_end(tmp_path: Path) -> None:
    """Ctrl-C while an action waits, and again while it is undone."""

    async def main() -> None:
        engine = await with_nodes(tmp_path, "n0")
        before = shape(engine.graph)
        reached, undone, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def undo() -> None:
            reached.set()
            await go_on.wait()
            undone.set()

        async def transact() -> None:
            async with undoing(engine) as actions:
                actions.add(abort=undo)
                await actions.drain(engine.graph.nodes["n0"])
                reached.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(transact())
        await reached.wait()
        reached.clear()
        task.cancel()
        await reached.wait()
        task.cancel()
        await asyncio.sleep(0)
        assert not undone.is_set()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert undone.is_set()
        assert not engine.graph.turn.locked()
        assert shape(engine.graph) == before
        await engine.shut_down()

    run(main())


def test_all_named_nodes_are_drained_while_actions_are_prepared(tmp_path: Path) -> None:
    """Also those that only a later action names: all are at one moment."""

    async def main() -> None:
        engine = await with_nodes(tmp_path, "n0", "n1")
        clients = [reader(engine.graph, engine.graph.nodes[name]) for name in ("n0", "n1")]
        closed: list[list[bool]] = []
        create = images.create

        async def watching(graph: Graph, image: images.NewImage) -> None:
            closed.append([bool(client.closed) for client in clients])
            await create(graph, image)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(images, "create", watching)
            both = overlay(tmp_path, "n0", "a"), overlay(tmp_path, "n1", "b")
            await engine.execute(transaction(*both))
        assert closed == [[True, True], [True, True]]
        assert [client.closed for client in clients] == [0, 0]
        for client in clients:
            await engine.graph.remove_client(client)
        await engine.shut_down()

    run(main())


# -- dry runs ------------------------------------------------------------------------------------


def test_a_dry_run_names_what_was_named(tmp_path: Path) -> None:
    """A node without a name gets one that nobody knows, and a trial file has another name."""

    async def main() -> None:
        engine = EmbeddedEngine()
        (tmp_path / "a").write_bytes(bytes(SIZE))
        drive = f"if=none,id=d0,node-name=n0,file={tmp_path / 'a'},format=raw"
        await engine.execute(DriveAdd(options=drive))
        copy, over = str(tmp_path / "copy"), str(tmp_path / "over")
        for action, change in (
            (
                ("drive-backup", {"device": "d0", "target": copy, "sync": "full"}),
                f"a backup of 'n0' to '{copy}' begins",
            ),
            (
                ("blockdev-snapshot-sync", {"device": "d0", "snapshot-file": over}),
                f"'{over}' on top of 'n0'",
            ),
        ):
            plan = await engine.execute(RehearseTransaction(actions=transaction(action).actions))
            assert plan.changes == [change]
        await engine.shut_down()

    run(main())


def test_a_dry_run_says_and_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        engine = await with_nodes(tmp_path, "n0")
        before, files = shape(engine.graph), sorted(tmp_path.iterdir())
        there = tmp_path / "there.qcow2"
        there.write_bytes(b"not to be lost")
        actions = transaction(
            overlay(tmp_path, "n0", "there"),
            ("block-dirty-bitmap-add", {"node": "there", "name": "b"}),
            ("blockdev-snapshot-internal-sync", {"device": "there", "name": "s"}),
        ).actions
        plan = await engine.execute(RehearseTransaction(actions=actions))
        assert plan.changes == [
            "'there' on top of 'n0'",
            "node 'there' gets the bitmap 'b'",
            "snapshot 's' in 'there'",
        ]
        assert shape(engine.graph) == before
        assert sorted(tmp_path.iterdir()) == sorted([*files, there])
        assert there.read_bytes() == b"not to be lost"
        with pytest.raises(RequestError, match="not-there"):
            failing = transaction(overlay(tmp_path, "not-there", "x")).actions
            await engine.execute(RehearseTransaction(actions=failing))
        await engine.shut_down()

    run(main())
