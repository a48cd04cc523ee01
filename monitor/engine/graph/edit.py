"""Edits of the graph, each a step of a transaction; nothing else changes edges or permissions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Set
from typing import TYPE_CHECKING, Any

from monitor.engine import permissions
from monitor.engine.drivers.base import OpenFlags, Reopen
from monitor.engine.errors import RequestError
from monitor.engine.graph.client import Client
from monitor.engine.graph.edge import Edge, RootEdge
from monitor.engine.graph.node import Node
from monitor.engine.graph.threshold import WriteThreshold
from monitor.engine.graph.transaction import Transaction

if TYPE_CHECKING:
    from monitor.engine.bitmap import DirtyBitmap
    from monitor.engine.schema.blockdev import BlockdevOptions, DetectZeroes


class PermissionConflict(RequestError):
    template = (
        "Permission conflict on node '{node}': permissions '{permissions}' are both required by "
        "{taker} (uses node '{node}' as '{taker_role}' child) and unshared by {holder} "
        "(uses node '{node}' as '{holder_role}' child)."
    )
    node: str
    permissions: str
    taker: str
    taker_role: str
    holder: str
    holder_role: str


class NodeIsReadOnly(RequestError):
    template = "Block node is read-only"
    node: str


class CyclicGraph(RequestError):
    template = "Making '{child}' a {role} child of '{parent}' would create a cycle"
    child: str
    role: str
    parent: str


class FrozenLink(RequestError):
    template = "Cannot change frozen '{role}' link from '{parent}' to '{child}'"
    role: str
    parent: str
    child: str


class FrozenAlready(RequestError):
    template = "Cannot change '{role}' link from '{parent}' to '{child}'"
    role: str
    parent: str
    child: str


class FrozenBelow(RequestError):
    template = "Cannot change '{role}' link to '{child}'"
    role: str
    child: str


class NeverFrozen(RequestError):
    template = "Cannot freeze '{role}' link to '{child}'"
    role: str
    child: str


def attach(transaction: Transaction, parent: Node | Client, role: str, child: Node) -> Edge:
    """A new edge without any permission yet; ``refresh`` gives it those."""
    edge: Edge
    if isinstance(parent, Node):
        if reaches(child, parent):
            raise CyclicGraph(child.name, role, parent.name)
        edge = Edge(parent, role, child)
    else:
        edge = RootEdge(parent, role, child)
    _link(edge)
    transaction.add(abort=lambda: _unlink(edge))
    if isinstance(parent, Node):  # a client changes nothing about how a node works
        transaction.touched.add(parent)
    return edge


def detach(transaction: Transaction, edge: Edge) -> None:
    """Takes an edge away. ``refresh`` the child (and the parent, when it is a node) afterwards."""
    refuse_if_frozen(edge)
    _unlink(edge)
    transaction.add(abort=lambda: _link(edge))
    if isinstance(edge.parent, Node):
        transaction.touched.add(edge.parent)


def point(transaction: Transaction, edge: Edge, child: Node) -> None:
    """Makes an edge lead to another node; its permissions stay as they are until ``refresh``."""
    refuse_if_frozen(edge)
    old = edge.child
    if isinstance(edge.parent, Node) and reaches(child, edge.parent):
        raise CyclicGraph(child.name, edge.role, edge.parent.name)
    _repoint(edge, child)
    transaction.add(abort=lambda: _repoint(edge, old))
    transaction.touched.update((old, child))
    if isinstance(edge.parent, Node):
        transaction.touched.add(edge.parent)


def replace(transaction: Transaction, old: Node, new: Node) -> None:
    """Every parent of ``old`` gets ``new`` instead, except where ``new`` already leads to ``old``
    through that parent (an overlay put on top keeps its own edge) and jobs, which stay. Raises
    FrozenBelow where a parent may not let go."""
    for edge in list(old.parents):
        if isinstance(edge.parent, Client) and edge.parent.stays_at_node:
            continue
        if isinstance(edge.parent, Node) and (edge.parent is new or reaches(new, edge.parent)):
            continue
        if edge.frozen:
            raise FrozenBelow(edge.role, old.name)
        point(transaction, edge, new)


def set_flags(
    transaction: Transaction, node: Node, flags: OpenFlags, prepared: Reopen | None
) -> None:
    """Switches a node's flags; ``prepared`` is what its driver prepared in a worker for them."""
    old = node.flags
    node.flags = flags

    def abort() -> None:
        node.flags = old
        if prepared:
            prepared.abort()

    transaction.add(commit=prepared.commit if prepared else None, abort=abort)
    transaction.touched.add(node)


