"""One NBD client: its negotiation, then its requests, in a thread of its own.

Nobody waits for a client in a lane: what came is read before one is entered, and replies are sent
after it is left. A client that dies, stops reading or sends nonsense ends its own connection.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import socket
import threading
from typing import TYPE_CHECKING, Final, Protocol

from monitor.servers.nbd.helpers import Budget, ClientGone, Helpers
from monitor.servers.nbd.serving import Refusal, Serving, is_short
from monitor.wire.nbd import layout as n
from monitor.wire.nbd import transmission as t
from monitor.wire.nbd.handshake import ServerHandshake

if TYPE_CHECKING:
    import ssl

    from monitor.engine.api import Exported
    from monitor.wire.nbd.offers import Offers

INPUT: Final = 1 << 20
"""Bytes taken from the socket in one go; short requests are answered from there."""
OUTPUT: Final = 1 << 20
"""Room for the replies of one batch."""
REPLY: Final = 1 << 10
"""More than a short request's reply takes beside its data, errors included."""
BATCH: Final = 256
"""Short requests that are done in one stay in a lane."""
COLD: Final = 2048
"""Bytes that were read from a disk for a short request, on average of a batch, where the next ones
go to helpers, which wait for several at once."""
PATIENCE: Final = 16
"""Batches that go to helpers until one is tried again without."""


class Host(Protocol):
    """What a connection needs of its server."""

    offers: Offers
    tls: ssl.SSLContext | None
    handshake_seconds: float
    budget: Budget

    def export(self, name: str) -> Exported | None:
        """The export that is offered by that name now."""

    def ended(self, connection: Connection) -> None:
        """The connection's thread is about to end."""


