"""Opening nodes that are open already with other options (``blockdev-reopen``).

A node's options are replaced as a whole: one that is not given goes back to its default. What each
node gets is settled first (``plan``), for the nodes that were named and for the children that these
opened as part of themselves::

    file={…}        the child opened by the same options: they replace the child's
    file=NAME       that very child: it keeps its options, and inherits flags anew
    file=OTHER      another node takes its place; the child is left alone

Then all of it happens in one transaction, in a drained section: flags and options, other children,
permissions. Where anything is refused, everything is as it was. The order of the checks is QEMU's,
and so is which of several options a refusal names (the order of its dictionaries).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET

from monitor.engine.drivers.base import OpenFlags
from monitor.engine.errors import RequestError
from monitor.engine.graph import edit
from monitor.engine.graph.edge import Edge
from monitor.engine.graph.errors import CannotReopen, CopiesOnRead, NoBackingPossible
from monitor.engine.graph.flags import check_detect_zeroes, flags_of, for_backing, for_file
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.graph.snapshot import check_depth
from monitor.engine.graph.transaction import Transaction
from monitor.engine.schema.base import fields_of
from monitor.engine.schema.blockdev import BlockdevOptions
from monitor.wire.qmpjson import member_order

CHANGEABLE = frozenset({
    "discard", "detect-zeroes", "cache.direct", "cache.no-flush", "read-only", "auto-read-only",
})  # fmt: skip
"""Options that every node may be given anew; a driver names its own (``Driver.changeable``)."""

REPLACEABLE = ("backing", "file")
"""Children that may be exchanged for others, in the order in which they are."""


class NodeNameNotSpecified(RequestError):
    template = "node-name not specified"


class CannotReset(RequestError):
    template = "Option '{option}' cannot be reset to its default value"
    option: str


class CannotChange(RequestError):
    template = "Cannot change the option '{option}'"
    option: str


class PreparingFailed(RequestError):
    template = "failed while preparing to reopen image '{filename}'"
    filename: str


class FlushFailed(RequestError):
    template = "Error flushing drive"


class BackingMissing(RequestError):
    template = "backing is missing for '{node}'"
    node: str


class NoSuchChildOfFilter(RequestError):
    template = "'{node}' is a {driver} filter node that does not support a {role} child"
    node: str
    driver: str
    role: str


class ImplicitChild(RequestError):
    template = "Cannot replace implicit {role} child of {node}"
    role: str
    node: str


class WritersStay(RequestError):
    template = "Read-only block node '{node}' cannot support read-write users"
    node: str


@dataclass
class Change:
    """What a node is to become."""

    node: Node
    options: BlockdevOptions
    flags: OpenFlags
    keeps: bool
    """The node keeps its options, and only inherits others."""
    earlier: BlockdevOptions | None = None
    """Options of another driver that the same request gave the node before."""

    @property
    def is_other_driver(self) -> bool:
        return type(self.options) is not type(self.node.options)


class Reopening:
    """One request's nodes, made other nodes together or not at all."""

    def __init__(self, graph: Graph, options: Iterable[BlockdevOptions]) -> None:
        """Raises RequestError for a node that is not named, or not there."""
        self._graph = graph
        self._changes: dict[Node, Change] = {}
        self._left: list[Node] = []
        """Children that others took the place of."""
        for given in options:
            if given.node_name is UNSET:
                raise NodeNameNotSpecified()
            self._plan(graph.find_node(str(given.node_name)), given)

    # -- what is to become of each node ------------------------------------------------------

    def _plan(self, named: Node, given: BlockdevOptions) -> None:
        """Iterative: a kept backing chain may be long."""
        own = OpenFlags(unmap=named.flags.unmap, force_share=named.flags.force_share)
        stack: list[tuple[Node, BlockdevOptions | None, OpenFlags]] = [(named, given, own)]
        while stack:
            node, options, inherited = stack.pop()
            change = self._change(node, options, inherited)
            self._changes[node] = change
            stack.extend(reversed(list(self._parts(change))))

    def _change(self, node: Node, options: BlockdevOptions | None, inherited: OpenFlags) -> Change:
        before = self._changes.get(node)
        keeps = options is None
        if options is None:
            options = before.options if before else node.options
        elif before is not None:
            options = _joined(options, before.options)
        earlier = before.options if before and type(before.options) is not type(options) else None
        return Change(node, options, flags_of(options, inherited), keeps, earlier)

    def _parts(self, change: Change) -> Iterable[tuple[Node, BlockdevOptions | None, OpenFlags]]:
        """The node's own children that change with it, with the options that each gets."""
        for role, edge in change.node.children.items():
            child = edge.child
            if child.inherits_from is not change.node:
                continue
            given = _reference(change.options, role)
            hand_down = for_backing if role == "backing" else for_file
            if change.keeps or given == child.name:
                yield child, None, hand_down(change.flags)
            elif isinstance(given, BlockdevOptions):
                yield child, given, hand_down(change.flags)

    # -- carrying it out ---------------------------------------------------------------------

    async def carry_out(self) -> None:
        """With the turn. Raises RequestError, and everything is as it was."""
        graph = self._graph
        self._writable = {node.name for node in self._changes if not node.read_only}
        async with graph.drained(*self._changes):
            await self._flush()
            with Transaction() as transaction:
                for change in self._changes.values():
                    await self._prepare(transaction, change)
                self._refresh(transaction)
                graph.commit(transaction)
            await self._mark_bitmaps()
        await graph.close_unused(self._left)

    async def _flush(self) -> None:
        for node in self._changes:
            if node.read_only:
                continue
            try:
                await self._graph.in_worker(node.flush)
            except OSError as error:
                raise FlushFailed() from error

    async def _mark_bitmaps(self) -> None:
        """As QEMU does at once for nodes that are read-write now. Where it fails it is tried again
        before the first change, which then fails too."""
        for node in self._changes:
            if node.driver.bitmaps_unmarked:
                with contextlib.suppress(OSError):
                    await self._graph.in_worker(node.driver.mark_bitmaps)

    async def _prepare(self, transaction: Transaction, change: Change) -> None:
        node, options, flags = change.node, change.options, change.flags
        detect = check_detect_zeroes(options, flags)
        if not node.driver.reopens:
            raise CannotReopen(node.driver.name, node.name)
        if flags.read_only and node.copy_on_read is not None:
            raise CopiesOnRead(node.user_name())
        _refuse_reset(change)
        prepared = None
        if not change.is_other_driver:  # else it is refused below
            try:
                prepared = await self._graph.in_worker(node.driver.prepare_reopen, flags, options)
            except OSError as error:
                raise PreparingFailed(node.filename) from error
        edit.set_flags(transaction, node, flags, prepared)
        _refuse_missing_backing(change)
        if not change.keeps:
            for role in REPLACEABLE:
                self._exchange(transaction, node, role, _reference(options, role))
        _refuse_change(change)
        edit.set_options(transaction, node, options, detect)

    def _exchange(self, transaction: Transaction, node: Node, role: str, given: Any) -> None:
        """Another child in the place of the one that ``node`` has, or none (null)."""
        if given is not None and not isinstance(given, str):
            return
        edge = node.children.get(role)
        old = edge.child if edge else None
        new = None if given is None else self._graph.find_either(None, given)
        if new is not None and edit.reaches(new, node):
            raise edit.CyclicGraph(new.name, role, node.name)
        if old is new:
            return
        if old is not None and old.implicit:
            if old.below() is new:
                return
            raise ImplicitChild(role, node.name)
        if node.is_filter and old is None:
            raise NoSuchChildOfFilter(node.name, node.driver.name, role)
        if edge is not None:
            edit.refuse_if_frozen(edge)
        if role == "backing" and not node.driver.supports_backing:
            raise NoBackingPossible(node.driver.name, node.name)
        if new is not None and role == "backing":
            check_depth(self._graph, new)
        self._replace(transaction, node, role, edge, new)

    def _replace(
        self, transaction: Transaction, node: Node, role: str, edge: Edge | None, new: Node | None
    ) -> None:
        if edge is not None:
            self._left.append(edge.child)
            if edge.child.inherits_from is node:
                edit.set_inherits_from(transaction, edge.child, None)
        if new is not None and edge is not None:
            edit.point(transaction, edge, new)
        elif new is not None:
            attached = edit.attach(transaction, node, role, new)
            transaction.add(commit=lambda: node.driver.attach_backing(attached))
        elif edge is not None:
            edit.detach(transaction, edge)
            transaction.add(commit=lambda: node.driver.attach_backing(None))
        if new is not None and _inherits(new, node):
            edit.set_inherits_from(transaction, new, node)

    def _refresh(self, transaction: Transaction) -> None:
        """Permissions; for a node that was writable, a refusal says that its users still write."""
        try:
            edit.refresh(transaction, [*self._changes, *self._left])
        except edit.NodeIsReadOnly as error:
            if error.node in self._writable:
                raise WritersStay(error.node) from error
            raise


