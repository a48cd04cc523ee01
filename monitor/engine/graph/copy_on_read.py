"""Copy-on-read: what is read of an image, and the image lacks, it takes over from those below it.

copy-on-read     a filter, or an image opened as a drive's with ``copy-on-read=on``
  file |
    image   <-   filled where it holds nothing
       |
    bottom       the last layer that is copied from; without one, all of them are
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from monitor.engine.drivers.ranges import RangeLocks
from monitor.engine.graph.edge import Edge
from monitor.engine.graph.filling import Filler
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.graph.transaction import Transaction

Read = Callable[[memoryview, int], None]


class CopyOnRead:
    """What a node has that copies what is read of it. ``links`` are frozen down to ``bottom``."""

    def __init__(self, bottom: Node | None = None, links: Iterable[Edge] = ()) -> None:
        self.bottom = bottom
        self.links = list(links)
        self.image: Node | None = None
        """What is filled; None where nothing can be missing, or nothing may be written."""
        self._filler: Filler | None = None

    def settle(self, node: Node) -> list[Node]:
        """The graph at or below ``node`` has changed: finds the image anew, and its layers.
        Returns images that begin or cease to be filled, which are to be wired anew."""
        old, image = self.image, image_of(node)
        changed: list[Node] = []
        if image is not old:
            if old is not None and _let_go(old):
                changed.append(old)
            if image is not None and _take(image):
                changed.append(image)
            self.image = image
        self._filler = None
        if image is not None:
            assert image.overlap is not None
            layers = self._layers(image)
            self._filler = Filler(image, layers, image.overlap, whole=self.bottom is None)
        return changed

    def _layers(self, image: Node) -> list[Node]:
        layers: list[Node] = []
        for layer in image.chain():
            if layer is not image and not layer.is_filter:
                layers.append(layer)
            if layer is self.bottom:
                return layers
        return layers if self.bottom is None else []

    def stage(self, read: Read) -> Read:
        """``read`` after the copying. It fails where that fails."""
        filler = self._filler
        if filler is None:
            return read

        def copying(buffer: memoryview, offset: int) -> None:
            filler.fill(offset, len(buffer))
            read(buffer, offset)

        return copying


async def begin(graph: Graph, node: Node, copying: CopyOnRead) -> None:
    """From now on what is read of ``node`` is copied. The caller has the turn."""
    node.copy_on_read = copying
    image = image_of(node)
    async with graph.drained(*([image] if image is not None else [])):
        with Transaction() as transaction:
            transaction.touched.add(node)
            graph.commit(transaction)


def image_of(node: Node) -> Node | None:
    """The image that reads of ``node`` can fill: below its filters, and below what hands on every
    request as it is."""
    below: Node | None = node
    while below is not None:
        role = below.driver.passes_to()
        if role is not None and role in below.children:
            below = below.children[role].child
        elif below.is_filter:
            below = below.below()
        else:
            return below if below.driver.supports_backing and not below.read_only else None
    return None


def _take(image: Node) -> bool:
    image.fillers += 1
    if image.overlap is None:
        image.overlap = RangeLocks()
        return True
    return False


def _let_go(image: Node) -> bool:
    image.fillers -= 1
    if not image.fillers:
        image.overlap = None
        return True
    return False
