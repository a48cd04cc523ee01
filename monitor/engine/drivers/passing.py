"""A filter that changes nothing. Others say what they change, and no more."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import ClassVar

from monitor.engine.drivers.base import Child, Driver, DriverKind, Extent, OpenContext


class PassingDriver(Driver):
    """Everything goes to ``below``, the child in the first role."""

    kind = DriverKind.FILTER
    child_roles: ClassVar[tuple[str, ...]] = ("file",)
    opens_at_once = True

    below: Child

    def open(self, context: OpenContext) -> None:
        self.below = context.children[self.child_roles[0]]

    def close(self) -> None:
        """Nothing of its own to let go of."""

    def length(self) -> int:
        return self.below.length()

    def read(self, buffer: memoryview, offset: int) -> None:
        self.below.read(buffer, offset)

    def write(self, buffer: memoryview, offset: int) -> None:
        self.below.write(buffer, offset)

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        self.below.write_zeroes(offset, length, may_unmap, no_fallback)

    def discard(self, offset: int, length: int) -> None:
        self.below.discard(offset, length)

    def flush(self) -> None:
        self.below.flush()

    def truncate(self, size: int) -> None:
        self.below.truncate(size)

    def expect(self, length: int) -> None:
        self.below.expect(length)

    def map(self, offset: int, length: int) -> list[Extent]:
        return self.below.map(offset, length)

    def hold(self) -> AbstractContextManager[None]:
        return self.below.hold()

    @property
    def alignment(self) -> int:  # type: ignore[override]  # the child's may change when reopened
        return self.below.alignment
