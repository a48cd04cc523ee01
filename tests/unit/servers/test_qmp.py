"""The QMP server: order, events in between, the end; on a channel in memory and on descriptors."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from monitor.engine.errors import InternalError, MonitorError
from monitor.engine.schema.base import Request
from monitor.engine.schema.job import QueryJobs
from monitor.engine.schema.monitor import CommandInfo, QueryCommands
from monitor.servers.channel import READ_SIZE, FdChannel
from monitor.servers.qmp import QmpClient, QmpServer, to_json
from monitor.wire.qmp import QmpSession, Version
from tests.support.fake_engine import FakeEngine

VERSION = Version(7, 2, 0, "blkmon")
T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, 20))


class MemoryChannel:
    """What the client sends is put in by the test; what it gets is read line by line."""

    def __init__(self) -> None:
        self.incoming: deque[bytes] = deque()
        self._lines: asyncio.Queue[Any] = asyncio.Queue()
        self._received: Callable[[bytes], None] | None = None
        self._held = False

    def listen(self, received: Callable[[bytes], None]) -> None:
        self._received = received
        self._deliver()

    def hold(self) -> None:
        self._held = True

    def go_on(self) -> None:
        self._held = False
        asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        while self._received is not None and self.incoming and not self._held:
            self._received(self.incoming.popleft())

    def _arrive(self, data: bytes) -> None:
        self.incoming.append(data)
        self._deliver()

    def write(self, data: bytes) -> None:
        for line in data.splitlines():
            self._lines.put_nowait(json.loads(line))

    async def drained(self) -> None:
        pass

    def gone(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def send(self, *requests: dict[str, Any]) -> None:
        self._arrive("".join(map(json.dumps, requests)).encode())

    def end(self) -> None:
        self._arrive(b"")

    async def line(self) -> Any:
        return await self._lines.get()

    def rest(self) -> list[Any]:
        return [self._lines.get_nowait() for _ in range(self._lines.qsize())]


class SlowEngine(FakeEngine):
    """``query-jobs`` waits until the test lets it go on; ``query-commands`` fails by mistake."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def execute(self, request: Request) -> Any:
        if isinstance(request, QueryJobs):
            self.requests.append(request)
            await self.gate.wait()
            return []
        return await super().execute(request)


NEGOTIATE = {"execute": "qmp_capabilities"}


async def greeted(channel: MemoryChannel, client: QmpClient) -> asyncio.Task[None]:
    """The client's task, negotiated with."""
    task = asyncio.create_task(client.run())
    channel.send(NEGOTIATE)
    assert "QMP" in await channel.line()
    assert await channel.line() == {"return": {}}
    return task


def test_commands_run_in_order_and_events_come_in_between() -> None:
    async def scenario() -> None:
        channel, engine = MemoryChannel(), SlowEngine()
        task = await greeted(channel, QmpClient(channel, engine, VERSION))
        add = {"driver": "null-co", "node-name": "n0"}
        channel.send(
            {"execute": "query-jobs", "id": 1},
            {"execute": "blockdev-add", "arguments": add, "id": 2},
        )
        while not engine.requests:
            await asyncio.sleep(0)
        engine.emit("STOP")
        assert (await channel.line())["event"] == "STOP"
        assert len(engine.requests) == 1  # the second waits for the first
        engine.gate.set()
        assert await channel.line() == {"return": [], "id": 1}
        assert await channel.line() == {"return": {}, "id": 2}
        assert engine.nodes == {"n0": "null-co 64M rw"}
        channel.end()
        await task

    run(scenario())


def test_no_event_before_negotiation() -> None:
    async def scenario() -> None:
        channel, engine = MemoryChannel(), FakeEngine()
        task = asyncio.create_task(QmpClient(channel, engine, VERSION).run())
        await channel.line()
        engine.emit("STOP")
        channel.end()
        await task
        assert channel.rest() == []

    run(scenario())


def test_what_is_sent_before_the_end_is_still_answered() -> None:
    async def scenario() -> list[Any]:
        channel = MemoryChannel()
        task = await greeted(channel, QmpClient(channel, FakeEngine(), VERSION))
        channel.send(*({"execute": "foo", "id": i} for i in range(50)))
        channel.end()
        await task
        return channel.rest()

    error = {"class": "CommandNotFound", "desc": "The command foo has not been found"}
    assert run(scenario()) == [{"id": i, "error": error} for i in range(50)]


