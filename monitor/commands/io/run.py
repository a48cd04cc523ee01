"""What each of qemu-io's commands does: requests to the engine, and qemu-io's text for the answers.

What fails in qemu-io is an error here too: so a script stops at a pattern that is not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from monitor.commands.errors import Verbatim
from monitor.commands.io.report import dump, report, size_text
from monitor.commands.io.usage import SHORT, USAGES
from monitor.commands.io.words import (
    MAX_REQUEST,
    Arguments,
    IoMistake,
    Usage,
    parse_arguments,
    parse_number,
    split,
)
from monitor.commands.registry import Answer, Session
from monitor.engine.api import Event
from monitor.engine.errors import HostFailure
from monitor.engine.schema.base import UNSET, given
from monitor.engine.schema.breakpoints import Breakpoint
from monitor.engine.schema.extra import IoRequest, IoResult

MAX_DUMP = 1 << 20
"""Bytes that one request gives back at most; a longer dump takes several."""

NOT_SUPPORTED = "Operation not supported"


class IoFailed(Verbatim):
    """The request was made and failed; ``message`` is what qemu-io prints."""


async def run(session: Session, device: str, text: str) -> Answer | None:
    """One command of qemu-io on a drive or node. Raises IoMistake, IoFailed."""
    words = split(text)
    if not words:
        return None
    name = SHORT.get(words[0], words[0])
    if name == "help":
        return _help(words[1:])
    if name not in USAGES:
        raise IoMistake(f'command "{words[0]}" not found')
    act, failing = _ACTS[name]
    arguments = parse_arguments(USAGES[name], words[1:])
    return await act(_Target(session, device, failing), arguments)


@dataclass(frozen=True)
class _Target:
    """The drive or node of a command, and the name under which its failures are reported."""

    session: Session
    device: str
    failing: str

    async def request(self, operation: Any, **arguments: Any) -> IoResult:
        """One request. Raises IoFailed with qemu-io's text where the disk failed."""
        try:
            result: IoResult = await self.session.engine.execute(
                IoRequest(device=self.device, operation=operation, **arguments)
            )
        except HostFailure as error:
            raise self.failure(error.reason) from error
        return result

    def failure(self, reason: str) -> IoFailed:
        return IoFailed(f"{self.failing}: {reason}")


async def _read(target: _Target, arguments: Arguments) -> Answer:
    offset, length = _extent(arguments)
    window = _compared(arguments, length)
    if arguments.flags & {"b", "i"}:
        raise target.failure(NOT_SUPPORTED)
    asked: dict[str, Any] = {}
    if window is not None:
        asked = {"pattern": arguments.pattern, "pattern_offset": window[0]}
        asked["pattern_length"] = window[1]
    result = await target.request("read", offset=offset, length=length, **asked)
    shown = []
    if "v" in arguments.flags and "q" not in arguments.flags:
        shown += await _dump(target, offset, length)
    shown += _report("read", arguments, offset, length, result)
    if window is None or result.mismatch is UNSET:
        return _answer(result, shown)
    if shown:
        target.session.print("\n".join(shown))
    place = offset + window[0]
    raise IoFailed(f"Pattern verification failed at offset {place}, {window[1]} bytes")


def _compared(arguments: Arguments, length: int) -> tuple[int, int] | None:
    """Offset and length, in what is read, of the part that the pattern is compared with."""
    if arguments.pattern is None:
        if arguments.flags & {"s", "l"}:
            raise arguments.misused()
        return None
    start = arguments.start
    count = length - start if arguments.length is None else arguments.length
    if count < 0 or start + count > length:
        raise IoMistake("pattern verification range exceeds end of read data")
    return start, count


async def _dump(target: _Target, offset: int, length: int) -> list[str]:
    """The lines of the last piece; those of the pieces before it are printed here, one by one."""
    lines: list[str] = []
    for start in range(offset, offset + length, MAX_DUMP):
        if lines:
            target.session.print("\n".join(lines))
        piece = min(MAX_DUMP, offset + length - start)
        result = await target.request("read", offset=start, length=piece, want_data=True)
        lines = list(dump(result.data or b"", start))
    return lines