class Connection:
    """A client on a connected socket."""

    def __init__(self, host: Host, sock: socket.socket) -> None:
        self._host = host
        self._sock = sock
        self._encrypted = False
        self._over = False
        self._sending = threading.Lock()
        self._thread = threading.Thread(target=self._main, name="nbd client", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def hang_up(self) -> None:
        """Ends the connection, from any thread; returns at once."""
        self._over = True
        with contextlib.suppress(OSError):
            # Not SSLSocket's, which would forget its keys while another thread uses them.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    # -- the thread --------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            with contextlib.suppress(OSError, t.ProtocolError, ClientGone):
                handshake = self._negotiated()
                if handshake is not None:
                    self._serve(handshake)
        finally:
            self.hang_up()
            self._sock.close()
            self._host.ended(self)

    def _negotiated(self) -> ServerHandshake | None:
        """The negotiation, within the time that there is for it; None when it leads nowhere."""
        handshake = ServerHandshake(self._host.offers, tls=self._host.tls is not None)
        deadline = threading.Timer(self._host.handshake_seconds, self.hang_up)
        deadline.daemon = True
        deadline.start()
        try:
            self.send(handshake.take())
            while not handshake.over:
                data = self._sock.recv(n.MAX_OPTION)
                if not data:
                    return None
                handshake.feed(data)
                self.send(handshake.take())
                if handshake.wants_tls:
                    self._encrypt()
                    handshake.tls_started()
        finally:
            deadline.cancel()
        return handshake if handshake.offer is not None else None

    def _encrypt(self) -> None:
        assert self._host.tls is not None
        sock = self._host.tls.wrap_socket(
            self._sock, server_side=True, do_handshake_on_connect=False
        )
        self._sock, self._encrypted = sock, True
        if self._over:  # told while neither socket could be shut
            raise ClientGone
        sock.do_handshake()

    def _serve(self, handshake: ServerHandshake) -> None:
        offer = handshake.offer
        assert offer is not None
        export = self._host.export(offer.name)
        if export is None or not export.enter(self.hang_up):
            return
        serving = Serving(export, offer, handshake.contexts, structured=handshake.structured)
        if not self._encrypted:
            serving.send_pipe = self.send_pipe
        try:
            budget = self._host.budget
            with Helpers(serving, self, budget, alone=self._encrypted) as helpers:
                _Requests(self, serving, helpers).run(handshake.rest)
        finally:
            export.leave(self.hang_up)

    # -- the socket --------------------------------------------------------------------------

    def receive(self, buffer: memoryview) -> int:
        """Some bytes, at least one; 0 at the end."""
        return self._sock.recv_into(buffer)

    def send(self, *buffers: bytes | memoryview) -> None:
        """Sends what belongs together, from any thread. Raises ClientGone."""
        with self._sending:
            try:
                if self._encrypted or len(buffers) == 1:
                    for buffer in buffers:
                        self._sock.sendall(buffer)
                    return
                left = self._sock.sendmsg(buffers)
                for buffer in buffers:
                    if left < len(buffer):
                        self._sock.sendall(memoryview(buffer)[left:])
                    left = max(0, left - len(buffer))
            except OSError as error:
                raise ClientGone from error

    def send_pipe(self, header: bytes, pipe: int, count: int) -> None:
        """Sends ``header`` and ``count`` bytes out of a pipe. Raises ClientGone."""
        with self._sending:
            try:
                self._sock.sendall(header, socket.MSG_MORE)
                while count:
                    count -= os.splice(pipe, self._sock.fileno(), count)
            except OSError as error:
                raise ClientGone from error


def bytes_from_disks() -> int:
    """What the calling thread has had to wait for so far; what was cached does not count."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_inblock * 512


class _Requests:
    """The requests of one client, from the first to the last."""

    def __init__(self, connection: Connection, serving: Serving, helpers: Helpers) -> None:
        self._connection = connection
        self._serving = serving
        self._helpers = helpers
        self._input = memoryview(mmap.mmap(-1, INPUT))
        self._start = self._end = 0  # what is in it
        self._output = memoryview(mmap.mmap(-1, OUTPUT))
        self._batch: list[tuple[t.NbdRequest, memoryview]] = []
        self._expected = 0
        """Bytes that the replies to the batch take at most."""
        self._slow = 0
        """Batches that still go to helpers."""

    def run(self, rest: bytes) -> None:
        """``rest`` has come already. Returns when the client disconnects; raises OSError,
        ProtocolError, ClientGone."""
        self._input[: len(rest)] = rest
        self._end = len(rest)
        self._lane = self._serving.export.lane()
        try:
            while self._take():
                left = self._end - self._start
                if self._start:
                    self._input[:left] = bytes(self._input[self._start : self._end])
                    self._start, self._end = 0, left
                count = self._connection.receive(self._input[self._end :])
                if not count:
                    return
                self._end += count
        finally:
            self._serving.export.drop_lane(self._lane)

    def _take(self) -> bool:
        """Does what has come as a whole. Whether there may come more."""
        while self._end - self._start >= n.REQUEST.size:
            request = t.read_request(self._input, self._start)
            body = self._start + n.REQUEST.size
            if request.type == n.CMD_DISC:
                self._finish_batch()
                return False
            size = request.length if request.type == n.CMD_WRITE else 0
            if not is_short(request):
                self._start = body
                self._finish_batch()
                self._long(request, size)
                continue
            if body + size > self._end:
                break
            self._start = body + size
            self._add(request, self._input[body : body + size])
        self._finish_batch()
        return True

    def _long(self, request: t.NbdRequest, size: int) -> None:
        """Hands a request to a helper, with its data."""
        if size > n.MAX_PAYLOAD:
            raise t.ProtocolError(f"len ({size}) is larger than max len ({n.MAX_PAYLOAD})")
        data = self._helpers.room(request)
        try:
            self._receive_into(data)
        except BaseException:
            self._helpers.forget(request)
            raise
        self._helpers.submit(request, data)

    def _receive_into(self, data: memoryview) -> None:
        here = min(len(data), self._end - self._start)
        data[:here] = self._input[self._start : self._start + here]
        self._start += here
        while here < len(data):
            count = self._connection.receive(data[here:])
            if not count:
                raise t.ProtocolError("the client ended in the middle of a request")
            here += count

    # -- a batch of short requests -----------------------------------------------------------

    def _add(self, request: t.NbdRequest, data: memoryview) -> None:
        expected = REPLY + (request.length if request.type == n.CMD_READ else 0)
        if len(self._batch) >= BATCH or self._expected + expected > OUTPUT:
            self._finish_batch()
        self._batch.append((request, data))
        self._expected += expected

    def _finish_batch(self) -> None:
        """Does the requests in one stay in the lane, and answers them in one go."""
        if not self._batch:
            return
        if self._slow and len(self._batch) > 1:
            self._slow -= 1
            for request, data in self._batch:
                room = self._helpers.room(request)
                room[:] = data
                self._helpers.submit(request, room)
        else:
            self._connection.send(self._output[: self._do_batch()])
        self._batch.clear()
        self._expected = 0

    def _do_batch(self) -> int:
        """How many bytes the replies are."""
        used = 0
        several = len(self._batch) > 1
        before = bytes_from_disks() if several else 0
        with self._lane:
            for request, data in self._batch:
                used += self._do(request, data, self._output[used:])
        if several and bytes_from_disks() - before >= COLD * len(self._batch):
            self._slow = PATIENCE
        return used

    def _do(self, request: t.NbdRequest, data: memoryview, out: memoryview) -> int:
        serving = self._serving
        try:
            serving.check(request)
            if request.type == n.CMD_READ:
                return serving.read_into(request, out)
            serving.write(request, data)
            reply = serving.success(request)
        except (OSError, Refusal) as error:
            reply = serving.failure(request, error)
        out[: len(reply)] = reply
        return len(reply)
