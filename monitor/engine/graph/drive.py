"""Drives: what a machine's devices would sit on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitor.engine.graph.client import Client
from monitor.engine.graph.errors import DeviceHasNoMedium

if TYPE_CHECKING:
    from monitor.engine.drive_place import Place
    from monitor.engine.graph.node import Node
    from monitor.engine.throttle import ThrottleGroup


class Drive(Client):
    """A block backend: a named place that shows a node, or nothing (``-drive``, ``drive_add``)."""

    def __init__(self, name: str, place: Place | None = None) -> None:
        super().__init__(name)
        self.place = place
        """Where it sits on a bus; no other drive may sit there."""
        self.removable = False
        self.media = "disk"
        self.writeback = True  # False (cache=writethrough): each write is flushed
        self.io_status: str | None = None
        self.throttle: ThrottleGroup | None = None  # where it has limits

    def meta(self) -> str:
        """A few words for completion."""
        node = self.node
        return f"{node.name} {node.meta()}" if node else "empty"

    @property
    def node(self) -> Node | None:
        return self.roots[0].child if self.roots else None

    @property
    def shown(self) -> Node | None:
        """The node that users know of: below the filters that jobs have put there unasked."""
        return self.node.skip_implicit() if self.node else None

    def inserted(self) -> Node:
        node = self.node
        if node is None:
            raise DeviceHasNoMedium(self.name)
        return node
