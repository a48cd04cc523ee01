"""``copy-on-read``: a filter over an image, which takes over from the images below it what is read
and it lacks.

It has nothing to do with the bytes itself: the graph copies, as it knows the layers
(``engine.graph.copy_on_read``), and all but reads goes straight to the child. What is copied
changes nothing that anybody sees, hence *write-unchanged*.
"""

from __future__ import annotations

from typing import Final

from monitor.engine import permissions
from monitor.engine.drivers.passing import PassingDriver

_PASSED_ON: Final = permissions.CONSISTENT_READ | permissions.WRITE | permissions.RESIZE


class CopyOnReadDriver(PassingDriver):
    name = "copy-on-read"
    reopens = False
    copies_on_read = True

    def child_permissions(
        self, role: str, taken: int, shared: int, writable: bool
    ) -> tuple[int, int]:
        unchanged = permissions.WRITE_UNCHANGED
        return taken & _PASSED_ON | unchanged, shared & _PASSED_ON | unchanged

    def passes_to(self) -> str | None:
        return "file"

    def write_compressed(self, buffer: memoryview, offset: int) -> None:
        self.below.write_compressed(buffer, offset)

    def cluster_size(self) -> int | None:
        return self.below.cluster_size()

    @property
    def compresses(self) -> bool:  # type: ignore[override]  # as the child does
        return self.below.compresses