def set_options(
    transaction: Transaction, node: Node, options: BlockdevOptions, detect_zeroes: DetectZeroes
) -> None:
    """Makes other options those that a node is open with."""
    _set(transaction, node, options=options, detect_zeroes=detect_zeroes)
    transaction.touched.add(node)


def set_inherits_from(transaction: Transaction, node: Node, parent: Node | None) -> None:
    """Makes a node a part of ``parent``, which hands flags down to it, or of nobody."""
    _set(transaction, node, inherits_from=parent)


def refresh(transaction: Transaction, nodes: Iterable[Node]) -> None:
    """Recomputes the permissions of ``nodes`` and of what lies below as far as they change, and
    asks the drivers (host locks). Raises QEMU's sentence for the first conflict; the transaction
    undoes.

    First all edges get what they need, then every node concerned is checked once: a node with two
    parents is never judged while only one of them has changed.
    """
    concerned = dict.fromkeys(nodes)
    queue = deque(concerned)
    while queue:
        node = queue.popleft()
        for edge in _pass_down(transaction, node):
            concerned[edge.child] = None
            queue.append(edge.child)
    for node in concerned:
        _check(transaction, node)


def _pass_down(transaction: Transaction, node: Node) -> list[Edge]:
    """Gives the node's edges what its driver needs now; those that changed."""
    taken, shared = node.wanted()
    node.driver.has_parents = bool(node.parents)
    changed = []
    for role, edge in node.children.items():
        wanted = node.driver.child_permissions(role, taken, shared, not node.read_only)
        if edge.child.flags.force_share:
            wanted = wanted[0], permissions.ALL
        if wanted != (edge.taken, edge.shared) or edge.child.driver.minds_parents:
            set_permissions(transaction, edge, *wanted)
            changed.append(edge)
    return changed


def _check(transaction: Transaction, node: Node) -> None:
    taken, shared = node.wanted()
    if taken & ~shared:
        _find_conflict(node)
    if taken & (permissions.WRITE | permissions.WRITE_UNCHANGED) and node.read_only:
        raise NodeIsReadOnly(node.name)
    prepared = node.driver.check_permissions(taken, shared)
    if prepared:
        transaction.add(commit=prepared.commit, abort=prepared.abort)


def _find_conflict(node: Node) -> None:
    for taker in node.parents:
        for holder in node.parents:
            if taker is holder:
                continue
            conflict = taker.taken & ~holder.shared
            if conflict:
                raise PermissionConflict(
                    node.name,
                    permissions.describe(conflict),
                    taker.describe_parent(),
                    taker.role,
                    holder.describe_parent(),
                    holder.role,
                )


def freeze(transaction: Transaction, edges: Iterable[Edge]) -> None:
    """Nobody may lead these edges elsewhere until ``thaw``. Raises FrozenAlready, or NeverFrozen
    where one leads to the filter of a job, which is to go."""
    chosen = list(edges)
    refuse_frozen(chosen)
    for edge in chosen:
        if edge.child.driver.never_frozen:
            raise NeverFrozen(edge.role, edge.child.name)
    for edge in chosen:
        edge.frozen = True
    transaction.add(abort=lambda: thaw(chosen))


def refuse_frozen(edges: Iterable[Edge]) -> None:
    """Raises FrozenAlready where a job relies on one of the edges."""
    for edge in edges:
        if edge.frozen:
            raise FrozenAlready(edge.role, edge.parent.name, edge.child.name)


def thaw(edges: Iterable[Edge]) -> None:
    for edge in edges:
        edge.frozen = False


def refuse_if_frozen(edge: Edge) -> None:
    """Raises FrozenLink where a job relies on the edge."""
    if edge.frozen and isinstance(edge.parent, Node):
        raise FrozenLink(edge.role, edge.parent.name, edge.child.name)


def set_auto_backing(transaction: Transaction, node: Node, filename: str) -> None:
    """What the node's header is to name as its backing image."""
    _set(transaction, node, auto_backing=filename)
    transaction.touched.add(node)


