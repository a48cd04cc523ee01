"""QMP clients on sockets: several at once, each for itself; who gets in, and who is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.errors import RequestError
from monitor.engine.schema.base import Request
from monitor.engine.schema.job import QueryJobs
from monitor.servers import channel, listening
from monitor.servers.channel import SocketChannel
from monitor.servers.door import STDIO, Door, parse_door
from monitor.servers.doors import Doors
from monitor.servers.qmp import QmpServer
from monitor.wire.qmp import Version
from tests.support.fake_engine import FakeEngine

VERSION = Version(7, 2, 0, "blkmon")


class Answering(FakeEngine):
    """Has no jobs, and says so."""

    async def execute(self, request: Request) -> Any:
        return [] if isinstance(request, QueryJobs) else await super().execute(request)


class Gated(Answering):
    """``query-jobs`` waits until the test lets it go on."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()

    async def execute(self, request: Request) -> Any:
        if isinstance(request, QueryJobs):
            self.asked.set()
            await self.gate.wait()
        return await super().execute(request)


OPEN: list[Client] = []
"""The clients of a test, which are all closed in the end."""


class Client:
    """One connection, line by line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def at(cls, path: str) -> Client:
        client = cls(*await asyncio.open_unix_connection(path, limit=1 << 24))
        OPEN.append(client)
        assert "QMP" in await client.line()
        return client

    def send(self, data: str) -> None:
        self._writer.write(data.encode())

    async def line(self) -> Any:
        line = await self._reader.readline()
        return json.loads(line) if line else None

    async def ask(self, command: str) -> Any:
        self.send(json.dumps({"execute": command}))
        return await self.line()

    def end(self) -> None:
        """Sends no more, and still reads."""
        self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


Scenario = Callable[[FakeEngine, str], Awaitable[None]]


def served(folder: Path, scenario: Scenario, kind: type[FakeEngine] = Answering) -> None:
    """Runs ``scenario`` with a server at a socket in ``folder``; then the socket is gone."""

    async def main() -> None:
        engine = kind()
        server = QmpServer(engine, VERSION)
        doors = Doors(server)
        path = str(folder / "qmp.sock")
        await doors.open(Door(path=path))
        running = asyncio.ensure_future(server.run())
        try:
            await scenario(engine, path)
            if not engine.was_shut_down:
                last = await Client.at(path)
                await last.ask("qmp_capabilities")
                await last.ask("quit")
            assert await running == 0
        finally:
            running.cancel()
            doors.close()
            while OPEN:
                await OPEN.pop().close()
        assert not os.path.exists(path)

    asyncio.run(asyncio.wait_for(main(), 30))


def test_each_client_negotiates_for_itself_and_hears_events(tmp_path: Path) -> None:
    async def scenario(engine: FakeEngine, path: str) -> None:
        first, second = await Client.at(path), await Client.at(path)
        assert await first.ask("qmp_capabilities") == {"return": {}}
        assert (await second.ask("query-jobs"))["error"]["class"] == "CommandNotFound"
        assert await second.ask("qmp_capabilities") == {"return": {}}
        engine.emit("STOP")
        assert (await first.line())["event"] == (await second.line())["event"] == "STOP"
        await first.close()
        assert await second.ask("query-jobs") == {"return": []}

    served(tmp_path, scenario)


def test_a_client_that_quits_ends_it_for_all(tmp_path: Path) -> None:
    async def scenario(engine: FakeEngine, path: str) -> None:
        first, second = await Client.at(path), await Client.at(path)
        await first.ask("qmp_capabilities")
        assert await first.ask("quit") == {"return": {}}
        assert await second.line() is None
        assert engine.was_shut_down

    served(tmp_path, scenario)


TWO = "{'execute':'query-jobs'}{'execute':'query-commands'}"


def test_what_waits_is_dropped_when_its_client_has_hung_up(tmp_path: Path) -> None:
    async def scenario(engine: FakeEngine, path: str) -> None:
        assert isinstance(engine, Gated)
        first = await Client.at(path)
        await first.ask("qmp_capabilities")
        first.send(TWO)
        await engine.asked.wait()
        await first.close()
        engine.gate.set()
        last = await Client.at(path)
        await last.ask("qmp_capabilities")
        await last.ask("query-status")
        assert [type(request).__name__ for request in engine.requests] == ["QueryStatus"]

    served(tmp_path, scenario, Gated)


def test_a_request_of_one_who_has_hung_up_may_end_when_all_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its session was closed, and before the server has let it go."""
    send_the_rest = QmpServer._sent

    async def requests_end(server: QmpServer) -> None:
        assert isinstance(server._engine, Gated)
        server._engine.gate.set()
        while server._tasks:
            await asyncio.sleep(0)
        await send_the_rest(server)

    monkeypatch.setattr(QmpServer, "_sent", requests_end)
    failures: list[object] = []

    async def scenario(engine: FakeEngine, path: str) -> None:
        assert isinstance(engine, Gated)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: failures.append(context))
        first, last = await Client.at(path), await Client.at(path)
        await first.ask("qmp_capabilities")
        first.send(TWO)
        await engine.asked.wait()
        await first.close()
        await last.ask("qmp_capabilities")
        assert await last.ask("quit") == {"return": {}}

    served(tmp_path, scenario, Gated)
    gc.collect()
    assert not failures