def test_quit_is_answered_and_nothing_after_it() -> None:
    async def scenario() -> list[Any]:
        channel = MemoryChannel()
        client = QmpClient(channel, FakeEngine(), VERSION)
        task = await greeted(channel, client)
        channel.send({"execute": "quit", "id": 1}, {"execute": "foo", "id": 2})
        await task
        assert client.quitting
        return channel.rest()

    assert run(scenario()) == [{"return": {}, "id": 1}]


def test_quit_is_answered_when_everything_is_closed() -> None:
    """A client that reads the answer may open the images itself."""

    class Closing(FakeEngine):
        async def shut_down(self) -> None:
            await asyncio.sleep(0)
            order.append("closed")

    class Telling(MemoryChannel):
        def write(self, data: bytes) -> None:
            super().write(data)
            if b'"the end"' in data:
                order.append("answered")

    order: list[str] = []

    async def scenario() -> None:
        channel = Telling()
        task = await greeted(channel, QmpClient(channel, Closing(), VERSION))
        channel.send({"execute": "quit", "id": "the end"})
        await task

    run(scenario())
    assert order == ["closed", "answered"]


def test_a_mistaken_quit_quits_nothing() -> None:
    async def scenario() -> None:
        channel = MemoryChannel()
        task = await greeted(channel, QmpClient(channel, FakeEngine(), VERSION))
        channel.send({"execute": "quit", "arguments": {"x": 1}})
        assert (await channel.line())["error"]["desc"] == "Parameter 'x' is unexpected"
        assert not task.done()
        channel.end()
        await task

    run(scenario())


def test_out_of_band_is_answered_while_a_command_runs() -> None:
    async def scenario() -> None:
        channel, engine = MemoryChannel(), SlowEngine()
        task = asyncio.create_task(QmpClient(channel, engine, VERSION).run())
        channel.send(NEGOTIATE | {"arguments": {"enable": ["oob"]}})
        await channel.line()
        assert await channel.line() == {"return": {}}
        channel.send({"execute": "query-jobs"}, {"exec-oob": "query-jobs"}, {"exec-oob": "foo"})
        described = [(await channel.line())["error"]["desc"] for _ in range(2)]
        assert described == [
            "The command query-jobs does not support OOB",
            "The command foo has not been found",
        ]
        engine.gate.set()
        assert await channel.line() == {"return": []}
        channel.end()
        await task

    run(scenario())


def test_reading_stops_while_the_queue_is_full() -> None:
    async def scenario() -> None:
        channel, engine = MemoryChannel(), SlowEngine()
        task = await greeted(channel, QmpClient(channel, engine, VERSION))
        for _ in range(20):
            channel.send({"execute": "query-jobs"})
        for _ in range(200):
            await asyncio.sleep(0)
        assert len(channel.incoming) == 20 - 1 - 8 - 1  # run, waiting, and held by the reader
        engine.gate.set()
        channel.end()
        await task
        assert len(channel.rest()) == 20

    run(scenario())


def test_the_human_monitor_is_the_callers() -> None:
    lines: list[str] = []

    async def human(line: str) -> str:
        lines.append(line)
        return "Error: no\r\n"

    async def scenario() -> None:
        channel = MemoryChannel()
        task = await greeted(channel, QmpClient(channel, FakeEngine(), VERSION, human))
        name = "human-monitor-command"
        channel.send({"execute": name, "arguments": {"command-line": "info é", "cpu-index": 0}})
        assert await channel.line() == {"return": "Error: no\r\n"}
        channel.send({"execute": name})
        assert (await channel.line())["error"]["desc"] == "Parameter 'command-line' is missing"
        channel.end()
        await task

    run(scenario())
    assert lines == ["info é"]


