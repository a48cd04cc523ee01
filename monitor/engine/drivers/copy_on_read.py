"""``copy-on-read``: a filter over an image, which takes over from the images below it what is read
and it lacks.

It has nothing to do with the bytes itself: the graph copies, as it knows the layers
(``engine.graph.copy_on_read``), and all but reads goes straight to the child. What is copied
changes nothing that anybody sees, hence *write-unchanged*.
"""

from __future__ import annotations

from typing import ClassVar, Final

from monitor.engine import permissions
from monitor.engine.drivers.base import Driver, DriverKind, Extent, OpenContext

_PASSED_ON: Final = permissions.CONSISTENT_READ | permissions.WRITE | permissions.RESIZE


class CopyOnReadDriver(Driver):
    name = "copy-on-read"
    kind = DriverKind.FILTER
    child_roles: ClassVar[tuple[str, ...]] = ("file",)
    opens_at_once = True
    reopens = False
    copies_on_read = True
    compresses = True

    def open(self, context: OpenContext) -> None:
        self.file = context.children["file"]

    def close(self) -> None:
        """Nothing of its own to let go of."""

    def child_permissions(
        self, role: str, taken: int, shared: int, writable: bool
    ) -> tuple[int, int]:
        unchanged = permissions.WRITE_UNCHANGED
        return taken & _PASSED_ON | unchanged, shared & _PASSED_ON | unchanged

    def passes_to(self) -> str | None:
        return "file"

    def length(self) -> int:
        return self.file.length()

    def read(self, buffer: memoryview, offset: int) -> None:
        self.file.read(buffer, offset)

    def write(self, buffer: memoryview, offset: int) -> None:
        self.file.write(buffer, offset)

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        self.file.write_zeroes(offset, length, may_unmap, no_fallback)

    def discard(self, offset: int, length: int) -> None:
        self.file.discard(offset, length)

    def flush(self) -> None:
        self.file.flush()

    def truncate(self, size: int) -> None:
        self.file.truncate(size)

    def map(self, offset: int, length: int) -> list[Extent]:
        return self.file.map(offset, length)

    def write_compressed(self, buffer: memoryview, offset: int) -> None:
        self.file.write_compressed(buffer, offset)

    @property
    def alignment(self) -> int:  # type: ignore[override]  # the child's may change when reopened
        return self.file.alignment
