"""Exports in the hands of other people's NBD clients."""

from __future__ import annotations

import filecmp
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import tools
from tests.support.served import Served


class Server(Served):
    """A monitor that exports ``disk`` (qcow2 on a base) and ``plain`` (raw) on ``socket``."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "nbd.sock"
        super().__init__(
            folder,
            ("--blockdev", "qcow2,node-name=disk,file.driver=file,file.filename=disk.qcow2"),
            ("--blockdev", "raw,node-name=plain,file.driver=file,file.filename=plain.img"),
            ("--nbd-server", f"addr.type=unix,addr.path={self.socket}"),
            ("--export", "nbd,id=disk,node-name=disk,writable=on,allocation-depth=on"),
            ("--export", "nbd,id=plain,node-name=plain,writable=on,description=bytes"),
        )

    def uri(self, name: str) -> str:
        return f"nbd+unix:///{name}?socket={self.socket}"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of a server, made once: each test has copies."""
    tools.need("qemu-img", "qemu-io", "nbdinfo", "nbdcopy", "fio")
    folder = tmp_path_factory.mktemp("images")
    for command in (
        "qemu-img create -q -f qcow2 base.qcow2 16M",
        "qemu-io -f qcow2 -c 'write -q -P 1 0 4M' base.qcow2",
        "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 disk.qcow2",
        "qemu-io -f qcow2 -c 'write -q -P 2 2M 4M' -c 'write -q -z 8M 1M' disk.qcow2",
        "qemu-img create -q -f raw plain.img 16M",
        "qemu-io -f raw -c 'write -q -P 3 1M 1M' plain.img",
    ):
        subprocess.run(command, shell=True, cwd=folder, check=True, timeout=30)
    return folder


@pytest.fixture
def server(images: Path, tmp_path: Path) -> Iterator[Server]:
    for image in ("base.qcow2", "disk.qcow2", "plain.img"):
        tools.run("cp", "--sparse=always", images / image, tmp_path)
    server = Server(tmp_path)
    yield server
    server.close()
    for image in ("disk.qcow2", "base.qcow2"):
        tools.run("qemu-img", "check", tmp_path / image)


def test_it_introduces_itself(server: Server) -> None:
    listed = json.loads(tools.run("nbdinfo", "--json", "--list", server.uri("")))
    exports = {export["export-name"]: export for export in listed["exports"]}
    assert set(exports) == {"disk", "plain"}
    assert exports["plain"]["description"] == "bytes"
    assert exports["disk"]["export-size"] == 16 << 20
    assert exports["disk"]["contexts"] == ["base:allocation", "qemu:allocation-depth"]
    for flag in ("can_cache", "can_df", "can_fast_zero", "can_flush", "can_fua", "can_trim"):
        assert exports["disk"][flag] is True, flag


def test_allocation_is_told_through_the_chain(server: Server) -> None:
    def runs(*options: str) -> list[tuple[int, int, int]]:
        found = json.loads(tools.run("nbdinfo", "--json", *options, server.uri("disk")))
        return [(run["offset"] >> 20, run["length"] >> 20, run["type"]) for run in found]

    assert runs("--map") == [(0, 6, 0), (6, 10, 3)]
    depth = runs("--map=qemu:allocation-depth")
    assert depth == [(0, 2, 2), (2, 4, 1), (6, 2, 0), (8, 1, 1), (9, 7, 0)]


def test_dirty_bitmaps_are_told(server: Server) -> None:
    """What a backup tool does: a bitmap, an export that tells it, the dirty parts fetched."""
    server.do("block-dirty-bitmap-add", node="disk", name="b", granularity=65536)
    tools.run(
        *("qemu-io", "-f", "raw", server.uri("disk")),
        *("-c", "write 1M 100k", "-c", "write -z 3M 1M"),
    )
    added = server.do(
        "block-export-add",
        **{"type": "nbd", "id": "b", "node-name": "disk", "writable": True, "bitmaps": ["b"]},
        name="with-bitmap",
    )
    assert added == {}
    refused = server.do("block-dirty-bitmap-remove", node="disk", name="b")
    assert "is currently in use by another operation" in refused["error"]["desc"]
    found = json.loads(
        tools.run("nbdinfo", "--json", "--map=qemu:dirty-bitmap:b", server.uri("with-bitmap"))
    )
    dirty = [(run["offset"], run["length"]) for run in found if run["type"] == 1]
    assert dirty == [(1 << 20, 128 << 10), (3 << 20, 1 << 20)]
    assert server.do("block-export-del", id="b") == {}
    assert server.do("block-dirty-bitmap-remove", node="disk", name="b") == {}


