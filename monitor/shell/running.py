"""From options to a front end on an engine."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from monitor.commands.render import CLOSE_FAILED, note_line
from monitor.engine.errors import MonitorError
from monitor.language.variables import Scope
from monitor.shell.disks import DiskRefused, add_disks, setup_lines
from monitor.shell.failures import OutputClosed
from monitor.shell.script import (
    ScriptOptions,
    ScriptSession,
    Source,
    Status,
    parse_sources,
    read_lines,
)
from monitor.shell.texts import read_script

if TYPE_CHECKING:
    from monitor.engine.api import Engine, Event
    from monitor.language.parser import Invocation
    from monitor.servers.door import Door
    from monitor.servers.qmp import QmpServer
    from monitor.shell.checkpoint import Checkpoint
    from monitor.shell.progress import ProgressLines

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def converse(options: argparse.Namespace) -> int:
    """The prompt on this terminal."""

    async def front_end(engine: Engine) -> int:
        from monitor.shell.repl import run_prompt

        return await run_prompt(engine, options)

    return _run(_with_engine(options, front_end))


def serve_qmp(options: argparse.Namespace) -> int:
    """QMP on standard input and output, or on sockets, or all of them."""

    async def front_end(engine: Engine) -> int:
        from monitor.servers.channel import FdChannel
        from monitor.servers.door import STDIO
        from monitor.servers.qmp import QmpServer
        from monitor.shell.human import HumanLines
        from monitor.shell.log import log_failure
        from monitor.version import QEMU_VERSION, package
        from monitor.wire.qmp import Version

        version = Version(*QEMU_VERSION, package())
        ending = Ending(engine)

        def human() -> HumanLines:
            return HumanLines(engine, lambda: ending.tell(Status.OK))

        server = QmpServer(engine, version, human, log_failure)
        async with _doors(server, [door for door in options.qmp if door is not STDIO]):
            if STDIO in options.qmp:
                server.begin(FdChannel(0, 1), last=True)
            return await ending.or_end_of(server.run())

    return _run(_with_engine(options, front_end))


@contextlib.asynccontextmanager
async def _doors(server: QmpServer, wanted: Sequence[Door]) -> AsyncIterator[None]:
    """The sockets that clients come by. Raises RequestError."""
    if not wanted:
        yield
        return
    from monitor.servers.doors import Doors

    doors = Doors(server)
    try:
        for door in wanted:
            await doors.open(door)
        yield
    finally:
        doors.close()


def run_scripts(options: argparse.Namespace) -> int:
    """Commands from files and ``-c``, or from standard input when there are neither."""
    try:
        sources = _sources(options)
    except MonitorError as error:
        print(f"blkmon: {error}", file=sys.stderr)
        return Status.FAILED
    scope = Scope(dict(options.variables), read=read_script, strict=options.check)
    whole = parse_sources(sources, scope, out=sys.stdout if options.json else None)
    if whole is None:
        return Status.SYNTAX
    if options.check:
        return Status.OK
    return _run(_with_engine(options, lambda engine: _script(engine, options, sources, whole)))


def _sources(options: argparse.Namespace) -> list[Source]:
    if options.files == ["-"] and not (options.commands or options.check):
        return []  # a pipe, with another name
    sources = [Source.file(path) for path in options.files]
    sources += [Source.command(text, number) for number, text in enumerate(options.commands, 1)]
    if options.check and not sources:
        sources = [Source.file("-")]
    return sources


async def _script(
    engine: Engine,
    options: argparse.Namespace,
    sources: Sequence[Source],
    whole: Sequence[Invocation],
) -> int:
    settings = ScriptOptions(options.keep_going, options.json, options.yes, dict(options.variables))
    session = ScriptSession(engine, settings)
    if options.record:
        session.record(options.record, await setup_lines(engine, options.disks))

    async def run() -> int:
        if sources:
            await session.run_all(whole, await _checkpoint(engine, options, whole))
        else:
            await session.run_pipe(read_lines(0))
        await session.finish()
        return session.status

    try:
        return await Ending(engine).or_end_of(run(), session.request_quit)
    except OutputClosed as closed:
        return _output_closed(closed)
    finally:
        session.close()


async def _checkpoint(
    engine: Engine, options: argparse.Namespace, whole: Sequence[Invocation]
) -> Checkpoint | None:
    """Raises CannotResume."""
    if options.checkpoint is None:
        return None
    from monitor.shell.checkpoint import Checkpoint

    checkpoint = Checkpoint(options.checkpoint, engine, whole)
    if options.resume:
        await checkpoint.resume()
    return checkpoint


class Ending:
    """What may end a session before its work is done: a signal, or ``tell``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Future[int] = self._loop.create_future()
        for number in ENDING:
            self._loop.add_signal_handler(number, self._signalled, number)

    def tell(self, status: int) -> None:
        """The session ends now, with ``status``."""
        if not self._told.done():
            self._told.set_result(status)

    def _signalled(self, number: int) -> None:
        if self._told.done():
            # Asked twice: at once, then. Images survive that by the order of their writes.
            os._exit(128 + number)
        self.tell(128 + number)

    async def or_end_of(
        self, work: Coroutine[Any, Any, int], stop: Callable[[], None] = lambda: None
    ) -> int:
        """Waits for ``work``; its status, or that with which the session was told to end.

        A command that runs is never broken off, since the graph may be half changed: ``stop`` keeps
        the next one from running, jobs are cancelled, images closed; what still waits then waits
        for nothing that matters.
        """
        task = asyncio.ensure_future(work)
        both: set[asyncio.Future[Any]] = {task, self._told}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        stop()
        await self._engine.shut_down()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return self._told.result()


