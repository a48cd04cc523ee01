"""Names of files for completion, listed by a thread: a folder's disk may not answer.

While one listing hangs no other is begun, and completion goes on without files.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from typing import NamedTuple

from monitor.commands.render import size_text
from monitor.engine.api import Engine

PATIENCE = 0.5
"""Seconds that a key waits for a folder."""

MOST = 1000
"""Files that are offered."""


class File(NamedTuple):
    """A path to be typed, with what is known of it: ("disks/a.qcow2", "197 KiB")."""

    path: str
    meta: str


def matching(prefix: str) -> list[File]:
    """Files whose path begins with ``prefix``, folders first (with a ``/``), in order of name.

    Hidden ones only when asked for by a dot. A folder that cannot be read has no files. Blocks.
    """
    folder, _, beginning = prefix.rpartition("/")
    folder += "/" if prefix.startswith("/") or folder else ""
    found: list[tuple[bool, File]] = []
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:
            for entry in entries:
                if not entry.name.startswith(beginning) or len(found) >= 10 * MOST:
                    continue
                if entry.name.startswith(".") and not beginning.startswith("."):
                    continue
                found.append(_described(folder, entry))
    except (OSError, ValueError):
        return []
    found.sort()
    return [file for _, file in found[:MOST]]


def _described(folder: str, entry: os.DirEntry[str]) -> tuple[bool, File]:
    path = folder + entry.name
    try:
        if entry.is_dir():
            return False, File(path + "/", "folder")
        if not entry.is_file():
            return True, File(path, "broken link" if entry.is_symlink() else "device or socket")
        return True, File(path, size_text(entry.stat().st_size))
    except OSError:
        return True, File(path, "cannot be looked at")


class Lister:
    """``matching`` without the wait."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._looking: tuple[str, asyncio.Future[list[File]]] | None = None

    async def matching(self, prefix: str) -> list[File]:
        """As the function; [] when the folder does not answer in time, or another is looked at. The
        same is looked at once, for all who ask meanwhile."""
        if self._looking is None:
            self._looking = prefix, self._look(prefix)
        beginning, answer = self._looking
        if beginning != prefix:
            return []
        try:
            return await asyncio.wait_for(asyncio.shield(answer), self._patience)
        except TimeoutError:
            return []

    def _look(self, prefix: str) -> asyncio.Future[list[File]]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[File]] = loop.create_future()

        def settle(found: list[File]) -> None:
            self._looking = None
            answer.set_result(found)

        def look() -> None:
            found = matching(prefix)
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, found)

        # A daemon, unlike an executor's thread: one that hangs does not keep the process.
        threading.Thread(target=look, name="files", daemon=True).start()
        return answer


async def nearest_file(path: str) -> str | None:
    """``did you mean`` the file of nearly that name in its folder; None for none, or when the
    folder does not answer in time. A folder and an ending that both have are no likeness."""
    from monitor.nearest import nearest

    folder, _, name = path.rpartition("/")
    prefix = f"{folder}/" if folder or path.startswith("/") else ""
    stem, ending = os.path.splitext(name)
    alike: dict[str, str] = {}
    others: dict[str, str] = {}
    for file in await Lister().matching(prefix + ("." if name.startswith(".") else "")):
        there = os.path.splitext(file.path[len(prefix) :])
        if ending and there[1] == ending:
            alike[there[0]] = file.path
        else:
            others["".join(there)] = file.path
    meant = alike.get(nearest(stem, alike) or "") or others.get(nearest(name, others) or "")
    return f"did you mean '{meant}'?" if meant else None


async def is_file(path: str) -> bool:
    """Whether the folder has it; False when that does not answer in time."""
    return any(found.path == path for found in await Lister().matching(path))


_LOCKED = re.compile(r"^Is another process using the image \[(.+)\]\?$")


async def opened_here(hint: str | None, engine: Engine) -> str | None:
    """Who has the image open for which QEMU's ``hint`` suspects another process, where it is a node
    of this ``engine``; None for others."""
    from monitor.engine.schema.query import QueryNamedBlockNodes

    locked = _LOCKED.match(hint or "")
    if locked is None:
        return None
    path = os.path.abspath(locked[1])
    nodes = await engine.execute(QueryNamedBlockNodes(flat=True))
    found = [node for node in nodes if os.path.abspath(node.file) == path]
    found.sort(key=lambda node: node.drv == "file")  # an image rather than its file
    return f"it is open here, as node '{found[0].node_name}'" if found else None
