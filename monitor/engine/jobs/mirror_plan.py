"""What a mirror is to do, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass

from monitor.engine.errors import RequestError
from monitor.engine.graph.node import Node
from monitor.engine.jobs.carrying import CHUNK


class BadBufferSize(RequestError):
    template = "Invalid parameter 'buf-size'"


class IntoItself(RequestError):
    template = "Can't mirror node into itself"


class FilterOnChain(RequestError):
    template = "Cannot mirror to a filter on top of a node in the source's backing chain"


class ReplacedNodeGone(RequestError):
    template = "Node name '{node}' not found"
    node: str


@dataclass(frozen=True)
class MirrorPlan:
    """What to mirror, names resolved and checked.

    ``base``: only what lies above it is copied; None for all. ``backing`` is what becomes of the
    target's backing link in the end: "leave", "source" (the source's own, or the source where
    nothing but new writes was copied), "open" (the one that its header names).
    """

    source: Node
    target: Node
    base: Node | None = None
    only_new_writes: bool = False
    zero_target: bool = False
    backing: str = "leave"
    replaces: str | None = None
    granularity: int = 0
    buffer: int = 0
    unmap: bool = True
    write_blocking: bool = False
    filter_name: str | None = None
    commits: bool = False

    @property
    def unit(self) -> int:
        """Bytes that a bit of the job's bitmap stands for: a cluster of the target's, in bounds."""
        if self.granularity:
            return self.granularity
        cluster = self.target.cluster_size()
        return min(65536, max(4096, cluster)) if cluster else 65536

    @property
    def piece(self) -> int:
        """Bytes that are copied at once: the buffer in whole units, 1 MiB at most or one of the
        target's clusters, which the host can fill only whole."""
        most = max(CHUNK, self.target.cluster_size() or 0)
        return min(most, -(-self.buffer // self.unit) * self.unit or most)

    @property
    def copies_all(self) -> bool:
        """Whether all of the disk is written: the target holds anything, and cannot be emptied."""
        return self.zero_target and not self.target.flags.unmap

    @property
    def leaves_parts_out(self) -> bool:
        """Whether the target is to show parts of the disk by its backing image."""
        return self.base is not None or self.only_new_writes


def shows_the_same(source: Node, node: Node) -> bool:
    """Whether ``node`` is the source or a filter's child below it."""
    for layer in source.chain():
        if layer is node:
            return True
        if not layer.is_filter:
            return False
    return False
