"""Disks on other processes' exports while jobs run: copied, lost and found again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import tools
from tests.support.qmp_cases.words import do
from tests.support.served import Served
from tests.support.side_by_side import QSD, converse

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _tools() -> None:
    tools.need("qemu-img", "qemu-io", "nbdcopy")


def image(path: Path, kind: str, *writes: str) -> Path:
    tools.run("qemu-img", "create", "-q", "-f", kind, path, "16M")
    for write in writes:
        tools.run("qemu-io", "-f", kind, "-c", f"write -q {write}", path)
    return path


def exporting(folder: Path, path: Path, kind: str = "raw") -> Served:
    """A process of ours that offers the image as ``disk`` at ``s``."""
    return Served(
        folder,
        ("--blockdev", f"{kind},node-name=disk,file.driver=file,file.filename={path}"),
        ("--nbd-server", f"addr.type=unix,addr.path={folder / 's'}"),
        ("--export", "nbd,id=disk,node-name=disk,writable=on"),
    )


def nbd_options(folder: Path, **more: Any) -> dict[str, Any]:
    server = {"type": "unix", "path": str(folder / "s")}
    return {"driver": "nbd", "node-name": "t", "server": server, "export": "disk", **more}


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Served]:
    path = image(tmp_path / "source.qcow2", "qcow2", "-P 1 0 9M", "-P 2 10M 3M", "-z 4M 1M")
    served = Served(
        tmp_path, ("--blockdev", f"qcow2,node-name=src,file.driver=file,file.filename={path}")
    )
    yield served
    served.close()


def same(folder: Path, copy: Path) -> None:
    tools.run(
        "qemu-img", "compare", "-f", "qcow2", "-F", "raw", "-U", folder / "source.qcow2", copy
    )


def test_a_mirror_to_another_process(source: Served, tmp_path: Path) -> None:
    """Completed, both disks are the same."""
    copy = image(tmp_path / "copy.raw", "raw", "-P 9 0 16M")
    target = exporting(tmp_path, copy)
    source.do("blockdev-add", **nbd_options(tmp_path))
    mirror = {"job-id": "m", "device": "src", "target": "t", "sync": "full"}
    assert source.do("blockdev-mirror", **mirror) == {}
    source.wait("BLOCK_JOB_READY", device="m")
    source.do("job-complete", id="m")
    assert "error" not in source.wait("BLOCK_JOB_COMPLETED", device="m")["data"]
    source.do("blockdev-del", **{"node-name": "t"})
    target.close()
    same(tmp_path, copy)


def begun(source: Served, folder: Path, delay: int) -> None:
    """A slow backup to the other process, some of which is done."""
    source.do("blockdev-add", **nbd_options(folder, **{"reconnect-delay": delay}))
    backup = {"job-id": "b", "device": "src", "target": "t", "sync": "full", "speed": 4 * MIB}
    assert source.do("blockdev-backup", **backup, **{"auto-dismiss": False}) == {}
    while not source.do("query-jobs")[0]["current-progress"]:
        continue


def test_a_server_killed_in_a_job_and_back_in_time(source: Served, tmp_path: Path) -> None:
    copy = image(tmp_path / "copy.raw", "raw")
    first = exporting(tmp_path, copy)
    begun(source, tmp_path, delay=60)
    first.kill()
    second = exporting(tmp_path, copy)
    source.do("block-job-set-speed", device="b", speed=0)
    assert "error" not in source.wait("BLOCK_JOB_COMPLETED", device="b")["data"]
    source.do("job-dismiss", id="b")
    source.do("blockdev-del", **{"node-name": "t"})
    second.close()
    same(tmp_path, copy)


def test_a_server_killed_in_a_job_and_not_back(source: Served, tmp_path: Path) -> None:
    """The job says so, the session goes on, and the node goes at once though it is still trying."""
    target = exporting(tmp_path, image(tmp_path / "copy.raw", "raw"))
    begun(source, tmp_path, delay=1)
    target.kill()
    source.do("block-job-set-speed", device="b", speed=0)
    told = source.wait("BLOCK_JOB_COMPLETED", device="b")["data"]
    assert told["error"] == "Input/output error"
    assert source.do("query-jobs")[0]["error"] == "Input/output error"
    source.do("job-dismiss", id="b")
    began = time.monotonic()
    assert source.do("blockdev-del", **{"node-name": "t"}) == {}
    assert time.monotonic() - began < 20
    assert source.do("query-block-jobs") == []


def test_qemus_daemon_mirrors_to_our_export(tmp_path: Path) -> None:
    path = image(tmp_path / "source.qcow2", "qcow2", "-P 1 0 9M", "-z 4M 1M")
    copy = image(tmp_path / "copy.raw", "raw", "-P 9 0 16M")
    target = exporting(tmp_path, copy)
    file = {"driver": "file", "filename": str(path)}
    session = converse(
        QSD,
        tmp_path,
        [
            do("blockdev-add", driver="qcow2", node_name="src", file=file),
            {"execute": "blockdev-add", "arguments": nbd_options(tmp_path)},
            do("blockdev-mirror", job_id="m", device="src", target="t", sync="full"),
            {"wait": "m", "until": "ready"},
            do("job-complete", id="m"),
            {"wait": "m", "until": "null"},
            do("blockdev-backup", job_id="b", device="src", target="t", sync="full"),
            {"wait": "b", "until": "null"},
        ],
    )
    assert all(reply == {"return": {}} for reply in session.replies[:-1]), session.replies
    target.close()
    same(tmp_path, copy)


def test_nbdkit_stands_between(source: Served, tmp_path: Path) -> None:
    """Its nbd plugin is a client of ours, and serves what it reads."""
    tools.need("nbdkit")
    copy = image(tmp_path / "disk.raw", "raw", "-P 1 1M 5M")
    target = exporting(tmp_path, copy)
    plugin = ("nbd", f"socket={tmp_path / 's'}", "export=disk", "shared=true")
    tools.run("nbdkit", "-U", "-", *plugin, "--run", f'nbdcopy "$uri" {tmp_path / "out.raw"}')
    target.close()
    tools.run("qemu-img", "compare", "-f", "raw", "-F", "raw", copy, tmp_path / "out.raw")