def test_our_own_mistake_is_reported_and_the_session_goes_on() -> None:
    class Broken(FakeEngine):
        async def execute(self, request: Request) -> Any:
            raise ZeroDivisionError("oops")

    seen: list[Exception] = []

    def report(error: Exception) -> MonitorError:
        seen.append(error)
        return InternalError(str(error))

    async def scenario() -> None:
        channel = MemoryChannel()
        task = await greeted(channel, QmpClient(channel, Broken(), VERSION, None, report))
        channel.send({"execute": "query-jobs"}, {"execute": "foo"})
        assert (await channel.line())["error"] == {
            "class": "GenericError",
            "desc": "internal error: oops",
        }
        assert (await channel.line())["error"]["class"] == "CommandNotFound"
        channel.end()
        await task

    run(scenario())
    assert [type(error) for error in seen] == [ZeroDivisionError]


def test_query_commands_names_the_sessions_own() -> None:
    class Knowing(FakeEngine):
        async def execute(self, request: Request) -> Any:
            assert isinstance(request, QueryCommands)
            return [CommandInfo(name="quit")]

    async def human(line: str) -> str:
        return ""

    async def scenario() -> list[str]:
        channel = MemoryChannel()
        task = await greeted(channel, QmpClient(channel, Knowing(), VERSION, human))
        channel.send({"execute": "query-commands"})
        answer = await channel.line()
        channel.end()
        await task
        return [command["name"] for command in answer["return"]]

    assert run(scenario()) == ["quit", "qmp_capabilities", "human-monitor-command"]


def test_results_are_spelt_with_qemus_blanks() -> None:
    class Info(msgspec.Struct):
        name: str
        sizes: list[int]

    assert to_json(None) == "{}"
    assert to_json([Info("x", [1, 2])]) == '[{"name": "x", "sizes": [1, 2]}]'
    assert to_json([Info("\udcff", [])]) == '[{"name": "\\uFFFD", "sizes": []}]'


# Descriptors


async def serve(engine: FakeEngine, input: int, output: int) -> int:
    server = QmpServer(engine, VERSION)
    server.begin(FdChannel(input, output), last=True)
    return await server.run()


def served(data: bytes) -> list[Any]:
    """What a whole session on two pipes answers to ``data``; the engine must be shut down."""
    answers: list[bytes] = []

    def client(write: int, read: int) -> None:
        with open(write, "wb") as to_server:
            to_server.write(data)
        with open(read, "rb") as from_server:
            answers.extend(from_server.readlines())

    async def scenario(input: int, output: int) -> None:
        engine = FakeEngine()
        assert await serve(engine, input, output) == 0
        assert engine.was_shut_down

    input, write = os.pipe()
    read, output = os.pipe()
    peer = threading.Thread(target=client, args=(write, read))
    peer.start()
    try:
        run(scenario(input, output))
    finally:
        os.close(input)
        os.close(output)
        peer.join()
    assert all(line.endswith(b"\r\n") for line in answers)
    return [json.loads(line) for line in answers]


def test_pipes() -> None:
    answers = served(b"{'execute':'qmp_capabilities'}{'execute':'foo','id':1}")
    assert [sorted(answer) for answer in answers] == [["QMP"], ["return"], ["error", "id"]]


def test_jobs_are_cancelled_at_the_end_and_their_events_are_seen() -> None:
    stream = {"job-id": "s0", "device": "d0"}
    answers = served(
        json.dumps(NEGOTIATE).encode()
        + json.dumps({"execute": "block-stream", "arguments": stream}).encode()
    )
    events = [answer["event"] for answer in answers if "event" in answer]
    assert "BLOCK_JOB_CANCELLED" in events
    assert answers[-1]["data"] == {"id": "s0", "status": "null"}


def test_a_file_and_dev_null(tmp_path: Path) -> None:
    requests = tmp_path / "requests"
    requests.write_bytes(b"{'execute':'qmp_capabilities'}\n")
    answers = tmp_path / "answers"

    async def scenario() -> None:
        with requests.open("rb") as input, answers.open("wb") as output:
            await serve(FakeEngine(), input.fileno(), output.fileno())
        with open("/dev/null", "r+b") as null:
            await serve(FakeEngine(), null.fileno(), null.fileno())

    run(scenario())
    assert len(answers.read_bytes().splitlines()) == 2


