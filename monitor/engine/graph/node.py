"""Nodes: an open image with a name, its edges and its pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from monitor.engine import permissions
from monitor.engine.drivers.base import Driver, DriverKind, OpenFlags, Operations, one_by_one
from monitor.engine.drivers.ranges import RangeLocks
from monitor.engine.graph.blockers import BACKING_ALLOWS, Blocker, Operation
from monitor.engine.graph.edge import Edge
from monitor.engine.graph.filenames import Names, names_of
from monitor.engine.graph.recorders import (
    Bitmaps,
    noted_discard,
    noted_reservation,
    noted_write,
    noted_zeroes,
)
from monitor.engine.graph.stages import (
    Highest,
    advice_ignored,
    detect_zeroes,
    no_reservation,
    overlapping,
    ranged,
)
from monitor.engine.units import human_size

if TYPE_CHECKING:
    from monitor.engine.bitmap import DirtyBitmap
    from monitor.engine.graph.copy_on_read import CopyOnRead
    from monitor.engine.graph.threshold import WriteThreshold
    from monitor.engine.objects.iothread import Iothread
    from monitor.engine.schema.blockdev import BlockdevOptions, DetectZeroes


class Node(Operations):
    """One node of the live graph.

    It lives while the monitor owns it, a parent has an edge to it, or a request in progress pins
    it. ``read`` … ``map`` are its pipeline: the driver's operations behind the stages in force,
    bound by ``wire`` so that nothing is decided per request.
    """

    iothread: Iothread | None = None
    """Where it was moved to (``graph.iothreads``)."""

    def __init__(
        self,
        name: str,
        driver: Driver,
        options: BlockdevOptions,
        flags: OpenFlags,
        detect_zeroes: DetectZeroes = "off",
    ) -> None:
        self.name = name
        self.driver = driver
        self.options = options
        self.flags = flags
        self.detect_zeroes = detect_zeroes
        self.children: dict[str, Edge] = {}
        self.parents: list[Edge] = []
        self.monitor_owned = False
        self.pins = 0
        self.blockers: list[Blocker] = []
        self.highest_write = Highest()
        self.threshold: WriteThreshold | None = None
        """What is watching writes for one that ends beyond an offset."""
        self.bitmaps = driver.bitmaps = Bitmaps()
        self.inherits_from: Node | None = None
        """The parent that opened this node as part of itself; it hands flag changes down."""
        self.overlap: RangeLocks | None = None
        """While somebody fills holes of this node: what its requests exclude each other by."""
        self.fillers = 0
        self.copy_on_read: CopyOnRead | None = None
        """What is read here is copied into the image that the node shows."""
        self.lent: list[tuple[Node, DirtyBitmap]] = []
        """Its driver's own bitmaps, and the nodes whose queries show them."""
        self.auto_backing = ""
        """The file that the header names as backing image, as it would be opened; '' for none."""
        roles = driver.child_roles
        self._layer_role = roles[0] if roles and self.is_filter else "backing"
        self.is_open = False
        self.names = Names("", "", "")
        self.implicit = False
        """Made by the engine itself (a job's filter) and not shown as a user's node."""
        self.event = None
        self._bind(driver)  # its stages, when it is wired

    def __repr__(self) -> str:
        return f"<Node {self.name!r} {self.driver.name}>"

    def describe(self) -> str:
        """The node in the words of a permission conflict."""
        return f"node '{self.name}'"

    # -- structure ---------------------------------------------------------------------------

    @property
    def backing(self) -> Node | None:
        edge = self.children.get("backing")
        return edge.child if edge else None

    @property
    def data_child(self) -> Node | None:
        """The child that holds this node's bytes (``file``), None for protocol nodes."""
        roles = self.driver.child_roles
        edge = self.children.get(roles[0]) if roles else None
        return edge.child if edge else None

    @property
    def is_filter(self) -> bool:
        return self.driver.kind is DriverKind.FILTER

    def below(self) -> Node | None:
        """The next layer of the chain: a filter's child, or the backing image."""
        edge = self.children.get(self._layer_role)
        return edge.child if edge else None

    def skip_implicit(self) -> Node:
        """The node itself, or what lies below the filters that jobs have put on it unasked."""
        node = self
        while node.implicit and (below := node.below()) is not None:
            node = below
        return node

    def chain(self) -> Iterator[Node]:
        """This node and every layer below it, top first."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.below()

    @property
    def in_use(self) -> bool:
        return bool(self.parents or self.monitor_owned or self.pins)

    def wanted(self) -> tuple[int, int]:
        """What the parents together take of this node, and what all of them share."""
        taken, shared = 0, permissions.ALL
        for edge in self.parents:
            taken |= edge.taken
            shared &= edge.shared
        return taken, shared

    # -- facts -------------------------------------------------------------------------------

    @property
    def read_only(self) -> bool:
        return self.flags.read_only

    @property
    def filename(self) -> str:
        return self.names.shown

    def cluster_size(self) -> int | None:
        """The unit of allocation in bytes; raw and filters have their file's."""
        own = self.driver.cluster_size()
        child = self.data_child
        return child.cluster_size() if own is None and child else own

    def image_facts(self) -> dict[str, Any]:
        """What the format knows of its image; raw says what its file does."""
        own, child = self.driver.image_facts(), self.data_child
        return own if own is not None else child.image_facts() if child else {}

    def length(self) -> int:
        return self.driver.length()

    def meta(self) -> str:
        """A few words for completion: format, size, mode."""
        mode = "ro" if self.read_only else "rw"
        return f"{self.driver.name} {human_size(self.length())} {mode}"

    def blocker(self, operation: Operation) -> Blocker | None:
        """Why ``operation`` is refused now; None when it is not."""
        for blocker in reversed(self.blockers):
            if blocker.blocks(operation):
                return blocker
        if operation not in BACKING_ALLOWS:
            for edge in self.parents:
                parent = edge.parent
                if edge.role == "backing" and isinstance(parent, Node) and not parent.is_filter:
                    return Blocker(f"node is used as backing hd of '{parent.user_name()}'")
        return None

    def user_name(self) -> str:
        """The drive's name where a drive shows this node, else the node's."""
        return self.device_name() or self.name

    def device_name(self) -> str:
        """The name of a drive that shows this node, "" when none does."""
        for edge in self.parents:
            if not isinstance(edge.parent, Node) and edge.parent.device_name:
                return edge.parent.device_name
        return ""

    # -- the pipeline ------------------------------------------------------------------------

    def wire(self) -> None:
        """Binds the operations to the stages in force, and settles the node's names. Called
        drained, children first."""
        if self.is_open:
            self.names = names_of(self)
        self.event = self.driver.event_sink() if self.is_open else None
        role = self.driver.passes_to() if self.is_open else None
        below: Any = self.children[role] if role and role in self.children else self.driver
        self._bind(below)
        if self.copy_on_read is not None:
            self.read = self.copy_on_read.stage(self.read)
            self.read_ranges = partial(one_by_one, self.read)
        if self.overlap is not None:
            self.write, self.write_zeroes, self.discard = overlapping(
                self.overlap, self.write, self.write_zeroes, self.discard
            )
            self.write_compressed = ranged(self.overlap, self.write_compressed)
        if self.bitmaps:
            self._note_in_bitmaps()
        self.write, self.write_zeroes = self.highest_write.stage(self.write, self.write_zeroes)
        self.write_compressed = self.highest_write.noting(self.write_compressed)
        self.map_for_write = self.highest_write.noting_reservations(self.map_for_write)
        self.write_ranges = self.highest_write.noting_ranges(self.write_ranges)
        if self.threshold is not None:
            self.write, self.write_zeroes, self.discard = self.threshold.stage(
                self.write, self.write_zeroes, self.discard
            )
            self.write_compressed = self.threshold.watching(self.write_compressed)
        if self.detect_zeroes != "off":
            unmap = self.detect_zeroes == "unmap" and self.flags.unmap
            self.write = detect_zeroes(self.write, self.write_zeroes, unmap)
            self.write_compressed = detect_zeroes(self.write_compressed, self.write_zeroes, unmap)
        sees_writes = bool(self.overlap or self.threshold or self.detect_zeroes != "off")
        if sees_writes:  # these stages want to see what is written
            self.map_for_write = no_reservation
        if sees_writes or self.bitmaps:
            self.write_ranges = partial(one_by_one, self.write)
        if not self.flags.unmap:
            self.discard = advice_ignored

    def _bind(self, below: Any) -> None:
        """The operations as ``below`` (the driver, or the edge that it passes requests to) has
        them."""
        self.read = below.read
        self.write = below.write
        self.flush = below.flush
        self.hold = below.hold
        self.map_for_write = below.map_for_write
        self.read_ranges = below.read_ranges
        self.write_ranges = below.write_ranges
        self.write_compressed = self.driver.write_compressed
        # Whether storage may go, and what an unallocated run means, is for this node to say.
        self.map = self.driver.map
        self.discard = self.driver.discard
        self.write_zeroes = self.driver.write_zeroes

    def _note_in_bitmaps(self) -> None:
        note = self.bitmaps.note()
        self.write = self.bitmaps.noting(self.write)
        self.write_zeroes = noted_zeroes(self.write_zeroes, note)
        self.discard = noted_discard(self.discard, note)
        self.write_compressed = noted_write(self.write_compressed, note)
        self.map_for_write = noted_reservation(self.map_for_write, note)

    def truncate(self, size: int) -> None:
        self.driver.truncate(size)
        self.bitmaps.resize(size)

    def grow(self, size: int, preallocation: str) -> None:
        self.driver.grow(size, preallocation)
        self.bitmaps.resize(size)


def skip_filters(node: Node | None) -> Node | None:
    """The image that a node shows, below its filters."""
    while node is not None and node.is_filter:
        node = node.below()
    return node


def links_between(top: Node, base: Node) -> list[Edge]:
    """The edges that lead from ``top`` down to ``base``, which is in its chain."""
    links: list[Edge] = []
    node = top
    while node is not base:
        below = node.below()
        assert below is not None
        links += [edge for edge in node.children.values() if edge.child is below]
        node = below
    return links


def own_file(node: Node) -> str:
    """The file that an image lies in. Relative backing names are beside it, also while the node
    itself is called by a ``json:`` name."""
    while (child := node.data_child) is not None:
        node = child
    return node.driver.filename
