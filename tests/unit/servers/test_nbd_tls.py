"""Nothing counts that came before the encryption, and there is no way around it."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.objects.base import Objects
from monitor.engine.objects.tls import encrypting, serving
from monitor.engine.schema.objects import TlsCredsX509Options
from monitor.wire.nbd import layout as n
from tests.support import certificates
from tests.support.nbd import MemoryServer


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    """Credentials ``server`` and ``client``."""
    ca = certificates.authority()
    folder = certificates.folder(
        tmp_path / "keys", ca, server=certificates.server(ca), client=certificates.client(ca)
    )
    objects = Objects()
    for endpoint in ("server", "client"):
        options = TlsCredsX509Options(id=endpoint, dir=str(folder), endpoint=endpoint)  # type: ignore[arg-type]
        made = objects.prepare(options)
        made.complete(objects)
        objects.add(made)
    return objects


@pytest.fixture
def server(tmp_path: Path, objects: Objects) -> Iterator[MemoryServer]:
    server = MemoryServer(tmp_path / "s", MemoryDriver(data=bytes(1 << 20)))
    server.tls = serving(objects, "server")
    yield server
    server.close()


def connected(server: MemoryServer) -> socket.socket:
    """Greeted, and with our flags sent."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(str(server.path))
    exactly(sock, n.GREETING.size)
    sock.sendall(n.CLIENT_FLAGS.pack(n.FLAG_FIXED_NEWSTYLE | n.FLAG_NO_ZEROES))
    return sock


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        assert more, "hung up"
        data += more
    return data


def option(number: int, data: bytes = b"") -> bytes:
    return n.OPTION.pack(n.OPTION_MAGIC, number, len(data)) + data


def reply(sock: socket.socket) -> tuple[int, int]:
    """(option, reply) of the next one."""
    _, number, kind, length = n.OPTION_REPLY.unpack(exactly(sock, n.OPTION_REPLY.size))
    exactly(sock, length)
    return number, kind


GO = b"\0\0\0\4disk\0\0"


def test_what_was_sent_in_the_clear_is_not_answered_encrypted(
    server: MemoryServer, objects: Objects
) -> None:
    """CVE-2021-3716's kind: behind STARTTLS, in one piece with it, stands an option that somebody
    on the way has put there."""
    sock = connected(server)
    sock.sendall(option(n.OPT_STARTTLS) + option(n.OPT_GO, GO))
    assert reply(sock) == (n.OPT_STARTTLS, n.REP_ACK)
    context, hostname = encrypting(objects, "client", "localhost")
    with context.wrap_socket(sock, server_hostname=hostname) as encrypted:
        encrypted.sendall(option(n.OPT_LIST))
        assert reply(encrypted) == (n.OPT_LIST, n.REP_SERVER)
        assert reply(encrypted) == (n.OPT_LIST, n.REP_ACK)


@pytest.mark.parametrize("number", [n.OPT_GO, n.OPT_INFO, n.OPT_LIST, n.OPT_STRUCTURED_REPLY])
def test_nothing_is_told_in_the_clear(server: MemoryServer, number: int) -> None:
    with connected(server) as sock:
        sock.sendall(option(number, GO if number in (n.OPT_GO, n.OPT_INFO) else b""))
        assert reply(sock) == (number, n.REP_ERR_TLS_REQD)


def test_the_old_way_in_is_shut(server: MemoryServer) -> None:
    with connected(server) as sock:
        sock.sendall(option(n.OPT_EXPORT_NAME, b"disk"))
        assert sock.recv(1) == b""


def test_who_sends_no_tls_at_all_ends_alone(server: MemoryServer, objects: Objects) -> None:
    with connected(server) as sock:
        sock.sendall(option(n.OPT_STARTTLS))
        assert reply(sock) == (n.OPT_STARTTLS, n.REP_ACK)
        sock.sendall(option(n.OPT_GO, GO))  # no TLS record
        with contextlib.suppress(ConnectionResetError):  # the server has left some of it unread
            while sock.recv(100):
                continue
    sock = connected(server)
    sock.sendall(option(n.OPT_STARTTLS))
    assert reply(sock) == (n.OPT_STARTTLS, n.REP_ACK)
    context, _ = encrypting(objects, "client", None)
    with context.wrap_socket(sock) as encrypted:
        encrypted.sendall(option(n.OPT_GO, GO))
        assert reply(encrypted)[0] == n.OPT_GO


def test_an_old_protocol_is_refused(server: MemoryServer) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLS"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with connected(server) as sock:
        sock.sendall(option(n.OPT_STARTTLS))
        assert reply(sock) == (n.OPT_STARTTLS, n.REP_ACK)
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(sock)