def set_threshold(transaction: Transaction, node: Node, threshold: WriteThreshold | None) -> None:
    """Has writes of the node watched for one that ends beyond an offset, or no longer."""
    _set(transaction, node, threshold=threshold)
    transaction.touched.add(node)


def attach_bitmap(transaction: Transaction, node: Node, bitmap: DirtyBitmap) -> None:
    """Has the node's writes noted in a bitmap."""
    if node.bitmaps.bound_by_number:
        transaction.touched.add(node)
    node.bitmaps.add(bitmap)
    transaction.add(abort=lambda: _drop_bitmap(node, bitmap))


def detach_bitmap(transaction: Transaction, node: Node, bitmap: DirtyBitmap) -> None:
    """Takes a bitmap off the node; its contents stay as they are."""
    place = node.bitmaps.remove(bitmap)
    if node.bitmaps.bound_by_number:
        transaction.touched.add(node)
    transaction.add(abort=lambda: node.bitmaps.add(bitmap, place))


def _drop_bitmap(node: Node, bitmap: DirtyBitmap) -> None:
    node.bitmaps.remove(bitmap)


def set_permissions(transaction: Transaction, edge: Edge, taken: int, shared: int) -> None:
    """What an edge takes and shares; ``refresh`` its child afterwards."""
    old = edge.taken, edge.shared
    edge.taken, edge.shared = taken, shared

    def abort() -> None:
        edge.taken, edge.shared = old

    transaction.add(abort=abort)


def top_down(nodes: Iterable[Node], within: Set[Node] | None = None) -> list[Node]:
    """``nodes`` and all below them (and in ``within``), each parent before its children.
    Iterative: chains are long."""
    order: list[Node] = []
    seen: set[Node] = set()
    for root in nodes:
        if root in seen:
            continue
        seen.add(root)
        stack = [(root, iter([e.child for e in root.children.values()]))]
        while stack:
            node, children = stack[-1]
            child = next(children, None)
            if child is None:
                order.append(node)
                stack.pop()
            elif child not in seen and (within is None or child in within):
                seen.add(child)
                stack.append((child, iter([e.child for e in child.children.values()])))
    order.reverse()
    return order


def with_all_above(nodes: Iterable[Node]) -> set[Node]:
    """``nodes`` and every node that leads to one of them."""
    found = set(nodes)
    stack = list(found)
    while stack:
        for edge in stack.pop().parents:
            if isinstance(edge.parent, Node) and edge.parent not in found:
                found.add(edge.parent)
                stack.append(edge.parent)
    return found


def reaches(start: Node, target: Node) -> bool:
    """Whether ``target`` is ``start`` or below it. Looked for from both ends, a node at a time:
    chains are long, and mostly one of the ends is near."""
    down, up = [start], [target]
    below, above = {start}, {target}
    while down and up:
        node = down.pop()
        if node is target:
            return True
        for edge in node.children.values():
            if edge.child not in below:
                below.add(edge.child)
                down.append(edge.child)
        node = up.pop()
        if node is start:
            return True
        for edge in node.parents:
            if isinstance(edge.parent, Node) and edge.parent not in above:
                above.add(edge.parent)
                up.append(edge.parent)
    return False


def _set(transaction: Transaction, node: Node, **values: Any) -> None:
    """Gives attributes other values."""
    old = {name: getattr(node, name) for name in values}
    _assign(node, values)
    transaction.add(abort=lambda: _assign(node, old))


def _assign(node: Node, values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(node, name, value)


def _link(edge: Edge) -> None:
    edge.child.parents.append(edge)
    if isinstance(edge.parent, Node):
        edge.parent.children[edge.role] = edge
    else:
        assert isinstance(edge, RootEdge)
        edge.parent.roots.append(edge)


def _unlink(edge: Edge) -> None:
    edge.child.parents.remove(edge)
    if isinstance(edge.parent, Node):
        del edge.parent.children[edge.role]
    else:
        assert isinstance(edge, RootEdge)
        edge.parent.roots.remove(edge)


def _repoint(edge: Edge, child: Node) -> None:
    edge.child.parents.remove(edge)
    edge.child = child
    child.parents.append(edge)
