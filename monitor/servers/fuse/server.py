"""The server of FUSE exports: a mounted file and its threads for each."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from typing import Final

from monitor.engine.api import Exported
from monitor.engine.errors import HostFailure, RequestError
from monitor.engine.schema.base import given
from monitor.engine.schema.export import BlockExportOptionsFuse
from monitor.servers.fuse import mounting
from monitor.servers.fuse.serving import Serving, Threads


class MountpointTaken(RequestError):
    template = "There already is a FUSE export on '{path}'"
    path: str


class NotRegular(RequestError):
    template = "'{path}' is not a regular file"
    path: str


_WAYS: Final = {"off": (False,), "on": (True,), "auto": (True, False)}
"""Whether others may use the file: what is tried, in order."""


class File:
    """One export while it is mounted."""

    def __init__(self, export: Exported, mount: mounting.Mount, *, allow_other: bool) -> None:
        self._export = export
        self._mount = mount
        growable = export.options.growable is True
        serving = Serving(export, growable=growable, allow_other=allow_other)
        self._threads = Threads(serving, mount.descriptor)
        self._threads.start()

    def begin_to_end(self) -> None:
        """The export is in use until the file has gone, which is waited for elsewhere."""
        self._export.enter(self._hang_up)

    def _hang_up(self) -> None:
        threading.Thread(target=self._end, name="fuse unmount", daemon=True).start()

    def _end(self) -> None:
        self._mount.unmount()  # may write back pages of a mapping, so the threads still serve
        self._threads.stop()
        self._mount.close()
        self._export.leave(self._hang_up)


class FuseServer:
    """An ``ExportServer`` of the engine."""

    def __init__(self) -> None:
        self._files: dict[Exported, File] = {}
        self._paths: dict[Exported, str] = {}

    def check(self, options: BlockExportOptionsFuse) -> None:
        """Raises RequestError."""
        if os.path.abspath(options.mountpoint) in self._paths.values():
            raise MountpointTaken(options.mountpoint)

    async def offer(self, export: Exported) -> None:
        """Raises RequestError."""
        path = export.options.mountpoint
        allow = export.options.allow_other
        self._paths[export] = os.path.abspath(path)
        try:
            ways = _WAYS[given(allow, "auto")]
            mount, others = await asyncio.to_thread(_mount, path, ways)
        except BaseException:
            del self._paths[export]
            raise
        self._files[export] = File(export, mount, allow_other=others)

    def withdraw(self, export: Exported) -> None:
        self._files.pop(export).begin_to_end()
        del self._paths[export]

    async def stop(self) -> None:
        """Exports go by themselves."""


def _mount(path: str, ways: tuple[bool, ...]) -> tuple[mounting.Mount, bool]:
    """The mounted file, and whether others may use it. Waits. Raises RequestError."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        number = (error.errno or 0) if isinstance(error, OSError) else 22
        raise HostFailure(f"Failed to stat '{path}'", number) from error
    if not stat.S_ISREG(mode):
        raise NotRegular(path)
    mounting.check()
    for others in ways[:-1]:
        try:
            return mounting.Mount(path, allow_other=others), others
        except mounting.MountFailed:
            continue
    return mounting.Mount(path, allow_other=ways[-1]), ways[-1]
