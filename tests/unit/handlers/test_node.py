"""block_passwd, change-backing-file and write thresholds: what no other side can be asked."""

from __future__ import annotations

import asyncio

import pytest

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.graph import edit
from monitor.engine.graph.transaction import Transaction
from monitor.engine.schema.node import BlockPasswd, BlockSetWriteThreshold, ChangeBackingFile
from monitor.engine.schema.query import QueryNamedBlockNodes
from tests.support.graphs import add, put_above, run


def test_passwords_are_refused() -> None:
    async def work() -> None:
        with pytest.raises(RequestError) as caught:
            await EmbeddedEngine().execute(BlockPasswd(device="d0", password="x"))
        assert caught.value.text == "Setting block passwords directly is no longer supported"
        assert caught.value.qmp_class == "GenericError"

    run(work())


def test_a_threshold_is_set_while_nothing_is_in_flight_and_shown() -> None:
    async def work() -> None:
        engine = EmbeddedEngine()
        node = add(engine.graph, "n0")
        await engine.execute(BlockSetWriteThreshold(node_name="n0", write_threshold=4096))
        (told,) = await engine.execute(QueryNamedBlockNodes())
        assert told.write_threshold == 4096
        node.write(memoryview(bytes(8192)), 0)
        await asyncio.sleep(0)
        (told,) = await engine.execute(QueryNamedBlockNodes())
        assert told.write_threshold == 0

    run(work())


@pytest.mark.parametrize("busy", [False, True])
def test_change_backing_file_is_refused_while_a_job_holds_the_chain(busy: bool) -> None:
    """Nothing is written then; otherwise a driver without a way to write the link says so."""

    async def work() -> None:
        from monitor.engine.graph.blockers import Blocker

        engine = EmbeddedEngine()
        top, base = add(engine.graph, "top"), add(engine.graph, "base", read_only=True)
        put_above(engine.graph, top, base)
        top.driver.supports_backing = False  # type: ignore[misc]
        if busy:
            top.blockers.append(Blocker("a job is at it"))
        request = ChangeBackingFile(device="top", image_node_name="top", backing_file="x")
        with pytest.raises(RequestError) as caught:
            await engine.execute(request)
        assert caught.value.text == (
            "Node 'top' is busy: a job is at it"
            if busy
            else "Could not change backing file to 'x': Operation not supported"
        )
        assert top.auto_backing == ""
        top.driver.supports_backing = True  # type: ignore[misc]
        with Transaction() as transaction:
            edit.detach(transaction, top.children["backing"])

    run(work())
