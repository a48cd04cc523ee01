"""QMP over pipes, files and sockets: read ahead, held, hung up."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from monitor.servers.channel import READ_SIZE, FdChannel
from monitor.servers.qmp import QmpClient, QmpServer
from monitor.wire.qmp import QmpSession
from tests.support.fake_engine import FakeEngine
from tests.support.qmp_channel import NEGOTIATE, VERSION, MemoryChannel, greeted, run


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