async def _write(target: _Target, arguments: Arguments) -> Answer:
    flags = arguments.flags
    _check_write_flags(arguments)
    offset, length = _extent(arguments)
    if flags & {"b", "c", "i", "n", "s"}:
        raise target.failure(NOT_SUPPORTED)
    fua: Any = True if "f" in flags else UNSET
    if "z" in flags:
        unmap: Any = True if "u" in flags else UNSET
        result = await target.request(
            "zero", offset=offset, length=length, may_unmap=unmap, fua=fua
        )
    else:
        pattern = 0xCD if arguments.pattern is None else arguments.pattern
        result = await target.request(
            "write", offset=offset, length=length, pattern=pattern, fua=fua
        )
    return _answer(result, _report("wrote", arguments, offset, length, result))


def _check_write_flags(arguments: Arguments) -> None:
    """qemu-io's refusals of flags that do not go together, in its order."""
    flags = arguments.flags
    if {"b", "z"} <= flags:
        raise IoMistake("-b and -z cannot be specified at the same time")
    if "f" in flags and flags & {"b", "c"}:
        raise IoMistake("-f and -b or -c cannot be specified at the same time")
    for flag in "nu":
        if flag in flags and "z" not in flags:
            raise IoMistake(f"-{flag} requires -z to be specified")
    if arguments.usage.name == "write" and len(flags & {"z", "P", "s"}) > 1:
        raise IoMistake("Only one of -z, -P, and -s can be specified at the same time")


async def _discard(target: _Target, arguments: Arguments) -> Answer:
    offset, length = _extent(arguments)
    result = await target.request("discard", offset=offset, length=length)
    return _answer(result, _report("discard", arguments, offset, length, result))


async def _flush(target: _Target, arguments: Arguments) -> Answer:
    return _answer(await target.request("flush"), [])