# -- options, by their names ----------------------------------------------------------------


def _reference(options: BlockdevOptions, role: str) -> Any:
    """What the options say of a child: a name, options, null, or nothing (UNSET)."""
    return getattr(options, role.replace("-", "_"), UNSET)


def _flat(options: BlockdevOptions, roles: Sequence[str] = ()) -> dict[str, Any]:
    """The options that were given by their dotted names, without those of the children."""
    flat: dict[str, Any] = {"driver": options.__struct_config__.tag}
    _flatten(flat, "", options, roles)
    return flat


def _given(change: Change, roles: Sequence[str] = ()) -> dict[str, Any]:
    earlier = _flat(change.earlier, roles) if change.earlier is not None else {}
    return _ordered(earlier | _flat(change.options, roles))


def _ordered(flat: dict[str, Any]) -> dict[str, Any]:
    """In the order in which QEMU looks at them."""
    return {name: flat[name] for name in member_order(flat)}


def _flatten(
    flat: dict[str, Any], prefix: str, options: msgspec.Struct, roles: Sequence[str] = ()
) -> None:
    for field in fields_of(type(options)):
        value = getattr(options, field.attribute)
        if value is UNSET or (not prefix and field.name in roles):
            continue
        if isinstance(value, BlockdevOptions):
            flat[f"{prefix}{field.name}.driver"] = value.__struct_config__.tag
        _flatten_value(flat, prefix + field.name, value)


