"""Scripts read by threads: a pipe may have no writer yet, and a file's disk may not answer."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import threading

from monitor.engine.errors import host_failure
from monitor.shell.texts import decode_script

_PIECE = 1 << 16


async def read_apart(path: str) -> str:
    """As ``texts.read_script``, while the loop goes on. Cancelled, it leaves a pipe's bytes to the
    next who reads it. Raises HostFailure."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[bytes] = loop.create_future()
    stop = os.eventfd(0)
    ended = False

    def end(data: bytes, error: Exception | None) -> None:
        nonlocal ended
        ended = True
        os.close(stop)
        if outcome.done():
            return
        if error is None:
            outcome.set_result(data)
        else:
            outcome.set_exception(error)

    def work() -> None:
        data, failed = b"", None
        try:
            data = _bytes_of(path, stop)
        except (OSError, ValueError) as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop has ended; nobody waits any more
            loop.call_soon_threadsafe(end, data, failed)

    try:
        threading.Thread(target=work, name="script", daemon=True).start()
    except RuntimeError:  # the host has no thread to give
        end(b"", OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
    try:
        return decode_script(await outcome)
    except asyncio.CancelledError:
        if not ended:
            os.eventfd_write(stop, 1)
        raise
    except OSError as error:
        raise host_failure(f"Could not open '{path}'", error) from error


def _bytes_of(path: str, stop: int) -> bytes:
    """What can be read of the file until its end, or until ``stop`` can be read. Blocks."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.register(stop, select.POLLIN)
        data = bytearray()
        while stop not in dict(poll.poll()):
            try:
                piece = os.read(fd, _PIECE)
            except BlockingIOError:
                continue
            if not piece:
                break
            data += piece
        return bytes(data)
    finally:
        os.close(fd)