@pytest.mark.parametrize("old_host", [False, True])
def test_a_client_that_does_not_read_is_waited_for_without_stopping_the_loop(
    monkeypatch: pytest.MonkeyPatch, old_host: bool
) -> None:
    def knows_no_such_flag(*_: Any) -> int:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    if old_host:
        monkeypatch.setattr(os, "pwritev", knows_no_such_flag)

    async def scenario() -> None:
        read, output = os.pipe()
        channel = FdChannel(0, output)
        data = os.urandom(1 << 20)
        channel.write(data)
        waiting = asyncio.create_task(channel.drained())
        await asyncio.sleep(0)
        assert not waiting.done()
        channel.write(b"end")
        received = b""
        while len(received) < len(data) + 3:
            received += await asyncio.to_thread(os.read, read, 1 << 16)
        await waiting
        assert received == data + b"end"
        assert os.get_blocking(output)
        os.close(read)
        os.close(output)

    run(scenario())


def test_a_channel_that_is_held_reads_nothing(tmp_path: Path) -> None:
    """Of a pipe, and of a file, which no loop can wait for."""

    async def scenario() -> None:
        input, write = os.pipe()
        os.write(write, b"first")
        (tmp_path / "file").write_bytes(b"first")
        for descriptor in (input, os.open(tmp_path / "file", os.O_RDONLY)):
            channel = FdChannel(descriptor, 1)
            received: list[bytes] = []
            channel.listen(received.append)
            channel.hold()
            for _ in range(5):
                await asyncio.sleep(0)
            assert received == []
            channel.go_on()
            while not received:
                await asyncio.sleep(0)
            assert received == [b"first"]
            channel.close()
            assert received == [b"first", b""]
            channel.go_on()
            await asyncio.sleep(0)
            assert received == [b"first", b""]  # the end is told once
            os.close(descriptor)
        os.close(write)

    run(scenario())


def test_a_file_is_held_while_what_it_brought_is_looked_at(tmp_path: Path) -> None:
    """Whoever holds as bytes arrive gets no more of them, however long the file is."""
    (tmp_path / "file").write_bytes(bytes(3 * READ_SIZE))

    async def scenario() -> None:
        descriptor = os.open(tmp_path / "file", os.O_RDONLY)
        channel = FdChannel(descriptor, 1)
        sizes: list[int] = []

        def received(data: bytes) -> None:
            channel.hold()
            sizes.append(len(data))

        channel.listen(received)
        for expected in (1, 2, 3):
            for _ in range(10):
                await asyncio.sleep(0)
            assert sizes == [READ_SIZE] * expected
            channel.go_on()
        while sizes[-1]:
            await asyncio.sleep(0)
        channel.close()
        os.close(descriptor)

    run(scenario())


def test_the_reader_is_gone_while_out_of_band_answers_are_due() -> None:
    """The end is learnt in the middle of a write; what is still to be said then is swallowed."""

    async def scenario() -> None:
        input, write = os.pipe()
        read, output = os.pipe()
        client = QmpClient(FdChannel(input, output), FakeEngine(), VERSION)
        task = asyncio.create_task(client.run())
        oob = {"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}
        os.write(write, json.dumps(oob).encode())
        said = b""
        while b"return" not in said:
            said += await asyncio.to_thread(os.read, read, 1 << 16)
        os.close(read)
        os.write(write, b'{"exec-oob": "a"}{"exec-oob": "b"}{"exec-oob": "c"}')
        await task
        for descriptor in (input, write, output):
            os.close(descriptor)

    run(scenario())


def test_our_own_mistake_in_reading_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def oops(*_: Any) -> list[Any]:
        raise ZeroDivisionError("oops")

    async def scenario() -> None:
        channel = MemoryChannel()
        task = await greeted(channel, QmpClient(channel, FakeEngine(), VERSION))
        monkeypatch.setattr(QmpSession, "feed", oops)
        channel.send({"execute": "query-jobs"})
        with pytest.raises(ZeroDivisionError):
            await task

    run(scenario())


def test_a_client_that_is_gone_ends_the_session() -> None:
    async def scenario() -> None:
        input, write = os.pipe()
        read, output = os.pipe()
        channel = FdChannel(input, output)
        received: list[bytes] = []
        channel.listen(received.append)
        await asyncio.sleep(0)
        os.close(read)
        channel.write(b"hello?")
        assert received == [b""]
        await channel.drained()
        for descriptor in (input, write, output):
            os.close(descriptor)

    run(scenario())
