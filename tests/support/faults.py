"""Requests of a job that fail in their turn, and what the images may be like afterwards."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.drivers import registry
from monitor.engine.drivers.base import OpenContext
from monitor.engine.drivers.blkdebug import BlkdebugDriver
from monitor.engine.drivers.blkdebug.rules import Rules
from tests.support import tools
from tests.support.children import MemoryChild
from tests.support.qcow2 import open_qcow2, read

CLUSTER = 64 << 10
KINDS = {
    "read": {"read", "block-status"},
    "write": {"write", "write-zeroes", "discard"},
    "flush": {"flush"},
}


class Nth(Rules):
    """The Nth request of a kind fails; with ``always`` all after it, until it is mended."""

    def __init__(self, kind: str, number: int, code: int, always: bool) -> None:
        super().__init__()
        self.failed = 0
        self._kinds = KINDS[kind]
        self._left = number
        self._code = code
        self._always = always
        self._count = threading.Lock()

    def check(self, offset: int, length: int, kind: Any) -> None:
        with self._count:
            if kind not in self._kinds or not self._code:
                return
            self._left -= 1
            if self._left > 0 or (self._left < 0 and not self._always):
                return
            self.failed += 1
        raise OSError(self._code, os.strerror(self._code))

    def mend(self) -> None:
        self._code = 0


@contextmanager
def making(new: Path, faults: Nth | None) -> Iterator[None]:
    """An image of this name is opened through blkdebug, and ``faults`` count from then on."""
    options, opened = registry.protocol_options, BlkdebugDriver.open

    def named(filename: str) -> dict[str, Any]:
        file = options(filename)
        return {"driver": "blkdebug", "image": file} if filename == str(new) else file

    def armed(driver: BlkdebugDriver, context: OpenContext) -> None:
        opened(driver, context)
        if faults is not None:
            driver.rules = faults

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "protocol_options", named)
        patch.setattr(BlkdebugDriver, "open", armed)
        yield


def look_at_new(folder: Path, name: str, *, failed: bool) -> None:
    """What a mirror has made: the disk, or an image that tells that it is incomplete."""
    new = folder / name
    if not new.exists():
        return
    image = open_qcow2(MemoryChild(new.read_bytes()), read_only=True)
    whole = image.unfinished() is None
    assert whole == (not failed)
    below = re.findall("[/](mid|top)\\b", image.backing_filename or "")[-1]
    rebase = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2"]  # it was through blkdebug
    tools.run(*rebase, "-b", folder / below, new)
    command = ["qemu-img", "check", "-q", new]
    assert subprocess.run(command, capture_output=True, timeout=20).returncode in (0, 3)
    if whole:
        tools.run("qemu-img", "compare", "-q", "-F", "raw", new, folder / "shown")


def look_at_target(folder: Path, before: bytes, shown: bytes, *, failed: bool) -> None:
    """An image that a job found: as it was, but for what a guest's write has a backup keep before
    the mark is put in; or the disk; or it tells that it is incomplete."""
    image = open_qcow2(MemoryChild((folder / "target").read_bytes()), read_only=True)
    if image.unfinished() is None:
        kept = before[:CLUSTER].ljust(len(before), b"\0")
        assert read(image) in ((bytes(len(before)), kept) if failed else (before, shown))
    else:
        assert failed
