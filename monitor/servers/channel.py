"""A pair of file descriptors as a stream of bytes for the control loop.

Pipes, terminals, files and ``/dev/null`` all serve. The descriptors stay in blocking mode: they are
often shared (a terminal with the shell that started us), and the mode belongs to all who share.
So a descriptor is asked before each call whether it would wait. A pipe's write is told not to
(RWF_NOWAIT, pipes since Linux 6.4); what knows no such thing is written in pieces that it takes
whole (POSIX: a pipe that is writable takes ``PIPE_BUF`` bytes).
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import stat
from collections.abc import Callable
from typing import Protocol

__all__ = ["Channel", "FdChannel", "SocketChannel"]

READ_SIZE = 64 << 10
PIPE_BUF = 4096
SOCKET_PIECE = 256 << 10
MAX_UNSENT = 16 << 20
"""Bytes that may wait for a socket's reader who takes none of them for ``PATIENCE`` seconds."""
PATIENCE = 10.0


class Channel(Protocol):
    """Where a client is. A channel whose other end is gone reads as ended and swallows writes."""

    def listen(self, received: Callable[[bytes], None]) -> None:
        """From now on ``received`` is called with bytes as they come, and at the end with b""."""

    def hold(self) -> None:
        """Nothing is read, so that the other end waits too, until ``go_on``."""

    def go_on(self) -> None: ...

    def write(self, data: bytes) -> None:
        """Sends ``data`` in the order of calls; never waits."""

    async def drained(self) -> None:
        """Returns once everything written is on its way."""

    def gone(self) -> bool:
        """Whether the other end neither sends nor reads any more. A standard output whose reader
        has left does not count: what the input says is to be done all the same."""

    def close(self) -> None:
        """Nothing more is read or sent."""


class FdChannel:
    """A ``Channel`` on descriptors that stay open when it is done with."""

    piece = PIPE_BUF

    def __init__(self, input: int, output: int) -> None:
        self._input = input
        self._output = output
        self._unsent = bytearray()
        self._received: Callable[[bytes], None] | None = None  # until the end was told
        self._turn: asyncio.Handle | None = None
        self._watching = False
        self._held = False
        self._readable = _asking(input, select.POLLIN)
        self._writable = _asking(output, select.POLLOUT)
        self._never_waits = _is_pipe(output)  # when it is told not to
        self._room: asyncio.Future[None] | None = None  # for bytes to write
        self._broken = False

    def listen(self, received: Callable[[bytes], None]) -> None:
        self._received = received
        self.go_on()

    def hold(self) -> None:
        self._held = True
        if self._watching:
            self._watching = False
            asyncio.get_running_loop().remove_reader(self._input)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def go_on(self) -> None:
        self._held = False
        if self._received is None or self._watching or self._turn is not None:
            return
        loop = asyncio.get_running_loop()
        if self._broken:
            self._turn = loop.call_soon(self._end)
            return
        try:
            loop.add_reader(self._input, self._arrived)
            self._watching = True
        except (OSError, ValueError):  # a file, which nobody can wait for; or it is closed
            self._turn = loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        self._arrived()
        if not self._held:
            self.go_on()

    def _arrived(self) -> None:
        data = self._take()
        if data:
            assert self._received is not None
            self._received(data)
        elif data is not None:
            self._end()

    def _end(self) -> None:
        self.hold()
        received, self._received = self._received, None
        if received is not None:
            received(b"")

    def _take(self) -> bytes | None:
        """What is there to read, b"" at the end; None when that is nothing yet."""
        if not self._readable.poll(0):
            return None
        try:
            return os.read(self._input, READ_SIZE)
        except BlockingIOError:  # another reader of the same terminal was faster
            return None
        except OSError:  # a terminal hung up
            return b""

    def write(self, data: bytes) -> None:
        if self._broken:
            return
        self._unsent += data
        if self._room is None:
            self._send()

    def close(self) -> None:
        self._unsent.clear()
        self._room_found()
        self.give_up()

    def gone(self) -> bool:
        return False

    async def drained(self) -> None:
        while self._room is not None:
            await asyncio.shield(self._room)

    def _send(self) -> None:
        """Writes what can be written now; the loop calls again when there is more room."""
        unsent = memoryview(self._unsent)
        sent, gone = 0, False
        try:
            while sent < len(unsent):
                sent += self._send_at_once(unsent[sent:])
        except BlockingIOError:  # full; or the mode was changed by someone who shares it
            pass
        except OSError:  # nobody reads any more
            sent, gone = len(unsent), True
        unsent.release()
        del self._unsent[:sent]
        self._wait_for_room() if self._unsent else self._room_found()
        if gone:
            self.give_up()

    def _send_at_once(self, unsent: memoryview) -> int:
        """What could be written without a wait, in bytes. Raises BlockingIOError where nothing
        could."""
        if self._never_waits:
            try:
                return os.pwritev(self._output, [unsent], -1, os.RWF_NOWAIT)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                self._never_waits = False
        if not self._writable.poll(0):
            raise BlockingIOError
        return os.write(self._output, unsent[: self.piece])

    def give_up(self) -> None:
        """Nothing more is read or sent."""
        self._broken = True
        self._end()

    def _wait_for_room(self) -> None:
        if self._room is None:
            loop = asyncio.get_running_loop()
            self._room = loop.create_future()
            loop.add_writer(self._output, self._send)

    def _room_found(self) -> None:
        if self._room is not None:
            asyncio.get_running_loop().remove_writer(self._output)
            _set(self._room)
            self._room = None


class SocketChannel(FdChannel):
    """A ``Channel`` on a connected socket, which is this process's alone.

    A reader who takes nothing while more and more waits for him is cut off: what is kept for him
    must not grow for ever.
    """

    piece = SOCKET_PIECE

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        super().__init__(sock.fileno(), sock.fileno())
        self._socket = sock
        self._hangs_up = _asking(sock.fileno(), 0)  # hangups and errors are told unasked
        self._moved = asyncio.get_running_loop().time()

    def write(self, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        if not self._unsent:
            self._moved = now
        elif len(self._unsent) > MAX_UNSENT and now - self._moved > PATIENCE:
            self.give_up()
            self._unsent.clear()
            self._room_found()
            return
        super().write(data)

    def gone(self) -> bool:
        """One that has only sent its last (shut down one way) still reads its answers."""
        return self._broken or bool(self._hangs_up.poll(0))

    def _send(self) -> None:
        before = len(self._unsent)
        super()._send()
        if len(self._unsent) < before:
            self._moved = asyncio.get_running_loop().time()

    def close(self) -> None:
        """Hangs up; what was not sent is lost."""
        super().close()
        self._socket.close()


def _asking(descriptor: int, event: int) -> select.poll:
    """Its ``poll`` says whether a call would not wait; errors and hangups are for the call."""
    asking = select.poll()
    asking.register(descriptor, event)
    return asking


def _is_pipe(descriptor: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
