"""Objects that others use. What each type refuses: tests/support/qmp_cases/objects.py."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.errors import RequestError
from monitor.engine.objects.iothread import Iothread
from monitor.engine.schema.base import request_type
from monitor.engine.schema.decode import decode
from monitor.shell.engines import embedded_engine


async def run(*requests: dict[str, Any]) -> list[Any]:
    """Results, or the texts of errors."""
    engine = embedded_engine()
    told: list[Any] = []
    try:
        for request in requests:
            kind = request_type(str(request.pop("execute")))
            try:
                told.append(await engine.execute(decode(kind, request)))
            except RequestError as error:
                told.append(str(error))
    finally:
        await engine.shut_down()
    return told


def test_an_iothread_in_use_stays(tmp_path: Path) -> None:
    address = {"type": "unix", "data": {"path": str(tmp_path / "s")}}
    export = {"type": "nbd", "id": "e", "node-name": "n"}
    told = asyncio.run(
        run(
            {"execute": "object-add", "qom-type": "iothread", "id": "io"},
            {"execute": "blockdev-add", "driver": "null-co", "node-name": "n"},
            {"execute": "nbd-server-start", "addr": address},
            {"execute": "block-export-add", **export, "iothread": "nothing"},
            {"execute": "block-export-add", **export, "iothread": "io"},
            {"execute": "object-del", "id": "io"},
            {"execute": "block-export-del", "id": "e"},
            {"execute": "object-del", "id": "io"},
        )
    )
    assert told[3] == 'iothread "nothing" not found'
    assert told[4] is None
    assert told[5] == "object 'io' is in use, can not be deleted"
    assert told[6:] == [None, None]


def test_what_stands_on_a_node_is_served_where_the_node_is(tmp_path: Path) -> None:
    """Also what came there later; and what is left when the threads go, by the process's own."""

    async def main() -> None:
        engine = embedded_engine()

        async def do(command: str, **arguments: Any) -> Any:
            values = {name.replace("_", "-"): value for name, value in arguments.items()}
            return await engine.execute(decode(request_type(command), values))

        def workers(export: str) -> Any:
            return engine.exports.by_id[export].workers

        await do("object-add", qom_type="iothread", id="io")
        io = engine.graph.objects.by_id["io"]
        assert isinstance(io, Iothread)
        await do("blockdev-add", driver="null-co", node_name="n", size=1 << 20)
        address = {"type": "unix", "data": {"path": str(tmp_path / "s")}}
        await do("nbd-server-start", addr=address)
        await do("block-export-add", type="nbd", id="before", node_name="n")
        assert workers("before") is None
        await do("x-blockdev-set-iothread", node_name="n", iothread="io", force=True)
        assert workers("before") is io.workers
        await do("blockdev-add", driver="raw", node_name="above", file="n")
        await do("block-export-add", type="nbd", id="later", node_name="above")
        assert workers("later") is io.workers
        with pytest.raises(RequestError, match="in use"):
            await do("object-del", id="io")
        for export in ("before", "later"):
            await do("block-export-del", id=export)
        await do("object-del", id="io")
        await do("block-export-add", type="nbd", id="after", node_name="above")
        assert workers("after") is None
        await engine.shut_down()

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["secret", "iothread"])
def test_names_are_known_while_they_are_there(kind: str) -> None:
    async def names() -> list[list[str]]:
        engine = embedded_engine()
        seen = []
        for request in (
            {"execute": "object-add", "qom-type": kind, "id": "x"}
            | ({"data": "x"} if kind == "secret" else {}),
            {"execute": "object-del", "id": "x"},
        ):
            await engine.execute(decode(request_type(str(request.pop("execute"))), request))
            seen.append([name.text for name in engine.names("object")])
        await engine.shut_down()
        return seen

    assert asyncio.run(names()) == [["x"], []]
