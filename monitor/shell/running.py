"""From options to a front end on an engine: the only place that knows which engine it is."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from monitor.engine.errors import MonitorError
from monitor.shell.disks import DiskRefused, add_disks, setup_lines
from monitor.shell.script import (
    ScriptOptions,
    ScriptSession,
    Source,
    Status,
    parse_sources,
    read_lines,
)
from monitor.shell.session import OutputClosed

if TYPE_CHECKING:
    from monitor.engine.api import Engine
    from monitor.parser import Invocation

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def converse(options: argparse.Namespace) -> int:
    """The prompt on this terminal."""

    async def front_end(engine: Engine) -> int:
        from monitor.shell.repl import run_prompt

        return await run_prompt(engine, options)

    return _run(_with_engine(options, front_end))


def serve_qmp(options: argparse.Namespace) -> int:
    """QMP on standard input and output."""

    async def front_end(engine: Engine) -> int:
        from monitor.servers.qmp import serve_stdio
        from monitor.shell.human import HumanLines
        from monitor.shell.log import log_failure
        from monitor.version import QEMU_VERSION, package
        from monitor.wire.qmp import Version

        version = Version(*QEMU_VERSION, package())
        return await serve_stdio(engine, version, HumanLines(engine), log_failure)

    return _run(_with_engine(options, front_end))


def run_scripts(options: argparse.Namespace) -> int:
    """Commands from files and ``-c``, or from standard input when there are neither."""
    try:
        sources = _sources(options)
    except MonitorError as error:
        print(f"blkmon: {error}", file=sys.stderr)
        return Status.FAILED
    whole = parse_sources(sources)
    if whole is None:
        return Status.SYNTAX
    if options.check:
        return Status.OK
    return _run(_with_engine(options, lambda engine: _script(engine, options, sources, whole)))


def _sources(options: argparse.Namespace) -> list[Source]:
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
    session = ScriptSession(engine, ScriptOptions(options.keep_going, options.json))
    if options.record:
        session.record(options.record, setup_lines(options.disks))

    async def run() -> None:
        if sources:
            await session.run_all(whole)
        else:
            await session.run_pipe(read_lines(0))
        await session.finish()

    try:
        ended_by = await _until_told_to_end(run(), session.request_quit, engine)
    except OutputClosed as closed:
        return _output_closed(closed)
    finally:
        session.close()
    return session.status if ended_by is None else 128 + ended_by


async def _until_told_to_end(
    work: Coroutine[Any, Any, None], stop: Callable[[], None], engine: Engine
) -> int | None:
    """Waits for ``work``; the number of the signal that ended it before its end, else None.

    A command that runs is never broken off, since the graph may be half changed: ``stop`` keeps
    the next one from running, jobs are cancelled, and what still waits then waits for nothing that
    matters. A second signal ends the process on the spot; images survive that by their write order.
    """
    loop = asyncio.get_running_loop()
    told: asyncio.Future[int] = loop.create_future()

    def end(number: int) -> None:
        if told.done():
            os._exit(128 + number)
        stop()
        told.set_result(number)

    for number in ENDING:
        loop.add_signal_handler(number, end, number)
    task = asyncio.ensure_future(work)
    both: set[asyncio.Future[Any]] = {task, told}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
        return None
    await engine.shut_down()
    task.cancel()
    await asyncio.wait({task})
    return told.result()


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
    from monitor.engine.embedded import EmbeddedEngine

    engine = EmbeddedEngine()
    try:
        await add_disks(engine, options.disks)
        return await front_end(engine)
    except DiskRefused as refused:
        print(f"blkmon: {refused}", file=sys.stderr)
        return Status.FAILED
    finally:
        await engine.shut_down()


def _run(main: Coroutine[Any, Any, int]) -> int:
    with asyncio.Runner() as runner:
        return runner.run(main)
