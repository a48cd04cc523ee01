"""A QMP server on an engine: one ``QmpClient`` a connection, whatever the connection is
(``doors`` makes those of sockets).

Commands of a client run strictly in order, one at a time; events are sent as they come, between
and during commands. What a client has sent waits in a short queue while a command runs: when it is
full nothing more is read, so a client that sends faster than it is served waits too. When the
client has hung up, what is in the queue is dropped, as in QEMU.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from monitor.engine.api import Engine, Event
from monitor.engine.errors import CommandNotFound, InternalError, MonitorError, Refused
from monitor.engine.schema.base import OWN_EVENTS, Request, request_type
from monitor.engine.schema.decode import decode
from monitor.servers.arrival import Arrival
from monitor.servers.channel import Channel
from monitor.wire.qmp import NEGOTIATE, Command, QmpSession, Reply, Version
from monitor.wire.qmpjson import encode

__all__ = ["Human", "QmpClient", "QmpServer"]

MAX_WAITING = 8
"""Requests read ahead of the one that runs, as in QEMU."""

LAST_WORDS = 5.0
"""Seconds that the end waits for clients to take what was sent to them."""

HUMAN = "human-monitor-command"
QUIT = "quit"

Human = Callable[[str], Awaitable[str]]
"""Carries out one line of the human monitor; what it prints, errors included, is the answer."""

Report = Callable[[Exception], MonitorError]
"""Puts the traceback of an exception that is our mistake where it belongs; gives what to say."""


class QmpServer:
    """All clients of a process, each with its own negotiation, queue and events.

    ``human`` makes a client's ``human-monitor-command``. It is over when a client quits, or one
    that the process lives for has ended; then the engine is shut down: jobs are cancelled (clients
    still see their events), data is flushed and images are closed.
    """

    def __init__(
        self,
        engine: Engine,
        version: Version,
        human: Callable[[], Human] | None = None,
        report: Report | None = None,
    ) -> None:
        self._engine = engine
        self._version = version
        self._human = human
        self._report = report
        self._clients: dict[QmpClient, Channel] = {}
        self._patient: set[Channel] = set()
        """Those whose reader is waited for to the end."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()

    def __len__(self) -> int:
        return len(self._clients)

    def begin(self, channel: Channel, *, last: bool = False) -> None:
        """Serves a client on ``channel``; when it is the ``last`` its end is everybody's."""
        human = self._human() if self._human is not None else None
        client = QmpClient(channel, self._engine, self._version, human, self._report)
        self._clients[client] = channel
        if last:
            self._patient.add(channel)
        task = asyncio.ensure_future(self._serve(client, last))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self) -> int:
        """Returns the exit status when it is over."""
        try:
            await self._over.wait()
        finally:
            self._over.set()
            await self._engine.shut_down()
            for client in self._clients:
                client.close()
            await self._sent()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for channel in self._clients.values():
                channel.close()
        return 0

    async def _serve(self, client: QmpClient, last: bool) -> None:
        try:
            await client.run()
        except Exception as error:
            (self._report or _log)(error)
        if client.quitting or last:
            self._over.set()
        if not self._over.is_set():  # else ``run`` closes all that there are
            client.close()
            self._clients.pop(client).close()

    async def _sent(self) -> None:
        """What was written is on its way; of sockets nobody is waited for who does not read on."""
        channels = self._clients.values()
        await asyncio.gather(*(each.drained() for each in channels if each in self._patient))
        waiting = [asyncio.ensure_future(each.drained()) for each in channels]
        if waiting:
            await asyncio.wait(waiting, timeout=LAST_WORDS)
        for task in waiting:
            task.cancel()