@pytest.mark.parametrize(("name", "image"), [("disk", "disk.qcow2"), ("plain", "plain.img")])
def test_qemu_reads_what_the_image_holds(
    server: Server, tmp_path: Path, name: str, image: str
) -> None:
    """Once the server is done with it: images are locked while it is not."""
    tools.run("qemu-img", "convert", "-O", "raw", server.uri(name), tmp_path / "copy.raw")
    tools.run("nbdcopy", server.uri(name), tmp_path / "copy2.raw")
    server.do("nbd-server-stop")
    server.do("blockdev-del", **{"node-name": name})
    for copy in ("copy.raw", "copy2.raw"):
        tools.run("qemu-img", "compare", "-F", "raw", tmp_path / image, tmp_path / copy)


def test_long_reads_of_a_plain_file_are_what_it_holds(server: Server, tmp_path: Path) -> None:
    """They go through a pipe, uncopied; holes, the end and what lies between included."""
    tools.run(
        *("qemu-io", "-f", "raw", server.uri("plain")),
        *("-c", "write -P 9 5M 3000k", "-c", "write -P 8 7000001 1", "-c", "flush"),
    )
    for requests in (256 << 10, 1 << 20, 8 << 20, 32 << 20):
        options = (f"--request-size={requests}", "--connections=1")
        tools.run("nbdcopy", *options, server.uri("plain"), tmp_path / f"copy-{requests}")
    server.do("nbd-server-stop")
    server.do("blockdev-del", **{"node-name": "plain"})
    for requests in (256 << 10, 1 << 20, 8 << 20, 32 << 20):
        copy = tmp_path / f"copy-{requests}"
        assert copy.read_bytes() == (tmp_path / "plain.img").read_bytes(), requests


def test_qemu_io_writes_zeroes_and_discards(server: Server) -> None:
    said = tools.run(
        *("qemu-io", "-f", "raw", server.uri("disk")),
        *("-c", "write -P 7 5M 1M", "-c", "write -f -P 8 511 2000", "-c", "write -z 5M 64k"),
        *("-c", "discard 6M 1M", "-c", "flush", "-c", "read -P 8 511 2000"),
        *("-c", "read -P 0 5M 64k", "-c", "read -P 7 5184k 900k", "-c", "read -P 1 4k 1M"),
    )
    assert "failed" not in said


@pytest.mark.parametrize("depth", [8, 32])
@pytest.mark.parametrize("name", ["disk", "plain"])
def test_fio_finds_what_it_wrote(server: Server, tmp_path: Path, name: str, depth: int) -> None:
    said = tools.run(
        *("fio", "--name=x", "--ioengine=nbd", f"--uri={server.uri(name)}", "--rw=randrw"),
        *("--bsrange=512-128k", "--size=12m", f"--iodepth={depth}", "--verify=crc32c"),
        *("--verify_state_save=0", f"--aux-path={tmp_path}", "--verify_fatal=1"),
    )
    assert "err= 0" in said


def test_many_connections_see_one_disk(server: Server, tmp_path: Path) -> None:
    """A flush on one covers the writes of all (multi-conn): nbdcopy uses four of them."""
    pattern = tmp_path / "pattern.raw"
    pattern.write_bytes(bytes(range(256)) * (16 << 12))
    tools.run("nbdcopy", "--flush", "--connections=4", pattern, server.uri("disk"))
    tools.run("nbdcopy", server.uri("disk"), tmp_path / "back.raw")
    assert (tmp_path / "back.raw").read_bytes() == pattern.read_bytes()


class Client:
    """qemu-io on an export, connected, with one read done."""

    def __init__(self, uri: str) -> None:
        command = ["qemu-io", "-f", "raw", uri]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin
        assert self._process.stdout
        print("read 0 512", file=self._process.stdin, flush=True)
        while "ops" not in self._process.stdout.readline():
            continue

    def reads_once_more(self) -> str:
        """What it says to that; it ends then."""
        return self._process.communicate("read 0 512\nquit\n", timeout=20)[0]


