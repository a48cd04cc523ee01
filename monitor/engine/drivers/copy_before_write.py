"""``copy-before-write``: a filter that copies the old data of a range to a target before the range
changes. Together with the target, the disk's contents at the moment of insertion stay readable.

    drive, export …          a backup job
         |                        |
    copy-before-write ------------+
      file |    \\ target
        disk     image

The two children are edges of this node: a guest's request that has to copy stays in its own lane,
and asks no client for anything. Reads and flushes go to the disk and nowhere else.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import ClassVar, Final

from monitor.engine import permissions
from monitor.engine.bitmap import DirtyBitmap
from monitor.engine.drivers.base import OpenContext
from monitor.engine.drivers.blockcopy import UNIT, BlockCopy
from monitor.engine.drivers.lingering import Lingering, Wait
from monitor.engine.drivers.passing import PassingDriver
from monitor.engine.schema.blockdev import BlockdevOptionsCopyBeforeWrite

_KEEPS: Final = permissions.ALL & ~(permissions.WRITE | permissions.RESIZE)
"""What others may do with the disk below: nothing that goes past the filter."""


class CopyBeforeWriteDriver(PassingDriver):
    name = "copy-before-write"
    child_roles: ClassVar[tuple[str, ...]] = ("file", "target")
    minds_parents = True
    lingers = True

    copying: BlockCopy

    def __init__(self, wait: Wait = threading.Event.wait) -> None:
        self._late = Lingering("copy before write", wait, self._may_rest)
        """Copies in ``cbw-timeout`` seconds. They are counted before the guest's request ends, so
        that a drained section that finds no request finds the copy."""

    # -- life --------------------------------------------------------------------------------

    def open(self, context: OpenContext) -> None:
        options: BlockdevOptionsCopyBeforeWrite = context.options
        super().open(context)
        self.target = context.children["target"]
        unit = max(UNIT, self.target.cluster_size() or 0)
        size = self.below.length()
        self.copying = BlockCopy(self.below, self.target, size, unit)
        if context.bitmap is not None:
            self.copying.todo.clear()
            self.copying.todo.merge(context.bitmap)
        self._timeout = options.cbw_timeout if isinstance(options.cbw_timeout, int) else 0
        self._breaks_guest = options.on_cbw_error != "break-snapshot"
        self.failure: OSError | None = None
        """Why the target lacks old data; the disk goes on (``break-snapshot``)."""
        self.copied = DirtyBitmap(size, unit)
        """What was copied before a write: to be read from the target."""
        self.readable = DirtyBitmap(size, unit)
        """What the old contents are known of."""
        self.copied.enabled = self.readable.enabled = False
        self.readable.merge(self.copying.todo)

    def child_permissions(
        self, role: str, taken: int, shared: int, writable: bool
    ) -> tuple[int, int]:
        if role == "target":  # a guest's disk may have the target below it, so writes are shared
            return permissions.WRITE, permissions.ALL & ~permissions.RESIZE
        if not self.has_parents:
            return taken, shared  # nobody relies on it: it may be put in place
        if taken & permissions.WRITE:
            taken |= permissions.CONSISTENT_READ
        return taken, shared & _KEEPS

    def filename_over(self, exact: str, shown: str) -> str:
        return shown

    def at_rest(self) -> bool:
        return self._late.at_rest

    def _may_rest(self) -> None:
        if self.on_rest is not None:
            self.on_rest()

    def own_bitmaps(self) -> Sequence[tuple[str, DirtyBitmap]]:
        return (("file", self.copying.todo), ("", self.copied), ("", self.readable))

    # -- data --------------------------------------------------------------------------------

    def write(self, buffer: memoryview, offset: int) -> None:
        self._keep(offset, len(buffer))
        self.below.write(buffer, offset)

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        self._keep(offset, length)
        self.below.write_zeroes(offset, length, may_unmap, no_fallback)

    def discard(self, offset: int, length: int) -> None:
        self._keep(offset, length)
        self.below.discard(offset, length)

    def truncate(self, size: int) -> None:
        if size < self.length():
            self._keep(size, self.length() - size)
        self.below.truncate(size)

    def _keep(self, offset: int, length: int) -> None:
        """Copies what is about to change. Raises OSError when the guest must not go on."""
        if self.failure is not None or not length:
            return
        try:
            if self._timeout and self.copying.lacks(offset, length):
                self._late.run(lambda: self.copying.before_write(offset, length), self._timeout)
            else:
                self.copying.before_write(offset, length)
        except OSError as error:
            if self._breaks_guest:
                raise
            self.failure = error
            return
        start, end = self.copying.aligned(offset, length)
        self.copied.set(start, end - start)
