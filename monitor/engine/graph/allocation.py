"""What a chain of images holds, looked at layer by layer.

    top       DDDD....ZZ......        D data, Z zeroes, . unallocated: look below
    middle    ..DDDD..DD|             shorter than the top: zeroes from here on
    base      DDDDDDDDDDDDDDDD

All of it blocks; it is called in a lane, or inside a drained section.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from monitor.engine.drivers.base import ExtentKind, Ranges
from monitor.engine.graph.node import Node


class Run(NamedTuple):
    """``length`` bytes at ``offset`` that are of one kind."""

    kind: ExtentKind
    offset: int
    length: int


def runs_of(node: Node, offset: int, length: int) -> Iterator[Run]:
    """The runs of one layer, all ``length`` bytes of them. Beyond its end a layer hides what lies
    below it, as if it held zeroes there."""
    end = offset + length
    inside = min(end, node.length())
    while offset < inside:
        for extent in node.map(offset, inside - offset):
            yield Run(extent.kind, offset, extent.length)
            offset += extent.length
    if offset < end:
        yield Run(ExtentKind.ZERO, offset, end - offset)


def reads_as_zeroes(node: Node, offset: int, length: int) -> bool:
    """Whether all of the range holds zeroes, or nothing that anything will ever show through."""
    kinds = {ExtentKind.ZERO}
    if nothing_shows_through(node):
        kinds.add(ExtentKind.UNALLOCATED)
    return all(run.kind in kinds for run in runs_of(node, offset, length))


def nothing_shows_through(node: Node) -> bool:
    """Whether what is not allocated in ``node`` will read as zeroes. It may be opened without the
    backing image that its header names, as increments are, so as not to be read while it is
    written; whoever opens it later has that image below, and zeroes must hide it."""
    return all(
        (layer.is_filter or layer.below() is None) and layer.driver.backing_filename is None
        for layer in node.chain()
    )


def runs_through(layers: Sequence[Node], offset: int, length: int) -> list[Run]:
    """The runs that ``layers`` show together, top first. Unallocated is what none of them holds.
    Filters are left out by the caller; neighbours of one kind are merged."""
    runs = [Run(ExtentKind.UNALLOCATED, offset, length)]
    for layer in layers:
        below: list[Run] = []
        for run in runs:
            if run.kind is ExtentKind.UNALLOCATED:
                below.extend(runs_of(layer, run.offset, run.length))
            else:
                below.append(run)
        runs = below
    return list(merged(runs))


def within(ranges: Ranges, runs: Sequence[Run]) -> Iterator[list[Run]]:
    """The parts of ``runs``, which cover all of ``ranges`` without a gap, that lie in each."""
    at = 0
    for offset, length in ranges:
        end = offset + length
        part: list[Run] = []
        while offset < end:
            run = runs[at]
            stop = min(end, run.offset + run.length)
            if offset < stop:
                part.append(Run(run.kind, offset, stop - offset))
                offset = stop
            else:
                at += 1
        yield part


def merged(runs: Iterable[Run]) -> Iterator[Run]:
    """Neighbours of one kind as one run."""
    last: Run | None = None
    for run in runs:
        if last is not None and last.kind is run.kind:
            last = last._replace(length=last.length + run.length)
            continue
        if last is not None:
            yield last
        last = run
    if last is not None:
        yield last


def allocated_by(node: Node, known: Mapping[Node, int | None] = MappingProxyType({})) -> int | None:
    """Host bytes in use by a node, or by what it stands on where it cannot say; None when nobody
    can. Asks the host, but for nodes that are ``known``. Raises OSError."""
    own = node.driver.allocated_bytes()
    child = node.data_child
    if own is not None or child is None:
        return own
    return known[child] if child in known else allocated_by(child, known)
