"""The live graph: who is in it, how it is changed, and who is told.

All of it runs on the control loop. Requests that change the graph take their ``turn``; they wait
for disks in workers (``in_worker``), then make all their changes synchronously inside a drained
section and end in ``rewire``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, ParamSpec, TypeVar

from monitor.engine import permissions
from monitor.engine.drivers.base import Driver, LostBitmaps
from monitor.engine.errors import RequestError, describe_failure
from monitor.engine.graph import edit
from monitor.engine.graph.blockers import Operation
from monitor.engine.graph.client import Client
from monitor.engine.graph.drive import Drive
from monitor.engine.graph.edge import RootEdge
from monitor.engine.graph.errors import (
    DeviceOrNodeNotFound,
    DuplicateNodeName,
    InvalidNodeName,
    NeedRootNode,
    NodeBusy,
    NodeNameIsDevice,
    NodeNameTooLong,
    NodeNotFound,
)
from monitor.engine.graph.node import Node
from monitor.engine.graph.policy import OpenPolicy, allow_deep_reads
from monitor.engine.graph.transaction import Transaction
from monitor.engine.names import well_formed
from monitor.engine.objects.base import Objects
from monitor.engine.workers import Workers

P = ParamSpec("P")
T = TypeVar("T")

WORKERS = 8
"""Blocking calls of the control plane that are under way at once."""

LANE_WORKERS = 16
"""Requests of the prompt and of other passing clients that are under way at once."""

Emit = Callable[[str, dict[str, Any]], None]


class _Section(NamedTuple):
    """A drained section: the clients whose gates it has closed."""

    nodes: set[Node]
    clients: set[Client]
    wake: Callable[[], None]


class Graph:
    """Nodes by name, clients, and the turn to change them.

    ``emit(name, data)`` reports an event.
    """

    def __init__(self, emit: Emit, policy: OpenPolicy | None = None) -> None:
        allow_deep_reads()
        self.nodes: dict[str, Node] = {}
        self._opening: dict[str, Node] = {}
        """Nodes that are not open yet: their names are taken, but nobody finds them."""
        self.drives: dict[str, Drive] = {}
        self.clients: set[Client] = set()
        self.objects = Objects()
        """What the user has made for options to name."""
        self.emit = emit
        self.policy = policy or OpenPolicy()
        self.turn = asyncio.Lock()
        """Held by whoever changes the graph; first come, first served."""
        self._sections: list[_Section] = []
        self._generated = 0
        self._workers = Workers(WORKERS, "worker")
        self._lane_workers = Workers(LANE_WORKERS, "lane")

    # -- names -------------------------------------------------------------------------------

    def find_node(self, name: str) -> Node:
        node = self.nodes.get(name)
        if node is None:
            raise NodeNotFound(name)
        return node

    def find(self, name: str) -> Node:
        """What a ``device`` argument names: a drive's node, or else a node."""
        drive = self.drives.get(name)
        if drive is not None:
            return drive.inserted()
        node = self.nodes.get(name)
        if node is None:
            raise DeviceOrNodeNotFound(name, name)
        return node

    def find_root(self, name: str) -> Node:
        """As ``find``, of what is no other node's child nor a job's."""
        node = self.find(name)
        for edge in node.parents:
            if isinstance(edge.parent, Node) or edge.parent.stays_at_node:
                raise _no_root(name, edge.parent)
        return node

    def find_either(self, device: str | None, node_name: str | None) -> Node:
        """``device`` names a drive only, ``node_name`` a node only; the first that exists."""
        if device is not None and device in self.drives:
            return self.drives[device].inserted()
        if node_name is not None and node_name in self.nodes:
            return self.nodes[node_name]
        raise DeviceOrNodeNotFound(device or "", node_name or "")

    def name_for(self, wanted: str | None) -> str:
        """``wanted`` when it may be given to a new node, else a name of our own."""
        if wanted is None:
            while True:
                self._generated += 1
                name = f"#block{self._generated:03}"
                if not self._is_taken(name):
                    return name
        if not well_formed(wanted):
            raise InvalidNodeName(wanted)
        if wanted in self.drives:
            raise NodeNameIsDevice(wanted)
        if self._is_taken(wanted):
            raise DuplicateNodeName(wanted)
        if len(wanted) > 31:
            raise NodeNameTooLong(wanted)
        return wanted

    def _is_taken(self, name: str) -> bool:
        return name in self.nodes or name in self._opening

    # -- waiting for disks -------------------------------------------------------------------

    async def in_worker(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a blocking call of the control plane (opening, closing, resizing) on a worker
        thread; the call must enter no lane. A wait that is cancelled is finished first."""
        return await self._workers.run(lambda: call(*args, **kwargs))

    async def in_lane_worker(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for calls that enter a client's lane. They have workers of their own: waiting
        at a closed gate, they must not keep the section from the workers that it needs to end."""
        return await self._lane_workers.run(lambda: call(*args, **kwargs))

    # -- draining ----------------------------------------------------------------------------

    def clients_of(self, nodes: Iterable[Node]) -> set[Client]:
        """Every client whose requests can reach one of ``nodes``."""
        return self._above(nodes)[0]

    def _above(self, nodes: Iterable[Node]) -> tuple[set[Client], list[Driver]]:
        """The clients that can reach ``nodes``, and the drivers on the way that linger."""
        found: set[Client] = set()
        stack, seen = list(nodes), set(nodes)
        while stack:
            for edge in stack.pop().parents:
                if not isinstance(edge.parent, Node):
                    found.add(edge.parent)
                elif edge.parent not in seen:
                    seen.add(edge.parent)
                    stack.append(edge.parent)
        return found, [node.driver for node in seen if node.driver.lingers]

    @asynccontextmanager
    async def drained(self, *nodes: Node) -> AsyncIterator[None]:
        """No request is in flight on ``nodes`` inside, and none begins. Sections nest."""
        loop = asyncio.get_running_loop()
        looked = asyncio.Event()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(looked.set)
            except RuntimeError:  # the loop has ended; nobody waits any more
                return

        clients, lingering = self._above(nodes)
        section = _Section(set(nodes), clients, wake)
        self._sections.append(section)
        for client in section.clients:
            client.close_gate(wake)
        try:
            while not (
                all(client.quiet for client in section.clients)
                and all(driver.at_rest() for driver in lingering)
            ):
                await looked.wait()
                looked.clear()
            yield
        finally:
            self._sections.remove(section)
            for client in section.clients:
                client.open_gate(wake)

    def report_rest(self) -> None:
        """From any thread: a driver that lingers may have come to rest."""
        for section in list(self._sections):
            section.wake()

    def admit(self, client: Client) -> None:
        """Takes in a client that has its edges, and makes no requests yet. It keeps to the sections
        that its nodes are in."""
        self.clients.add(client)
        for section in self._sections:
            if client not in section.clients and client in self.clients_of(section.nodes):
                section.clients.add(client)
                client.close_gate(section.wake)

    async def after_change(self, node: Node) -> None:
        """For who names a node without having the turn: where it is drained, a change is about to
        be made, or undone, and the name may stand for another node afterwards."""
        if any(node in edit.with_all_above(section.nodes) for section in self._sections):
            async with self.turn:
                pass

    # -- changing ----------------------------------------------------------------------------

    def rewire(self, transaction: Transaction) -> None:
        """Binds the pipelines anew of every node that changed, and of all above them."""
        if not transaction.touched:
            return
        changed = edit.with_all_above(transaction.touched)
        filled: list[Node] = []
        for node in changed:
            if node.copy_on_read is not None:
                filled += node.copy_on_read.settle(node)
        if filled:
            changed |= edit.with_all_above(filled)
        for node in reversed(edit.top_down(changed, within=changed)):
            for edge in node.children.values():
                edge.bind()
            node.wire()
            for edge in node.parents:
                edge.bind()

    def commit(self, transaction: Transaction) -> None:
        """The end of every change: makes it final and rewires. Inside a drained section."""
        try:
            transaction.commit()
        finally:
            self.rewire(transaction)

    def corruption_reporter(
        self, node: Node
    ) -> Callable[[int | None, int | None, bool, str], None]:
        """What a driver calls, from any thread, when it finds its image corrupt."""
        loop = asyncio.get_running_loop()

        def report(offset: int | None, size: int | None, fatal: bool, message: str) -> None:
            data: dict[str, Any] = {"device": "", "msg": message, "fatal": fatal}
            data |= {"offset": offset} if offset is not None else {}
            data |= {"size": size} if size is not None else {}
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._report_corruption, node, data)

        return report

    def suspension_reporter(self) -> Callable[[str], None]:
        """What a driver calls, from any thread, when it holds a request at a breakpoint."""
        loop = asyncio.get_running_loop()

        def report(tag: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self.emit, "X_BLKMON_SUSPENDED", {"tag": tag})

        return report

    def let_go(self) -> None:
        """The end is near: what drivers hold up goes on."""
        for node in self.nodes.values():
            node.driver.let_go()

    def _report_corruption(self, node: Node, data: dict[str, Any]) -> None:
        name = node.user_name()
        device = name if name in self.drives else ""
        named = {"device": device, "node-name": node.name}
        self.emit("BLOCK_IMAGE_CORRUPTED", {**data, **named})

    def insert(self, node: Node) -> None:
        """A new node; until it is open nobody finds it."""
        (self.nodes if node.is_open else self._opening)[node.name] = node

    def forget(self, node: Node) -> None:
        """Undoes ``insert``."""
        self.nodes.pop(node.name, None)

    def opened(self, node: Node) -> None:
        """The node's driver is open: from here on requests and queries find it."""
        node.is_open = True
        self.nodes[node.name] = self._opening.pop(node.name)

    def add_client(
        self, client: Client, node: Node, taken: int, shared: int, role: str = "root"
    ) -> RootEdge:
        """A new root for a client, which keeps to the sections that ``node`` is in. Raises
        PermissionConflict and changes nothing then."""
        with Transaction() as transaction:
            edge = edit.attach(transaction, client, role, node)
            edit.set_permissions(transaction, edge, taken, shared)
            edit.refresh(transaction, [node])
            self.commit(transaction)
        self.admit(client)
        assert isinstance(edge, RootEdge)
        return edge

    async def make_ready(self, node: Node, taken: int) -> None:
        """Before somebody takes ``taken`` of ``node``: what drivers must open for that is opened in
        a worker, so that the permission check does not wait. The graph may change meanwhile.
        Raises RequestError."""
        if not taken & permissions.WRITERS:
            return
        stack = [(node, taken)]
        while stack:
            node, taken = stack.pop()
            node.pins += 1
            try:
                if node.driver.waits_for(taken):
                    await self.in_worker(node.driver.make_ready, taken)
            finally:
                node.pins -= 1
            for role, edge in node.children.items():
                below, _ = node.driver.child_permissions(
                    role, node.wanted()[0] | taken, permissions.ALL, not node.read_only
                )
                if below & permissions.WRITERS & ~edge.taken:
                    stack.append((edge.child, below))

    async def remove_client(self, client: Client) -> None:
        """Takes all its roots away, then closes the nodes that nothing uses any more."""
        nodes = [edge.child for edge in client.roots]
        # Who has no lane makes no request, and where it only read, its going changes nothing for
        # others: nobody waits for them then, nor they for a look at their disk.
        only_read = not any(edge.taken & permissions.WRITERS for edge in client.roots)
        section = self.drained(*nodes)
        async with contextlib.nullcontext() if only_read and not client.lanes else section:
            with Transaction() as transaction:
                for edge in list(client.roots):
                    edit.detach(transaction, edge)
                edit.refresh(transaction, nodes)
                self.commit(transaction)
        self.clients.discard(client)
        await self.close_unused(nodes)

    async def close_unused(self, nodes: Iterable[Node]) -> list[RequestError | OSError]:
        """Closes those of ``nodes`` that nothing uses, and then what they alone used.

        Returns what went wrong on the way (a failed write-back); everything is closed all the same.
        """
        problems: list[RequestError | OSError] = []
        told: list[dict[str, str]] = []
        queue = list(nodes)
        while queue:
            node = queue.pop(0)
            known = self.nodes if node.is_open else self._opening
            if node.in_use or known.get(node.name) is not node:
                continue
            del known[node.name]  # from here on nobody finds it
            try:
                await self._close_driver(node)
            except (RequestError, OSError) as error:
                problems.append(error)
                place = {"node-name": node.name, "file": node.filename}  # while it has children
                lost = "bitmaps" if isinstance(error, LostBitmaps) else "writes"
                told.append({**place, "error": describe_failure(error), "lost": lost})
            children = [edge.child for edge in node.children.values()]
            await self._take_bitmaps_back(node)
            copied = node.copy_on_read
            filled = [copied.image] if copied is not None and copied.image is not None else []
            async with self.drained(*filled) if filled else contextlib.nullcontext():
                with Transaction() as transaction:
                    edit.thaw(copied.links if copied else ())
                    for edge in list(node.children.values()):
                        edit.detach(transaction, edge)
                    edit.refresh(transaction, children)
                    self.commit(transaction)
            queue.extend(children)
        for data in told:
            self.emit("X_BLKMON_CLOSE_FAILED", data)
        return problems

    async def _close_driver(self, node: Node) -> None:
        """Raises RequestError and OSError when something was lost; it is closed all the same."""
        driver = node.driver
        if not node.is_open:
            return
        if not driver.opens_at_once:
            await self.in_worker(driver.close)
            return
        if driver.lingers:
            async with self.drained(node):
                pass  # what goes on by itself ends
        driver.close()

    async def lend_bitmaps(self, node: Node) -> None:
        """Puts the bitmaps of the node's driver where queries show them, until the node closes."""
        for role, bitmap in node.driver.own_bitmaps():
            holder = node.children[role].child if role else node
            node.lent.append((holder, bitmap))
            async with self.drained(holder):
                with Transaction() as transaction:
                    edit.attach_bitmap(transaction, holder, bitmap)
                    self.commit(transaction)

    async def _take_bitmaps_back(self, node: Node) -> None:
        for holder, bitmap in node.lent:
            async with self.drained(holder):
                with Transaction() as transaction:
                    edit.detach_bitmap(transaction, holder, bitmap)
                    self.commit(transaction)
        node.lent.clear()

    async def close_all(self) -> None:
        """The end: every client's roots and the monitor's ownership go, then every node closes."""
        async with self.turn:
            self.drives.clear()
            for client in list(self.clients):
                await self.remove_client(client)
            for node in self.nodes.values():
                node.monitor_owned = False
            await self.close_unused(list(self.nodes.values()))
        self._workers.close()
        self._lane_workers.close()

    def refuse_if_busy(self, node: Node, operation: Operation) -> None:
        blocker = node.blocker(operation)
        if blocker is not None:
            raise NodeBusy(node.user_name(), blocker.reason, blocker.job)


def _no_root(name: str, parent: Node | Client) -> NeedRootNode:
    """``parent``, a job or a node, keeps the node from being a root."""
    if not isinstance(parent, Node):
        return NeedRootNode(name, None, parent.name)
    jobs = [
        edge.parent.name
        for edge in parent.parents
        if not isinstance(edge.parent, Node) and edge.parent.stays_at_node
    ]
    return NeedRootNode(name, parent.name, jobs[0] if jobs else None)
