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
         "block-dirty-bitmap-remove node=disk name=", "info block ", "loadvm ")  # fmt: skip


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


def _offered(bench: Bench) -> set[tuple[str, str]]:
    """Names with what is said beside them."""
    found = [each for typed in TYPED for each in suggest(typed, bench.engine)]
    return {(each.text, each.meta) for each in found if isinstance(each, Candidate)}


def _disk_touched(*arguments: Any, **more: Any) -> Any:
    raise AssertionError("a key has asked the host's disk")