def test_a_client_that_is_there_keeps_its_export_from_going(server: Server) -> None:
    client = Client(server.uri("plain"))
    refused = server.do("block-export-del", id="plain")
    assert refused["error"]["desc"] == "export 'plain' still in use"
    assert server.do("block-export-del", id="plain", mode="hard") == {}
    assert "error" in client.reads_once_more()
    tools.fails("nbdinfo", server.uri("plain"))
    tools.run("nbdinfo", server.uri("disk"))


def test_the_server_stops_under_its_clients(server: Server) -> None:
    clients = [Client(server.uri(name)) for name in ("disk", "plain")]
    assert server.do("nbd-server-stop") == {}
    assert server.do("query-block-exports") == []
    for client in clients:
        assert "error" in client.reads_once_more()
    address = {"type": "unix", "data": {"path": str(server.socket)}}
    assert server.do("nbd-server-start", addr=address) == {}
    assert server.do("nbd-server-add", device="plain") == {}
    tools.run("nbdinfo", server.uri("plain"))


def test_fleecing(server: Server, tmp_path: Path) -> None:
    """A reader sees the disk of one instant, through an image that keeps what is overwritten since;
    then all of it is taken down in order."""
    tools.run("nbdcopy", server.uri("disk"), tmp_path / "then.raw")
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "kept.qcow2", "16M")
    file = {"driver": "file", "filename": str(tmp_path / "kept.qcow2")}
    kept = {"driver": "qcow2", "node-name": "kept", "file": file, "backing": "disk"}
    assert server.do("blockdev-add", **kept) == {}
    backup = {"job-id": "b", "device": "disk", "target": "kept", "sync": "none"}
    assert server.do("blockdev-backup", **backup) == {}
    export = {"type": "nbd", "id": "then", "node-name": "kept"}
    assert server.do("block-export-add", **export, name="then") == {}
    for at in ("0", "3M", "7M", "8M"):
        write = f"write -P 9 {at} 1M"
        tools.run("qemu-io", "-f", "raw", server.uri("disk"), "-c", write)
        tools.run("nbdcopy", server.uri("then"), tmp_path / "seen.raw")
        assert filecmp.cmp(tmp_path / "then.raw", tmp_path / "seen.raw", shallow=False)
    assert "error" in server.do("blockdev-del", **{"node-name": "kept"})
    assert server.do("block-export-del", id="then") == {}
    assert server.do("job-cancel", id="b") == {}
    server.wait("JOB_STATUS_CHANGE", id="b", status="null")
    assert server.do("blockdev-del", **{"node-name": "kept"}) == {}
    said = tools.run("qemu-io", "-f", "raw", server.uri("disk"), "-c", "read -P 9 0 1M")
    assert "failed" not in said


def test_nbdsh(server: Server) -> None:
    """libnbd's shell, which runs on the system's Python."""
    tools.need("nbdsh")
    said = subprocess.run(
        ["nbdsh", "-u", server.uri("plain"), "-c", "h.pwrite(b'hello', 7)", "-c",
         "print(bytes(h.pread(5, 7)), h.get_size(), h.can_multi_conn())"],
        capture_output=True, text=True, timeout=30, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert said.stdout == f"b'hello' {16 << 20} True\n", said.stderr


def test_nbdfuse(server: Server, tmp_path: Path) -> None:
    """libnbd's file on an export, read by a program that knows nothing of NBD."""
    tools.need("nbdfuse", "fusermount3")
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    read = f"cmp -n 1048576 -i 1048576:0 {mountpoint}/nbd {tmp_path}/expected"
    (tmp_path / "expected").write_bytes(bytes([3]) * (1 << 20))
    process = subprocess.Popen(["nbdfuse", "-P", tmp_path / "pid", mountpoint, server.uri("plain")])
    try:
        while not (tmp_path / "pid").exists():
            assert process.poll() is None
        subprocess.run(read.split(), check=True, timeout=30)
    finally:
        subprocess.run(["fusermount3", "-u", mountpoint], check=True, timeout=30)
        process.wait(30)
