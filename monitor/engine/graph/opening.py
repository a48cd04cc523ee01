"""Opening trees of nodes from options, probing formats, and following backing chains.

Opening waits in workers while the request holds the turn. Each node is committed to the graph as
it opens, pinned; ``Opening`` unpins them all in the end, so that whatever nothing came to use is
closed again, and on failure everything is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from monitor.engine import permissions
from monitor.engine.drivers import registry
from monitor.engine.drivers.base import Driver, OpenContext, OpenFlags
from monitor.engine.errors import Refused, RequestError, host_failure
from monitor.engine.graph import edit
from monitor.engine.graph.bitmaps import find_bitmap
from monitor.engine.graph.errors import NoBackingPossible
from monitor.engine.graph.flags import (
    ForceShareNotReadOnly,
    check_detect_zeroes,
    flags_of,
    for_backing,
    for_file,
)
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node, links_between, own_file
from monitor.engine.graph.policy import (
    MAX_CHAIN,
    BackingFormatUnknown,
    BackingLoop,
    ChainTooLong,
    NoBaseDirectory,
    OpenPolicy,
)
from monitor.engine.graph.transaction import Transaction
from monitor.engine.schema.blockdev import BlockdevOptions

if TYPE_CHECKING:
    from monitor.engine.bitmap import DirtyBitmap

PROBE_BYTES = 2048

EMPTY_BACKING = 'warning: Use of "backing": "" is deprecated; use "backing": null instead'

Identities = set[tuple[int, int] | None]
"""Files by device and inode; None for what is no file."""


class Opening:
    """One request's opened nodes: ``async with Opening(graph) as opening: …``.

    ``own_mark`` is what a target that the request has made says of being incomplete: it is not told
    to whoever made it so.
    """

    def __init__(
        self, graph: Graph, policy: OpenPolicy | None = None, *, own_mark: str | None = None
    ) -> None:
        self._graph = graph
        self._own_mark = own_mark
        self._policy = policy or graph.policy
        self._opened: list[Node] = []

    async def __aenter__(self) -> Opening:
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes what was opened and nothing came to use."""
        for node in self._opened:
            node.pins -= 1
        await self._graph.close_unused(reversed(self._opened))

    # -- one node and what it names ----------------------------------------------------------

    async def open(
        self,
        options: BlockdevOptions,
        *,
        inherit: OpenFlags | None = None,
        given: Mapping[str, Node] | None = None,
        follow_backing: bool = True,
    ) -> Node:
        """Opens ``options`` and everything they name; the backing chain too unless told not to.

        ``inherit`` are the flags of the node that opens this one as its child, ``given`` children
        that are open already. Raises RequestError.
        """
        node = await self._open_one(options, inherit, given or {})
        if follow_backing and node.driver.supports_backing:
            await self._attach_backing(node)
        return node

    async def _open_one(
        self,
        options: BlockdevOptions,
        inherit: OpenFlags | None,
        given: Mapping[str, Node],
    ) -> Node:
        driver: Driver = registry.driver_class(str(options.__struct_config__.tag))()
        flags = flags_of(options, inherit)
        children = await self._open_children(driver, options, flags, given)
        # What the file's own opening finds comes first, as in QEMU.
        if flags.force_share and not flags.read_only:
            raise ForceShareNotReadOnly()
        node = self._insert(driver, options, flags)
        await self._make_ready(node, children)
        self._attach_children(node, children, options, given)
        await self._open_driver(node)
        await self._settle(node)
        return node

    async def _open_children(
        self,
        driver: Driver,
        options: BlockdevOptions,
        flags: OpenFlags,
        given: Mapping[str, Node],
    ) -> dict[str, Node]:
        children: dict[str, Node] = {}
        for role in driver.child_roles:
            reference = getattr(options, role)
            if role in given:
                children[role] = given[role]
            elif isinstance(reference, str):
                children[role] = self._graph.find(reference)
            else:
                children[role] = await self.open(reference, inherit=for_file(flags))
        return children

    def _insert(self, driver: Driver, options: BlockdevOptions, flags: OpenFlags) -> Node:
        """A node that nobody finds yet."""
        detect = check_detect_zeroes(options, flags)
        name = options.node_name if isinstance(options.node_name, str) else None
        node = Node(self._graph.name_for(name), driver, options, flags, detect)
        node.pins = 1
        self._graph.insert(node)
        self._opened.append(node)
        return node

    async def _open_driver(self, node: Node) -> None:
        graph, driver, options = self._graph, node.driver, node.options
        bitmap = self._named_bitmap(options)
        context = OpenContext(options, node.flags, node.name, node.children, bitmap, graph.objects)
        driver.on_rest = graph.report_rest
        driver.on_corrupt = graph.corruption_reporter(node)
        driver.on_suspend = graph.suspension_reporter()
        if driver.opens_at_once:
            driver.open(context)
        else:
            await self._open_in_worker(node, context)
        if driver.turns_read_only:
            node.flags = msgspec.structs.replace(node.flags, read_only=True)
        graph.opened(node)

    async def _settle(self, node: Node) -> None:
        """What can be said and done once the driver is open."""
        graph = self._graph
        left = node.driver.unfinished()
        if left is not None and left != self._own_mark:
            text = f"'{own_file(node)}' is incomplete: {left} has not ended"
            graph.emit("X_BLKMON_NOTE", {"text": text})
        node.auto_backing = self._auto_backing(node)
        with Transaction() as transaction:
            transaction.touched.add(node)
            if node.children:
                edit.refresh(transaction, [node])  # the open driver may know better what it needs
            graph.commit(transaction)
        if node.driver.copies_on_read:
            await self._copy_on_read(node, getattr(node.options, "bottom", UNSET))
        await graph.lend_bitmaps(node)

    def _named_bitmap(self, options: BlockdevOptions) -> DirtyBitmap | None:
        named = getattr(options, "bitmap", UNSET)
        if named is UNSET:
            return None
        return find_bitmap(self._graph, named.node, named.name)[1]

    async def _copy_on_read(self, node: Node, name: str | UnsetType) -> None:
        """Has what is read of the node copied. The links down to the bottom are frozen."""
        from monitor.engine.graph.copy_on_read import CopyOnRead, begin

        if isinstance(name, UnsetType):
            await begin(self._graph, node, CopyOnRead())
            return
        bottom = self._graph.nodes.get(name)
        if bottom is None:
            raise BottomNotFound(name)
        if bottom.is_filter:
            raise BottomIsFilter(name)
        if bottom not in node.chain():
            raise BottomNotBelow(name, node.name)
        links = links_between(node, bottom)
        with Transaction() as transaction:
            edit.freeze(transaction, links)
            transaction.commit()
        await begin(self._graph, node, CopyOnRead(bottom, links))

    async def _make_ready(self, node: Node, children: Mapping[str, Node]) -> None:
        """What the node is going to take of its children."""
        for role, child in children.items():
            taken, _ = node.driver.child_permissions(
                role, 0, permissions.ALL, not node.flags.read_only
            )
            await self._graph.make_ready(child, taken)

    def _attach_children(
        self,
        node: Node,
        children: Mapping[str, Node],
        options: BlockdevOptions,
        given: Mapping[str, Node],
    ) -> None:
        if not children:
            return
        with Transaction() as transaction:
            for role, child in children.items():
                edit.attach(transaction, node, role, child)
                if role in given or not isinstance(getattr(options, role), str):
                    child.inherits_from = node
            edit.refresh(transaction, [node])
            self._graph.commit(transaction)

    async def _open_in_worker(self, node: Node, context: OpenContext) -> None:
        opened = False

        def work() -> None:
            nonlocal opened
            node.driver.open(context)
            opened = True

        try:
            await self._graph.in_worker(work)
        except OSError as error:
            file = node.data_child
            what = f"Could not open '{file.filename if file else node.driver.filename}'"
            raise host_failure(what, error) from error
        except asyncio.CancelledError:
            if opened:  # nobody knows of it yet, so nobody else closes it
                await self._graph.in_worker(node.driver.close)
            raise

    # -- the backing chain -------------------------------------------------------------------

    async def follow_backing(self, top: Node) -> None:
        """Opens the chain that an image's header names, for one that was opened without it."""
        if top.driver.supports_backing:
            await self._attach_backing(top)

    async def _attach_backing(self, top: Node) -> None:
        """Follows backing links downwards, one layer after the other (chains are long), then ties
        the layers together from the bottom up: each tie rewires only the node that it is made for.
        """
        seen = {await self._identity(own_file(top))}
        ties: list[tuple[Node, Node]] = []
        overlay: Node | None = top
        while overlay is not None:
            try:
                backing, closed = await self._open_backing(overlay, seen)
            except NoBaseDirectory as error:  # of the overlay's opening, not of the backing file's
                raise BackingFileFailed.of(error, len(ties)) from error
            except RequestError as error:
                raise BackingFileFailed.of(error, len(ties) + 1) from error
            if backing is None:
                break
            ties.append((overlay, backing))
            if len(ties) + sum(1 for _ in backing.chain()) > MAX_CHAIN + 1:
                raise ChainTooLong(own_file(top))
            overlay = None if closed or not backing.driver.supports_backing else backing
        for overlay, backing in reversed(ties):
            self.attach_backing(overlay, backing)

    def attach_backing(self, overlay: Node, backing: Node) -> None:
        """The edge, its permissions, and word to the overlay's driver. Raises RequestError."""
        if not overlay.driver.supports_backing:
            raise NoBackingPossible(overlay.driver.name, overlay.name)
        with Transaction() as transaction:
            edge = edit.attach(transaction, overlay, "backing", backing)
            edit.refresh(transaction, [overlay])
            self._graph.commit(transaction)
        overlay.driver.attach_backing(edge)

    async def _open_backing(self, overlay: Node, seen: Identities) -> tuple[Node | None, bool]:
        """The layer below ``overlay``, and whether its own chain is attached already. ``seen``
        are the files of the layers above, and the new layer's is added."""
        options: Any = getattr(overlay.options, "backing", UNSET)
        flags = for_backing(overlay.flags)
        if options == "":
            self._graph.emit("X_BLKMON_NOTE", {"text": EMPTY_BACKING})
        if options is None or options == "":
            return None, True
        if isinstance(options, str):
            return self._graph.find(options), True
        if options is not UNSET:
            node = await self.open(options, inherit=flags, follow_backing=False)
            node.inherits_from = overlay
            await self._refuse_loop(own_file(node), seen)
            return node, False
        name = overlay.driver.backing_filename
        if not name:
            return None, True
        path = self._policy.resolve(name, own_file(overlay))
        await self._refuse_loop(path, seen)
        node = await self._open_named(path, overlay, flags)
        node.inherits_from = overlay
        return node, False

    async def _open_named(self, path: str, overlay: Node, flags: OpenFlags) -> Node:
        """A backing image by the name and format that its overlay records."""
        recorded = overlay.driver.backing_format
        loose: dict[str, Any] = {"driver": recorded} if recorded else {}
        node = await self.open_loose(loose, path, inherit=flags, follow_backing=False)
        if not recorded and node.driver.backing_filename:
            raise BackingFormatUnknown(path, own_file(overlay), node.driver.name)
        return node

    def _auto_backing(self, node: Node) -> str:
        name = node.driver.backing_filename
        if not name:
            return ""
        try:
            return OpenPolicy().resolve(name, own_file(node))
        except RequestError:
            return name

    async def _refuse_loop(self, path: str, seen: Identities) -> None:
        identity = await self._identity(path)
        if identity is not None and identity in seen:
            raise BackingLoop(path)
        seen.add(identity)

    async def _identity(self, path: str) -> tuple[int, int] | None:
        """Device and inode of a file: what a loop is recognised by. None when it has none, or
        when opening it will say what is wrong."""
        try:
            status = await self._graph.in_worker(os.stat, path) if path else None
        except (OSError, ValueError):
            return None
        return (status.st_dev, status.st_ino) if status else None

    # -- options that leave things open (drives, backing names) ------------------------------

    async def open_loose(
        self,
        loose: dict[str, Any],
        filename: str | None,
        *,
        inherit: OpenFlags | None = None,
        follow_backing: bool = True,
    ) -> Node:
        """Opens options in which the driver may be missing: the file is opened first and its
        format probed. ``loose`` is a tree of option strings, as ``-drive`` gives them. A name
        that may come from an image is given here."""
        from monitor.engine.graph import loose as module

        return await module.open_loose(
            self, loose, filename, inherit=inherit, follow_backing=follow_backing
        )

    async def open_loose_backing(self, overlay: Node, loose: dict[str, Any]) -> None:
        """Opens and attaches a backing image whose options its overlay was given."""
        try:
            backing = await self.open_loose(loose, None, inherit=for_backing(overlay.flags))
        except RequestError as error:
            raise BackingFileFailed.of(error, 1) from error
        backing.inherits_from = overlay
        if sum(1 for _ in backing.chain()) > MAX_CHAIN:
            raise ChainTooLong(own_file(overlay))
        self.attach_backing(overlay, backing)

    async def probe(self, protocol: Node) -> str:
        """The format that the first bytes of an open protocol node look like."""
        return await self._graph.in_worker(_probe, protocol)

    @property
    def graph(self) -> Graph:
        return self._graph


class BackingFileFailed(Refused):
    """A backing file could not be opened; QEMU's prefix before the reason."""

    @classmethod
    def of(cls, error: RequestError, layer: int) -> BackingFileFailed:
        """``layer`` counts from the top: each layer's opening puts the prefix once."""
        failed = cls("Could not open backing file: " * layer + error.text)
        failed.hint = error.hint
        return failed


def _probe(protocol: Node) -> str:
    length = min(PROBE_BYTES, protocol.driver.length())
    buffer = bytearray(length)
    try:
        protocol.driver.read(memoryview(buffer), 0)
    except OSError as error:
        what = "Could not read image for determining its format"
        raise host_failure(what, error) from error
    return registry.probe(bytes(buffer), protocol.filename)


class BottomNotFound(RequestError):
    template = "Bottom node '{bottom}' not found"
    bottom: str


class BottomIsFilter(RequestError):
    template = "Bottom node '{bottom}' is a filter"
    bottom: str


class BottomNotBelow(RequestError):
    template = "Bottom node '{bottom}' is not in the chain below '{node}'"
    bottom: str
    node: str