async def _background(target: _Target, arguments: Arguments) -> Answer:
    """A request that is asynchronous in qemu-io. Here it is waited for, unless it comes to stand at
    a breakpoint: then the session goes on, and its report follows."""
    act = _write if arguments.usage.name == "aio_write" else _read
    running = asyncio.ensure_future(act(target, arguments))
    stands = asyncio.Event()

    def hear(event: Event) -> None:
        if event.name == "X_BLKMON_SUSPENDED":
            stands.set()

    unsubscribe = target.session.engine.subscribe(hear)
    standing = asyncio.ensure_future(stands.wait())
    try:
        await asyncio.wait({running, standing}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        running.cancel()
        raise
    finally:
        unsubscribe()
        standing.cancel()
    if running.done():
        return running.result()
    outstanding = _OUTSTANDING.setdefault(target.session, set())
    outstanding.add(running)
    running.add_done_callback(outstanding.discard)
    running.add_done_callback(lambda ended: _tell(target.session, ended))
    return _answer(IoResult(), [])


def _tell(session: Session, ended: asyncio.Future[Answer]) -> None:
    """Prints the report of a request that nobody waits for."""
    if ended.cancelled():
        return
    error = ended.exception()
    session.print(ended.result().render() if error is None else str(error))


async def _aio_flush(target: _Target, arguments: Arguments) -> Answer:
    """Waits for all requests of the session that are under way, and flushes."""
    outstanding = _OUTSTANDING.get(target.session)
    if outstanding:
        await asyncio.wait(set(outstanding))
    return await _flush(target, arguments)


async def _breakpoint(target: _Target, arguments: Arguments) -> Answer:
    operation, words = _BREAKPOINTS[arguments.usage.name]
    tag = arguments.words[-1]
    event: Any = arguments.words[0] if operation == "set" else UNSET
    try:
        await target.session.engine.execute(
            Breakpoint(device=target.device, operation=operation, tag=tag, event=event)
        )
    except HostFailure as error:
        raise IoFailed(f"{words.format(tag=tag)}: {error.reason}") from error
    lines = [f"blkdebug: Resuming request '{tag}'"] if operation == "resume" else []
    return _answer(IoResult(), lines)


async def _length(target: _Target, arguments: Arguments) -> Answer:
    result = await target.request("length")
    return _answer(result, [size_text(result.length or 0)])


async def _map(target: _Target, arguments: Arguments) -> Answer:
    """Neighbours that are alike are one line, from the start of the disk to its end."""
    result = await target.request("map")
    lines = []
    for extent in result.extents or ():
        state = "    allocated" if extent.allocated else "not allocated"
        lines.append(
            f"{size_text(extent.length)} ({extent.length:#x}) bytes {state} "
            f"at offset {size_text(extent.offset)} ({extent.offset:#x})"
        )
    return _answer(result, lines)


async def _alloc(target: _Target, arguments: Arguments) -> Answer:
    """How much of a range (512 bytes unless told) is allocated in this image itself."""
    offset, *more = (parse_number(word) for word in arguments.words)
    length = more[0] if more else 512
    result = await target.request("alloc", offset=offset, length=length)
    looked_at = given(result.length, length)
    line = f"{result.allocated or 0}/{looked_at} bytes allocated at offset {size_text(offset)}"
    return _answer(result, [line])


def _extent(arguments: Arguments) -> tuple[int, int]:
    """Offset and length; a vector's lengths are added up."""
    vector = arguments.usage.arguments.endswith("[len..]")
    if len(arguments.words) < 2 or (len(arguments.words) > 2 and not vector):
        raise arguments.misused()
    offset, *lengths = arguments.words
    place, total = parse_number(offset), 0
    for word in lengths:
        length = parse_number(word)
        if length > MAX_REQUEST:
            raise IoMistake(_too_long(arguments.usage, vector, word))
        total += length
    if total > MAX_REQUEST:
        raise IoMistake(f"The total number of bytes exceed the maximum size {MAX_REQUEST}")
    return place, total


def _too_long(usage: Usage, vector: bool, word: str) -> str:
    if vector:
        return f"Argument '{word}' exceeds maximum size {MAX_REQUEST}"
    way_out = " without -n" if usage.name == "write" else ""
    return f"length cannot exceed {MAX_REQUEST}{way_out}, given {word}"


def _report(
    action: str, arguments: Arguments, offset: int, length: int, result: IoResult
) -> list[str]:
    if "q" in arguments.flags:
        return []
    machine = "C" in arguments.flags
    return [report(action, offset, length, length, result.seconds, machine=machine)]


def _answer(result: IoResult, lines: list[str]) -> Answer:
    return Answer(result, lambda: "\n".join(lines))


_OUTSTANDING: WeakKeyDictionary[Session, set[asyncio.Future[Answer]]] = WeakKeyDictionary()
"""Requests that stand at breakpoints, or did, by the session that made them."""

_BREAKPOINTS: dict[str, tuple[Any, str]] = {
    "break": ("set", "Could not set breakpoint"),
    "remove_break": ("remove", "Could not remove breakpoint {tag}"),
    "resume": ("resume", "Could not resume request"),
    "wait_break": ("wait", "Could not wait"),
}
"""The operation of each command, and how its failures begin."""

_ACTS: dict[str, tuple[Callable[[_Target, Arguments], Awaitable[Answer]], str]] = {
    "aio_flush": (_aio_flush, "flush failed"),
    "aio_read": (_background, "readv failed"),
    "aio_write": (_background, "aio_write failed"),
    "alloc": (_alloc, "is_allocated failed"),
    "break": (_breakpoint, ""),
    "discard": (_discard, "discard failed"),
    "flush": (_flush, "flush failed"),
    "length": (_length, "getlength"),
    "map": (_map, "Failed to get allocation status"),
    "read": (_read, "read failed"),
    "readv": (_read, "readv failed"),
    "remove_break": (_breakpoint, ""),
    "resume": (_breakpoint, ""),
    "wait_break": (_breakpoint, ""),
    "write": (_write, "write failed"),
    "writev": (_write, "writev failed"),
}
"""What each command does, and how the text of its failures begins."""


def _help(words: list[str]) -> Answer:
    """All usages, or one."""
    if words and SHORT.get(words[0], words[0]) not in USAGES:
        raise IoMistake(f"command {words[0]} not found")
    names = [SHORT.get(words[0], words[0])] if words else sorted(USAGES)
    lines = [USAGES[name].line for name in names]
    return Answer(lines, lambda: "\n".join(lines))
