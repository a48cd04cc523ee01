"""The life of a process: a loop, an engine, and what may end them before their work is done."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from monitor.shell.status import Status

if TYPE_CHECKING:
    from monitor.engine.api import Engine, Event
    from monitor.options import Options
    from monitor.shell.progress import ProgressLines

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def with_engine(options: Options, front_end: Callable[[Engine], Awaitable[int]]) -> int:
    """A fresh engine with the disks of the command line, for as long as ``front_end`` runs."""
    from monitor.shell.engines import embedded_engine

    asyncio.get_running_loop().set_exception_handler(_unawaited)
    engine = embedded_engine()
    engine.chardevs = [door.text for door in options.qmp]
    progress = _progress(engine, options)
    closings = Closings(engine, telling=bool(options.qmp))
    try:
        opened = not options.disks or await _open_disks(engine, options)
        _collect_garbage()
        status = await front_end(engine) if opened else Status.FAILED
    finally:
        closings.telling = True
        await engine.shut_down()
        closings.close()
        if progress is not None:
            progress.close()
    return status or (Status.FAILED if closings.failed else Status.OK)


async def _open_disks(engine: Engine, options: Options) -> bool:
    """Whether all could be had; else the first that could not has been told."""
    from monitor.shell.disks import DiskRefused, add_disks

    unsubscribe = engine.subscribe(_tell_note)  # no front end listens yet
    try:
        await add_disks(engine, options.disks)
    except DiskRefused as refused:
        print(f"blkmon: {refused}", *filter(None, [refused.hint]), sep="\n", file=sys.stderr)
        return False
    finally:
        unsubscribe()
    return True


def _tell_note(event: Event) -> None:
    """What is to be known of an image that has been opened."""
    if event.name == "X_BLKMON_NOTE":
        print(f"blkmon: {event.data['text']}", file=sys.stderr)


class Closings:
    """Whether all that was written could be kept when nodes were closed: the exit status says it.

    While ``telling`` there is no front end that prints a line of its own about it.
    """

    def __init__(self, engine: Engine, *, telling: bool) -> None:
        self.telling = telling
        self.failed = False
        self.close = engine.subscribe(self._on_event)

    def _on_event(self, event: Event) -> None:
        from monitor.commands.render import CLOSE_FAILED, note_line

        if event.name != CLOSE_FAILED:
            return
        self.failed = True
        if self.telling:
            print(f"blkmon: {note_line(event)}", file=sys.stderr)


YOUNG = 10_000
"""Objects between two looks for garbage. Python's 700 are some thirteen nodes: who added 5,000 had
all that was there looked through again and again, for a seventh of the time."""


def _collect_garbage() -> None:
    """From now on, and never again among what the start has imported."""
    gc.freeze()
    gc.set_threshold(YOUNG)
    gc.enable()


def _progress(engine: Engine, options: Options) -> ProgressLines | None:
    if options.progress is None:
        return None
    from monitor.shell.progress import ProgressLines

    return ProgressLines(engine, options.progress, as_json=options.json)


def _unawaited(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception that nobody waited for: a mistake of ours, told in one line as all of them."""
    from monitor.shell.log import report_failure

    report_failure(context.get("exception") or RuntimeError(context["message"]))


class _ToLog(logging.Handler):
    """Python would print what is logged, tracebacks too, on anybody's screen."""

    def emit(self, record: logging.LogRecord) -> None:
        from monitor.shell.log import log_record

        log_record(record)


def run_loop(main: Coroutine[Any, Any, int]) -> int:
    logs = _ToLog(logging.WARNING)
    logging.getLogger().addHandler(logs)
    try:
        with asyncio.Runner() as runner:
            return runner.run(main)
    finally:
        logging.getLogger().removeHandler(logs)


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
