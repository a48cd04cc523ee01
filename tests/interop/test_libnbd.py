"""Our server under libnbd's Python binding, which is Debian's and runs in Debian's Python."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import tools
from tests.support.served import Served

PYTHON = "/usr/bin/python3"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    tools.need("qemu-img")
    if subprocess.run([PYTHON, "-c", "import nbd"], capture_output=True, timeout=30).returncode:
        pytest.skip("not installed: libnbd's Python binding (apt install python3-libnbd)")
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "disk.qcow2", "16M")
    served = Served(
        tmp_path,
        ("--blockdev", "qcow2,node-name=disk,file.driver=file,file.filename=disk.qcow2"),
        ("--nbd-server", f"addr.type=unix,addr.path={tmp_path / 's'}"),
        ("--export", "nbd,id=disk,node-name=disk,writable=on"),
        ("--export", "nbd,id=ro,name=ro,node-name=disk"),
    )
    yield served
    served.close()
    tools.run("qemu-img", "check", tmp_path / "disk.qcow2")


def run(served: Served, script: str) -> str:
    """``script`` with ``connect(export)``; it must succeed."""
    head = f"""
import nbd
def connect(name="disk", contexts=()):
    h = nbd.NBD()
    for context in contexts:
        h.add_meta_context(context)
    h.set_export_name(name)
    h.connect_unix({str(served.folder / "s")!r})
    return h
def refused(call, *args, **more):
    try:
        call(*args, **more)
    except nbd.Error as error:
        return error.errno
    raise AssertionError("not refused")
"""
    return tools.run(PYTHON, "-c", head + script)


def test_flush_on_one_connection_covers_the_others(served: Served) -> None:
    """Multi-conn: what one has written, and another has flushed, a third one reads."""
    run(
        served,
        """
a, b, c = connect(), connect(), connect()
assert a.can_multi_conn() and a.get_structured_replies_negotiated()
a.pwrite(b"a" * 65536, 65536)
b.pwrite(b"b" * 512, 100)
c.flush()
assert c.pread(65536, 65536) == b"a" * 65536
assert a.pread(512, 100) == b"b" * 512
for h in a, b, c:
    h.shutdown()
""",
    )
    served.do("nbd-server-stop")
    served.do("blockdev-del", **{"node-name": "disk"})
    said = tools.run(
        *("qemu-io", "-r", "-f", "qcow2", served.folder / "disk.qcow2"),
        *("-c", "read -P 97 64k 64k", "-c", "read -P 98 100 512"),
    )
    assert "failed" not in said


def test_requests_overtake_each_other(served: Served) -> None:
    """64 of them under way on one connection, of all kinds, answered as they are done."""
    run(
        served,
        """
h = connect()
done, room = [], []
for i in range(64):
    def note(error, i=i):
        done.append((i, error.value))
        return 1
    if i % 4 == 0:
        h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([i]) * 300000), i << 18, note)
    elif i % 4 == 1:
        h.aio_zero(1 << 16, i << 18, note)
    elif i % 4 == 2:
        b = nbd.Buffer(512)
        room.append(b)
        h.aio_pread(b, i << 18, note)
    else:
        h.aio_flush(note)
while len(done) < 64:
    h.poll(-1)
assert {error for _, error in done} == {0}, done
for i in range(0, 64, 4):
    assert h.pread(1 << 18, i << 18) == bytes([i]) * (1 << 18), i
h.shutdown()
""",
    )


def test_what_is_refused_is_refused_alone(served: Served) -> None:
    """libnbd's own checks are off; the connection goes on after each."""
    run(
        served,
        """
h = connect()
h.set_strict_mode(0)
size = h.get_size()
assert refused(h.pread, 512, size) == "EINVAL"
assert refused(h.pwrite, b"x" * 512, size - 100) == "ENOSPC"
assert refused(h.zero, 512, size) == "ENOSPC"
assert refused(h.trim, 512, size) == "EINVAL"
assert refused(h.block_status, 512, 0, lambda *a: 0)  # not asked for
assert refused(h.pread, 512, 0, flags=1 << 9) == "EINVAL"
assert h.pread(512, 0) == bytes(512)
r = connect("ro")
r.set_strict_mode(0)
assert r.is_read_only()
assert refused(r.pwrite, b"x" * 512, 0) == "EPERM"
assert refused(r.zero, 512, 0) == "EPERM"
assert refused(r.trim, 512, 0) == "EPERM"
assert r.pread(512, 0) == bytes(512)
try:
    connect("nothing")
except nbd.Error as error:
    assert error.errno == "ENOENT"
else:
    raise AssertionError
""",
    )


def test_zeroes_fast_and_with_room(served: Served) -> None:
    run(
        served,
        """
def runs(h, offset, length):
    found = []
    h.block_status(length, offset, lambda context, at, entries, error: found.extend(entries))
    return [(found[i], found[i + 1]) for i in range(0, len(found), 2)]
h = connect(contexts=["base:allocation"])
h.pwrite(b"x" * (1 << 20), 0, nbd.CMD_FLAG_FUA)
h.zero(1 << 18, 1 << 18, nbd.CMD_FLAG_FAST_ZERO)
h.zero(1 << 18, 1 << 19, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
assert h.pread(3 << 18, 1 << 18) == bytes(1 << 19) + b"x" * (1 << 18)
h.trim(1 << 18, 3 << 18)
h.cache(1 << 20, 0)
kinds = runs(h, 0, 1 << 20)
assert sum(length for length, _ in kinds) <= 1 << 20 and kinds[0] == (1 << 18, 0), kinds
assert kinds[1][1] & nbd.STATE_ZERO
one = []
h.block_status(1 << 24, 0, lambda c, at, entries, e: one.extend(entries), nbd.CMD_FLAG_REQ_ONE)
assert one[:2] == [1 << 18, 0] and len(one) == 2
h.shutdown()
""",
    )


def test_the_server_stops_under_its_clients(served: Served) -> None:
    """Requests after that fail, and say so; nothing hangs."""
    client = subprocess.Popen(
        [
            PYTHON,
            "-c",
            f"""
import nbd, sys
h = nbd.NBD()
h.set_export_name("disk")
h.connect_unix({str(served.folder / "s")!r})
h.pread(512, 0)
print("in", flush=True)
sys.stdin.readline()
try:
    h.pread(512, 0)
except nbd.Error as error:
    print("out", flush=True)
""",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdout
    assert client.stdout.readline() == "in\n"
    assert served.do("nbd-server-stop") == {}
    assert served.do("query-block-exports") == []
    assert client.communicate("\n", timeout=20)[0] == "out\n"
