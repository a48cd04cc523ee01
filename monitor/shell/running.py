"""From options to a front end on an engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from monitor.engine.errors import MonitorError
from monitor.language.variables import Scope
from monitor.shell.failures import OutputClosed
from monitor.shell.lifetime import Ending, run_loop, with_engine
from monitor.shell.script import (
    ScriptOptions,
    ScriptSession,
    Source,
    parse_sources,
    read_lines,
)
from monitor.shell.status import Status
from monitor.shell.texts import look_ahead, read_script

if TYPE_CHECKING:
    from monitor.engine.api import Engine
    from monitor.language.parser import Invocation
    from monitor.options import Options
    from monitor.shell.checkpoint import Checkpoint


def converse(options: Options) -> int:
    """The prompt on this terminal."""
    from monitor.shell.repl import run_prompt

    return run_loop(with_engine(options, lambda engine: run_prompt(engine, options)))


def run_scripts(options: Options) -> int:
    """Commands from files and ``-c``, or from standard input when there are neither."""
    try:
        sources = _sources(options)
    except MonitorError as error:
        print(f"blkmon: {error}", file=sys.stderr)
        return Status.FAILED
    scope = Scope(
        dict(options.variables),
        read=read_script if options.check else look_ahead,
        strict=options.check,
    )
    whole = parse_sources(sources, scope, out=sys.stdout if options.json else None)
    if whole is None:
        return Status.SYNTAX
    if options.check:
        return Status.OK
    return run_loop(with_engine(options, lambda engine: _script(engine, options, sources, whole)))


def _sources(options: Options) -> list[Source]:
    if options.files == ["-"] and not (options.commands or options.check):
        return []  # a pipe, with another name
    sources = [Source.file(path) for path in options.files]
    sources += [Source.command(text, number) for number, text in enumerate(options.commands, 1)]
    if options.check and not sources:
        sources = [Source.file("-")]
    return sources


async def _script(
    engine: Engine,
    options: Options,
    sources: Sequence[Source],
    whole: Sequence[Invocation],
) -> int:
    settings = ScriptOptions(options.keep_going, options.json, options.yes, dict(options.variables))
    session = ScriptSession(engine, settings)
    if options.record:
        from monitor.shell.disks import setup_lines

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
        return output_closed(closed)
    finally:
        session.close()


async def _checkpoint(
    engine: Engine, options: Options, whole: Sequence[Invocation]
) -> Checkpoint | None:
    """Raises CannotResume."""
    if options.checkpoint is None:
        return None
    from monitor.shell.checkpoint import Checkpoint

    checkpoint = Checkpoint(options.checkpoint, engine, whole)
    if options.resume:
        await checkpoint.resume()
    return checkpoint


def output_closed(closed: OutputClosed) -> int:
    """The status. Nobody reads on: that is no failure of ours to talk about; a full disk is."""
    # What Python still holds for stdout would fail again when the process ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(closed.error, BrokenPipeError):
        return Status.PIPE_CLOSED
    print(f"blkmon: cannot write the output: {closed.error.strerror}", file=sys.stderr)
    return Status.FAILED
