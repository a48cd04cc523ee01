"""A key never waits for a disk: what is offered, and said beside it, is in memory."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.drivers.file.driver import FileDriver
from monitor.engine.drivers.qcow2.driver import Qcow2Driver
from monitor.language.completion import Candidate, suggest
from tests.support.bench import Bench

CALLS = ("fstat", "stat", "lstat", "open", "lseek", "pread", "preadv", "pwrite", "fdatasync")
TYPED = ("drive_del ", "blockdev-del node-name=", "qemu-io d", "block_stream ", "savevm ",
         "block-dirty-bitmap-remove node=disk name=", "info block ", "loadvm ",
         "block_stream d0 1M ", "block-commit device=d0 top-node=")  # fmt: skip


def test_no_key_waits_for_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> set[tuple[str, str]]:
        bench = Bench()
        created = {"driver": "qcow2", "file": "raw", "size": 1 << 20}
        file = {"driver": "file", "filename": str(tmp_path / "a.qcow2")}
        (tmp_path / "a.qcow2").touch()
        await bench.do("blockdev-add", node_name="raw", **file)
        await bench.do("blockdev-create", job_id="c", options=created)
        await bench.engine.job_ended("c")
        await bench.do("job-dismiss", id="c")
        await bench.do("blockdev-del", node_name="raw")
        await bench.open(tmp_path / "a.qcow2", "qcow2")
        await bench.do("block-dirty-bitmap-add", node="disk", name="b0")
        offered = _offered(bench)  # once, so that all code is loaded
        with monkeypatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, _disk_touched)
            for driver in (FileDriver, Qcow2Driver):
                for operation in ("read", "write", "map", "flush", "allocated_bytes"):
                    patch.setattr(driver, operation, _disk_touched)
            assert _offered(bench) == offered
        await bench.engine.shut_down()
        return offered

    assert {"disk", "d0", "b0"} <= {name for name, _ in asyncio.run(scenario())}


def test_layers_are_those_below_the_device_on_the_line(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench()
        for name in ("low", "other"):
            (tmp_path / name).write_bytes(bytes(1 << 20))
            await bench.do("x-blkmon-drive-add", options=_drive(name, tmp_path / name))
        for name in ("mid", "top"):
            file = str(tmp_path / name)
            await bench.do(
                "blockdev-snapshot-sync",
                device="low",
                snapshot_file=file,
                snapshot_node_name=f"n-{name}",
            )

        def offered(line: str) -> list[str]:
            return [each.text for each in suggest(line, bench.engine) if each.kind != "key"]

        files = {str(tmp_path / "mid"), str(tmp_path / "low")}
        for line in ("block-commit device=low top=", "block-stream device=low base="):
            assert set(offered(line)) == files
        assert set(offered("block_stream low 0 ")) == files
        assert set(offered("block-commit device=low base-node=")) == {"n-mid", "n-low"}
        assert set(offered("block-stream device=n-mid bottom=")) == {"n-low"}
        assert offered("block_stream other 0 ") == []
        await bench.engine.shut_down()

    asyncio.run(scenario())


def _drive(name: str, path: Path) -> str:
    return f"if=none,id={name},node-name=n-{name},file={path},format=raw"


def _offered(bench: Bench) -> set[tuple[str, str]]:
    """Names with what is said beside them."""
    found = [each for typed in TYPED for each in suggest(typed, bench.engine)]
    return {(each.text, each.meta) for each in found if isinstance(each, Candidate)}


def _disk_touched(*arguments: Any, **more: Any) -> Any:
    raise AssertionError("a key has asked the host's disk")
