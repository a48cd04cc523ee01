"""The filters that jobs put into the graph while they run; nobody opens one by its options.

``mirror_top`` lies on what is mirrored, or on what an active commit carries down. It promises its
parents consistent reads and asks for no more below than there is; a mirror that is to hold up
guests until the target has what they write has it hand each request on (``ActiveWrites``).

``commit_top`` lies between an overlay and the images that an intermediate commit carries down:
whoever is above sees the same bytes all the while, and nobody above keeps the base from being
written to.
"""

from __future__ import annotations

from typing import ClassVar

from monitor.engine import permissions
from monitor.engine.drivers.active_writes import ActiveWrites
from monitor.engine.drivers.passing import PassingDriver


class _JobFilter(PassingDriver):
    """A filter whose child is in the place of a backing image, as QEMU has these."""

    child_roles: ClassVar[tuple[str, ...]] = ("backing",)
    reopens = False
    never_frozen = True

    stopped = False
    """The job lets go: nothing is asked of the child any more."""

    def passes_to(self) -> str | None:
        return "backing"

    def filename_over(self, exact: str, shown: str) -> str:
        return shown


class MirrorTopDriver(_JobFilter):
    name = "mirror_top"

    def __init__(self, *, commits: bool, write_blocking: bool = False) -> None:
        self._commits = commits
        self._write_blocking = write_blocking
        self.active: ActiveWrites | None = None
        """Set by the job, before the first request, where the filter is ``write_blocking``."""

    def passes_to(self) -> str | None:
        return None if self._write_blocking else "backing"

    def child_permissions(
        self, role: str, taken: int, shared: int, writable: bool
    ) -> tuple[int, int]:
        if self.stopped or role == "target":  # the job itself has what the target needs
            return 0, permissions.ALL
        taken, shared = permissions.through_filter(taken, shared)
        if self._commits:
            # What lies above the base is no consistent image by itself while the base changes, and
            # the base is below everything: nobody here may keep the job from writing to it.
            return taken & ~permissions.CONSISTENT_READ, shared | permissions.WRITE
        if self._write_blocking:
            shared &= ~permissions.WRITE  # a write that did not come this way would be missed
        return taken, shared

    def write(self, buffer: memoryview, offset: int) -> None:
        (self.active or self.below).write(buffer, offset)

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        (self.active or self.below).write_zeroes(offset, length, may_unmap, no_fallback)

    def discard(self, offset: int, length: int) -> None:
        (self.active or self.below).discard(offset, length)


class CommitTopDriver(_JobFilter):
    name = "commit_top"

    def child_permissions(
        self, role: str, taken: int, shared: int, writable: bool
    ) -> tuple[int, int]:
        return 0, permissions.ALL
