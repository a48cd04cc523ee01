"""Listening sockets, made so that nobody gets in who should not.

A unix socket is its owner's alone (0600) from its first moment. Where its file exists it is
replaced only if it is a socket and nobody listens there; the folder is locked meanwhile, so that
of two servers that begin at once one is refused.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from monitor.addresses import Found, resolve
from monitor.engine.errors import RequestError, host_failure

BACKLOG: Final = 128
MAX_PATH: Final = 107
"""Bytes of a unix socket's path (sockaddr_un holds 108, the last one being zero)."""


class PathTooLong(RequestError):
    template = "UNIX socket path '{path}' is too long"
    hint = "Path must be less than 108 bytes"
    path: str


def listen_unix(path: str) -> socket.socket:
    """A socket that listens at ``path``. Raises RequestError."""
    if len(os.fsencode(path)) > MAX_PATH:
        raise PathTooLong(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _locked(os.path.dirname(path) or "."):
            _make_way(path)
            os.fchmod(sock.fileno(), 0o600)  # what bind gives the file, less the umask
            sock.bind(path)
            sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise host_failure(f"Failed to bind socket to {path}", error) from error
    return sock


def listen_abstract(name: str, *, tight: bool = True) -> socket.socket:
    """A socket that listens at a name of the kernel's, which every user of the machine may use.
    Not ``tight``: the name is filled up with zero bytes. Raises RequestError."""
    if len(os.fsencode(name)) > MAX_PATH:
        raise PathTooLong(name)
    address = b"\0" + os.fsencode(name)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(address if tight else address.ljust(MAX_PATH + 1, b"\0"))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise host_failure(f"Failed to bind socket to {name}", error) from error
    return sock


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make_way(path: str) -> None:
    """Removes a socket that nobody listens at. Raises OSError (EADDRINUSE) for what must stay."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode) or _answers(path):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    os.unlink(path)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # its queue is full, or it is not ours to judge
        return True


def listen_inet(
    host: str, port: str, *, to: int | None = None, ipv4: bool | None = None,
    ipv6: bool | None = None,
) -> list[socket.socket]:  # fmt: skip
    """Sockets that listen at every address of ``host`` ("" for any), on ``port`` or, when it is
    taken, one of those up to ``to``. Blocks for a name's look-up. Raises RequestError."""
    found = resolve(host, port, ipv4=ipv4, ipv6=ipv6, listen=True)
    first = int(found[0][4][1])
    failure: OSError | None = None
    for number in range(first, max(first, to or 0) + 1):
        try:
            return _listen_all(found, number)
        except OSError as error:
            failure = error
            if error.errno != errno.EADDRINUSE:
                break
    assert failure is not None
    raise host_failure("Failed to find an available port", failure) from failure


def _listen_all(found: Sequence[Found], port: int) -> list[socket.socket]:
    """One socket an address; a second address takes the port that the first was given."""
    listeners: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            listeners.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], port, *address[2:]))
            port = sock.getsockname()[1]
        for sock in listeners:
            sock.listen(BACKLOG)
    except OSError:
        for sock in listeners:
            sock.close()
        raise
    return listeners