def _output_closed(closed: OutputClosed) -> int:
    """Nobody reads on: that is no failure of ours to talk about; a full disk is."""
    # What Python still holds for stdout would fail again when the process ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(closed.error, BrokenPipeError):
        return Status.PIPE_CLOSED
    print(f"blkmon: cannot write the output: {closed.error.strerror}", file=sys.stderr)
    return Status.FAILED


# -- the engine --------------------------------------------------------------------------------


async def _with_engine(
    options: argparse.Namespace, front_end: Callable[[Engine], Awaitable[int]]
) -> int:
    """A fresh engine with the disks of the command line, for as long as ``front_end`` runs."""
    from monitor.shell.engines import embedded_engine

    asyncio.get_running_loop().set_exception_handler(_unawaited)
    engine = embedded_engine()
    engine.chardevs = [door.text for door in options.qmp]
    progress = _progress(engine, options)
    closings = Closings(engine, telling=bool(options.qmp))
    try:
        await add_disks(engine, options.disks)
        status = await front_end(engine)
    except DiskRefused as refused:
        print(f"blkmon: {refused}", file=sys.stderr)
        status = Status.FAILED
    finally:
        closings.telling = True
        await engine.shut_down()
        closings.close()
        if progress is not None:
            progress.close()
    return status or (Status.FAILED if closings.failed else Status.OK)


class Closings:
    """Whether all that was written could be kept when nodes were closed: the exit status says it.

    While ``telling`` there is no front end that prints a line of its own about it.
    """

    def __init__(self, engine: Engine, *, telling: bool) -> None:
        self.telling = telling
        self.failed = False
        self.close = engine.subscribe(self._on_event)

    def _on_event(self, event: Event) -> None:
        if event.name != CLOSE_FAILED:
            return
        self.failed = True
        if self.telling:
            print(f"blkmon: {note_line(event)}", file=sys.stderr)


def _progress(engine: Engine, options: argparse.Namespace) -> ProgressLines | None:
    if options.progress is None:
        return None
    from monitor.shell.progress import ProgressLines

    return ProgressLines(engine, options.progress, as_json=options.json)


def _unawaited(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception that nobody waited for: a mistake of ours, told in one line as all of them."""
    from monitor.shell.log import report_failure

    report_failure(context.get("exception") or RuntimeError(context["message"]))


def _run(main: Coroutine[Any, Any, int]) -> int:
    with asyncio.Runner() as runner:
        return runner.run(main)