def _flatten_value(flat: dict[str, Any], name: str, value: Any) -> None:
    """The elements of lists are options of their own, by their numbers."""
    if isinstance(value, list):
        for index, element in enumerate(value):
            _flatten_value(flat, f"{name}.{index}", element)
    elif isinstance(value, msgspec.Struct):
        _flatten(flat, f"{name}.", value)
    else:
        flat[name] = value


def _joined(options: BlockdevOptions, before: BlockdevOptions) -> BlockdevOptions:
    """``options``, and what only ``before`` has."""
    if type(options) is not type(before):
        return options
    kept = {
        field.attribute: getattr(before, field.attribute)
        for field in fields_of(type(options))
        if getattr(options, field.attribute) is UNSET
    }
    joined: BlockdevOptions = msgspec.structs.replace(options, **kept)
    return joined


def _roles(node: Node) -> Sequence[str]:
    return tuple(dict.fromkeys((*node.driver.child_roles, "backing", *node.children)))


def _refuse_reset(change: Change) -> None:
    """An option that the node was opened with stays, unless it can have its default again."""
    node = change.node
    given = _given(change)
    for name in _ordered(_flat(node.options, _roles(node))):
        resettable = name == "node-name" or name in CHANGEABLE or name in node.driver.changeable
        if name not in given and not resettable:
            raise CannotReset(name)


def _refuse_missing_backing(change: Change) -> None:
    """Whether the backing image is to stay has to be said."""
    node = change.node
    if change.keeps or not node.driver.supports_backing:
        return
    has_one = node.backing is not None or node.driver.backing_filename
    if has_one and _reference(change.options, "backing") is UNSET:
        raise BackingMissing(node.name)


def _refuse_change(change: Change) -> None:
    """What cannot be changed has the value that it had."""
    node = change.node
    before = _flat(node.options, _roles(node))
    done = {role for role in _roles(node) if _is_settled(change, role)}
    for name, value in _given(change, tuple(done)).items():
        if name in CHANGEABLE or name in node.driver.changeable:
            continue
        # QEMU compares force-share as a word with what it keeps as a boolean: never the same.
        if name == "force-share" or not _same(before.get(name, UNSET), value):
            raise CannotChange(name)


def _same(before: Any, value: Any) -> bool:
    return type(before) is type(value) and bool(before == value)


def _is_settled(change: Change, role: str) -> bool:
    """Whether what the options say of a child has been done, or changes nothing."""
    given = _reference(change.options, role)
    edge = change.node.children.get(role)
    if change.keeps:
        return True
    if isinstance(given, BlockdevOptions):
        return edge is not None and edge.child.inherits_from is change.node
    return role in REPLACEABLE or (edge is not None and edge.child.name == given)


def _inherits(node: Node, parent: Node) -> bool:
    """Whether ``parent``, or one that it opened in turn, opened ``node``."""
    above = node.inherits_from
    while above is not None and above is not parent:
        above = above.inherits_from
    return above is parent


__all__ = ["Reopening"]