def test_who_only_sends_no_more_is_answered(tmp_path: Path) -> None:
    async def scenario(engine: FakeEngine, path: str) -> None:
        assert isinstance(engine, Gated)
        client = await Client.at(path)
        await client.ask("qmp_capabilities")
        client.send(TWO)
        await engine.asked.wait()
        client.end()
        engine.gate.set()
        assert await client.line() == {"return": []}
        assert (await client.line()).keys() & {"return", "error"}
        assert await client.line() is None

    served(tmp_path, scenario, Gated)


def test_requests_may_come_in_any_pieces(tmp_path: Path) -> None:
    async def scenario(engine: FakeEngine, path: str) -> None:
        client = await Client.at(path)
        asked = "{'execute':'query-jobs'}"
        for letter in f"{{'execute':'qmp_capabilities'}}{asked}{asked}"[:-1]:
            client.send(letter)
            await asyncio.sleep(0)
        assert await client.line() == {"return": {}}
        assert await client.line() == {"return": []}
        client.send("}")
        assert await client.line() == {"return": []}
        client.send("]nonsense")
        assert "error" in await client.line()

    served(tmp_path, scenario)


def test_who_does_not_read_is_cut_off_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "PATIENCE", 0.0)
    monkeypatch.setattr(channel, "MAX_UNSENT", 1 << 16)

    async def scenario(engine: FakeEngine, path: str) -> None:
        reader = await Client.at(path)
        await reader.ask("qmp_capabilities")
        silent = socket.socket(socket.AF_UNIX)
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(path)
        silent.sendall(b"{'execute':'qmp_capabilities'}")
        while await reader.ask("query-jobs") != {"return": []}:
            continue
        heard = 0
        for _ in range(4000):
            engine.emit("STOP")
            heard += (await reader.line())["event"] == "STOP"
        assert heard == 4000
        received = 0
        with silent:
            silent.settimeout(10)
            while data := silent.recv(1 << 20):
                received += len(data)
        assert received < 1 << 20

    served(tmp_path, scenario)


def test_a_socket_is_its_owners_alone(tmp_path: Path) -> None:
    async def scenario(engine: FakeEngine, path: str) -> None:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600

    before = os.umask(0)
    try:
        served(tmp_path, scenario)
    finally:
        os.umask(before)


def test_a_socket_that_nobody_listens_at_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "qmp.sock"))

    async def scenario(engine: FakeEngine, path: str) -> None:
        with pytest.raises(RequestError, match="Address already in use"):
            listening.listen_unix(path)  # and one that somebody listens at is not

    served(tmp_path, scenario)


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"data")
    with pytest.raises(RequestError, match="Address already in use"):
        listening.listen_unix(str(path))
    assert path.read_bytes() == b"data"


def test_a_door_may_lead_out(tmp_path: Path) -> None:
    """``server=off``: the client listens, and we connect."""

    async def main() -> None:
        path = str(tmp_path / "client.sock")
        greeted: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            greeted.set_result((await reader.readline()).decode())
            writer.write(b"{'execute':'qmp_capabilities'}{'execute':'quit'}")
            await reader.read()
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_unix_server(talk, path):
            server = QmpServer(FakeEngine(), VERSION)
            doors = Doors(server)
            await doors.open(Door(path=path, server=False))
            assert await server.run() == 0
            doors.close()
            assert "QMP" in greeted.result()
        with pytest.raises(RequestError, match="Failed to connect to"):
            await Doors(server).open(Door(path=path + "x", server=False))

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize(
    ("text", "door"),
    [
        ("stdio", STDIO),
        ("unix:a.sock", Door(path="a.sock")),
        ("unix:a.sock,server=on,wait=off", Door(path="a.sock")),
        ("unix:a.sock,server,nowait", Door(path="a.sock")),
        ("unix:a.sock,server=off", Door(path="a.sock", server=False)),
        ("tcp::4444", Door(host="127.0.0.1", port="4444")),
        ("tcp:[::1]:4444,server=on", Door(host="::1", port="4444")),
    ],
)
def test_doors_as_they_are_spelt(text: str, door: Door) -> None:
    assert parse_door(text) == door


@pytest.mark.parametrize(
    "text", ["", "unix:", "tcp:4444", "tcp:host:", "pipe:x", "unix:a,server=x"]
)
def test_doors_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected stdio, unix:PATH"):
        parse_door(text)


def test_a_channel_that_is_closed_takes_nothing_more() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            open_channel = SocketChannel(ours)
            open_channel.close()
            open_channel.write(b"late")
            received: list[bytes] = []
            open_channel.listen(received.append)
            await asyncio.sleep(0)
            assert received == [b""]
            assert theirs.recv(10) == b""

    asyncio.run(main())
