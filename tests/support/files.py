"""Files opened by the `file` driver without a graph, and the locks that hold them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from monitor.engine.drivers.base import OpenContext, OpenFlags
from monitor.engine.drivers.file.driver import FileDriver
from monitor.engine.schema.blockdev import BlockdevOptionsFile


def open_file(
    path: str | Path, *, options: dict[str, Any] | None = None, **flags: bool
) -> FileDriver:
    """``path`` open with ``flags`` (fields of OpenFlags) and further ``options`` of the driver."""
    driver = FileDriver()
    chosen = BlockdevOptionsFile(filename=str(path), **(options or {}))
    driver.open(OpenContext(chosen, OpenFlags(**flags), "node", {}))
    return driver


def use(driver: FileDriver, taken: int, shared: int) -> None:
    """Takes permissions as a graph's transaction does."""
    change = driver.check_permissions(taken, shared)
    if change is not None:
        change.commit()


def locked_bytes(path: str | Path) -> set[int]:
    """The bytes of ``path`` on which anybody holds a lock, from /proc/locks."""
    inode = str(os.stat(path).st_ino)
    held: set[int] = set()
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] != "->" and words[5].rpartition(":")[2] == inode:
            held.update(range(int(words[6]), int(words[7]) + 1))
    return held