class QmpClient:
    """One session with one client."""

    def __init__(
        self,
        channel: Channel,
        engine: Engine,
        version: Version,
        human: Human | None = None,
        report: Report | None = None,
    ) -> None:
        self._channel = channel
        self._engine = engine
        self._session = QmpSession(version)
        self._human = human
        self._report = report or _log
        self._read: deque[Command | Reply | None] = deque()
        """What came in and has not been looked at, in order; None: the client's end."""
        self._waiting: deque[Command | Reply | None] = deque()
        self._arrival: Arrival | None = None  # of one, for who waits for it
        self._failure: Exception | None = None
        self._unsubscribe = engine.subscribe(self._send_event)
        self.quitting = False
        """Whether the client has asked for the end of the whole process."""

    async def run(self) -> None:
        """Greets, and serves until the client quits or ends."""
        self._channel.write(self._session.greeting())
        self._channel.listen(self._received)
        try:
            await self._work()
        finally:
            self._channel.hold()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """No event is sent from now on."""
        self._unsubscribe()

    def _send_event(self, event: Event) -> None:
        if event.name.startswith(OWN_EVENTS):
            return
        self._channel.write(self._session.event(event.name, event.data, event.timestamp))

    def _received(self, data: bytes) -> None:
        """Takes in requests; answers out-of-band ones at once."""
        try:
            self._read.extend(self._session.feed(data) if data else [None])
            self._look_at_read()
        except Exception as error:  # a mistake of ours
            self._failure = error
            self._waiting.append(None)
            self._wake()

    def _look_at_read(self) -> None:
        while self._read and len(self._waiting) < MAX_WAITING:
            action = self._read.popleft()
            if action is not None and action.oob:
                self._channel.write(self._answer_out_of_band(action))
            else:
                self._waiting.append(action)
        if self._read:
            self._channel.hold()
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        if self._arrival is not None:
            self._arrival.set()

    async def _next(self) -> Command | Reply | None:
        """The next that waits; None at the end. Makes room for another one."""
        while not self._waiting:
            self._arrival = Arrival()
            await self._arrival
        action = self._waiting.popleft()
        if self._read:
            self._look_at_read()
            if not self._read:
                self._channel.go_on()
        return action

    def _answer_out_of_band(self, action: Command | Reply) -> bytes:
        """Nothing that a block layer does may overtake what came before it."""
        if isinstance(action, Reply):
            return action.data
        if self._knows(action.name):
            refusal: MonitorError = Refused(f"The command {action.name} does not support OOB")
        else:
            refusal = CommandNotFound(action.name)
        return self._session.error(action.id, refusal.qmp_class, refusal.text)

    async def _work(self) -> None:
        while not self.quitting and (action := await self._next()) is not None:
            if self._channel.gone():
                return
            self._channel.write(
                action.data if isinstance(action, Reply) else await self._answer(action)
            )
            await self._channel.drained()

    async def _answer(self, command: Command) -> bytes:
        try:
            result = await self._carry_out(command)
            return self._session.reply_json(command.id, to_json(result))
        except MonitorError as error:
            failure = error
        except Exception as error:
            failure = self._report(error)
        return self._session.error(command.id, failure.qmp_class, failure.text)

    async def _carry_out(self, command: Command) -> Any:
        if command.name == HUMAN and self._human is not None:
            from monitor.servers.owncommands import HumanMonitorCommand

            arguments: HumanMonitorCommand = decode(HumanMonitorCommand, command.arguments)
            return await self._human(arguments.command_line)
        kind = request_type(command.name)
        if kind is None:
            raise CommandNotFound(command.name)
        request: Request = decode(kind, command.arguments)
        if command.name == QUIT:
            self.quitting = True
            await self._engine.shut_down()  # whoever reads the reply finds the images closed
            return None
        result = await self._engine.execute(request)
        add = _ADD_OWN.get(command.name)
        return result if add is None else add(result, self._own_commands())

    def _own_commands(self) -> list[str]:
        return [NEGOTIATE] if self._human is None else [NEGOTIATE, HUMAN]

    def _knows(self, name: str) -> bool:
        return name in self._own_commands() or request_type(name) is not None


def _add_commands(result: Any, own: list[str]) -> Any:
    from monitor.servers.owncommands import add_commands

    return add_commands(result, own)


def _add_schema(result: Any, own: list[str]) -> Any:
    from monitor.servers.owncommands import add_schema

    return add_schema(result, own)


_ADD_OWN = {"query-commands": _add_commands, "query-qmp-schema": _add_schema}


def to_json(result: Any) -> str:
    """A result as one line of JSON with QEMU's blanks; an empty object for None."""
    if result is None:
        return "{}"
    try:
        return msgspec.json.format(msgspec.json.encode(result), indent=0).decode()
    except UnicodeEncodeError:  # the name of a file that is no UTF-8
        return encode(msgspec.to_builtins(result))


def _log(error: Exception) -> MonitorError:
    import logging

    logging.getLogger("monitor.qmp").error("a request failed unexpectedly", exc_info=error)
    return InternalError(f"{type(error).__name__}: {error}")
