"""A client of a QMP server in the test's own loop, without descriptors."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from monitor.engine.schema.base import Request
from monitor.engine.schema.job import QueryJobs
from monitor.servers.qmp import QmpClient
from monitor.wire.qmp import Version
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
