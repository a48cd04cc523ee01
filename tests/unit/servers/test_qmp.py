"""The QMP server: order, events in between, the end; on a channel in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from monitor.engine.errors import InternalError, MonitorError
from monitor.engine.schema.base import Request
from monitor.engine.schema.monitor import CommandInfo, QueryCommands
from monitor.servers.qmp import QmpClient, to_json
from tests.support.fake_engine import FakeEngine
from tests.support.qmp_channel import NEGOTIATE, VERSION, MemoryChannel, SlowEngine, greeted, run


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


def test_what_waits_for_nothing_is_answered_by_the_callback_that_brings_it() -> None:
    """Another turn of the loop costs as much as the command."""

    async def scenario() -> None:
        channel = MemoryChannel()
        task = await greeted(channel, QmpClient(channel, FakeEngine(), VERSION))

        def bring() -> None:
            add = {"driver": "null-co", "node-name": "n0"}
            channel.send({"execute": "blockdev-add", "arguments": add, "id": 1})
            answers.extend(channel.rest())

        answers: list[Any] = []
        asyncio.get_running_loop().call_soon(bring)
        await asyncio.sleep(0)
        assert answers == [{"return": {}, "id": 1}]
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
