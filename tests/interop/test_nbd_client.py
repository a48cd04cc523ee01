"""The NBD driver on other people's servers: qemu-nbd, nbdkit, and beside qemu-storage-daemon."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import tools
from tests.support.side_by_side import OURS, QSD, comparable, converse

SIZE = 16 << 20


@pytest.fixture
def qemu_nbd(tmp_path: Path) -> Iterator[str]:
    """An export of a qcow2 image on a base; its URI. The image is checked when all is done."""
    tools.need("qemu-nbd", "qemu-img", "qemu-io")
    for command in (
        "qemu-img create -q -f qcow2 base.qcow2 16M",
        "qemu-io -f qcow2 -c 'write -q -P 1 0 4M' base.qcow2",
        "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 disk.qcow2",
        "qemu-io -f qcow2 -c 'write -q -P 2 2M 4M' disk.qcow2",
    ):
        subprocess.run(command, shell=True, cwd=tmp_path, check=True, timeout=30)
    socket, pid = tmp_path / "qemu.sock", tmp_path / "pid"
    server = ("qemu-nbd", "--fork", "-t", "-e", "8", "-x", "disk", "-f", "qcow2")
    tools.run(*server, "-k", socket, f"--pid-file={pid}", tmp_path / "disk.qcow2")
    yield f"nbd+unix:///disk?socket={socket}"
    subprocess.run(["kill", pid.read_text().strip()], check=True)


def test_reading_writing_mapping(qemu_nbd: str, tmp_path: Path) -> None:
    said = tools.blkmon(
        f"drive_add 0 if=none,id=d,format=raw,file={qemu_nbd}",
        'qemu-io d "read -P 1 0 2M"',
        'qemu-io d "read -P 2 2M 4M"',
        'qemu-io d "write -P 3 511 3000"',
        'qemu-io d "read -P 3 511 3000"',
        'qemu-io d "write -P 4 8M 4M"',
        'qemu-io d "write -z 9M 1M"',
        'qemu-io d "discard 10M 1M"',
        'qemu-io d "flush"',
        'qemu-io d "map"',
    )
    assert "failed" not in said
    assert "9 MiB (0x900000) bytes     allocated" not in said  # zeroes lie within
    back = tools.run(
        *("qemu-io", "-f", "raw", qemu_nbd, "-c", "read -P 3 511 3000", "-c", "read -P 4 8M 1M"),
        *("-c", "read -P 0 9M 1M", "-c", "read -P 4 11M 1M"),
    )
    assert "failed" not in back


def test_the_node_is_described_as_qemu_describes_it(qemu_nbd: str, tmp_path: Path) -> None:
    socket = qemu_nbd.partition("=")[2]
    server = {"type": "unix", "path": socket}
    options = {"driver": "nbd", "node-name": "n", "server": server, "export": "disk"}
    requests: list[dict[str, Any]] = [
        {"execute": "blockdev-add", "arguments": {**options, "export": "nothing"}},
        {"execute": "blockdev-add", "arguments": options},
        {"execute": "blockdev-add", "arguments": {**options, "node-name": "r", "read-only": True}},
        {"execute": "query-named-block-nodes", "arguments": {"flat": True}},
        {"execute": "block_resize", "arguments": {"node-name": "r", "size": 512}},
        {"execute": "block_resize", "arguments": {"node-name": "n", "size": 32 << 20}},
        {"execute": "blockdev-del", "arguments": {"node-name": "r"}},
    ]
    theirs = converse(QSD, tmp_path, requests)
    mine = converse(OURS, tmp_path, requests)
    assert [comparable(reply) for reply in mine.replies] == [
        comparable(reply) for reply in theirs.replies
    ]


def test_a_qcow2_image_inside_an_export(tmp_path: Path) -> None:
    """A format on a protocol that is no file: the image grows no further than its export."""
    tools.need("qemu-nbd", "qemu-img", "qemu-io")
    image, socket, pid = tmp_path / "d.qcow2", tmp_path / "s", tmp_path / "pid"
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", image, "16M")
    with image.open("r+b") as file:
        file.truncate(24 << 20)
    tools.run("qemu-nbd", "--fork", "-t", "-f", "raw", "-k", socket, f"--pid-file={pid}", image)
    try:
        said = tools.blkmon(
            f"drive_add 0 if=none,id=d,format=qcow2,file=nbd+unix://?socket={socket}",
            'qemu-io d "write -P 5 1M 12M"',
            'qemu-io d "read -P 5 1M 12M"',
        )
        assert "failed" not in said
    finally:
        subprocess.run(["kill", pid.read_text().strip()], check=True)
    tools.run("qemu-img", "check", image)
    tools.run("qemu-io", "-r", "-f", "qcow2", "-U", "-c", "read -P 5 1M 12M", image)


@pytest.mark.parametrize(
    "arguments",
    [
        ("memory", "size=16M"),
        ("--filter=blocksize-policy", "memory", "size=16M", "blocksize-minimum=4096",
         "blocksize-maximum=65536", "blocksize-error-policy=error"),
        ("--filter=nozero", "--filter=nocache", "memory", "size=16M", "zeromode=none"),
        ("--no-sr", "memory", "size=16M"),
    ],
    ids=["plain", "blocks", "no zeroes", "simple replies"],
)  # fmt: skip
def test_nbdkit(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    tools.need("nbdkit")
    socket = tmp_path / "kit.sock"
    disk = f"drive_add 0 if=none,id=d,format=raw,file=nbd+unix://?socket={socket}"
    script = tmp_path / "script"
    requests = (
        *("write -P 7 511 70000", "read -P 7 511 70000", "read -P 0 0 511", "write -P 8 1M 8M"),
        *("write -z 2M 1000", "read -P 0 2M 1000", "read -P 8 2098152 1M", "discard 3M 5000"),
        *("flush", "map"),
    )
    script.write_text("\n".join([disk, *(f'qemu-io d "{request}"' for request in requests)]))
    run = f"{sys.executable} -m monitor {script}"
    said = tools.run("nbdkit", "-U", socket, *arguments, "--run", run)
    assert "failed" not in said
    assert said.count(" 1 ops") == 8


def test_our_client_on_our_server(tmp_path: Path) -> None:
    """One process serves, another has its disk there, and tells how it is laid out."""
    tools.need("qemu-img", "qemu-io")
    image, socket = tmp_path / "d.qcow2", tmp_path / "s.sock"
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", image, "16M")
    tools.run("qemu-io", "-f", "qcow2", "-c", "write -q -P 9 1M 3M", image)
    client = tmp_path / "client"
    client.write_text(
        f"drive_add 0 if=none,id=d,format=raw,file=nbd+unix:///d?socket={socket}\n"
        'qemu-io d "read -P 9 1M 3M"\nqemu-io d "write -P 1 8M 1M"\n'
    )
    server = [
        *(sys.executable, "-m", "monitor", "--qmp", "stdio"),
        *("--blockdev", f"qcow2,node-name=n,file.driver=file,file.filename={image}"),
        *("--nbd-server", f"addr.type=unix,addr.path={socket}"),
        *("--export", "nbd,id=d,node-name=n,name=d,writable=on"),
    ]
    with subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert "QMP" in json.loads(process.stdout.readline())
        said = tools.run(sys.executable, "-m", "monitor", client)
        process.communicate(timeout=20)
    assert "failed" not in said
    tools.run("qemu-img", "check", image)
    assert "failed" not in tools.run("qemu-io", "-f", "qcow2", "-c", "read -P 1 8M 1M", image)
