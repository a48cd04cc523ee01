"""HMP's ``commit``: an image's contents go down into its backing image while everybody waits.

    1  base   read-write for as long as it takes, and as long as the image
    2  base   <- what the image holds; flushed
    3  image  emptied, where its format can; flushed

The base is on the disk before the image is emptied, so that a crash in between loses nothing.
"""

from __future__ import annotations

import errno
import os

from monitor.engine.drivers.base import ExtentKind
from monitor.engine.errors import RequestError
from monitor.engine.graph.allocation import runs_of
from monitor.engine.graph.blockers import Operation
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.graph.snapshot import make_read_only, switch
from monitor.engine.jobs.carrying import CHUNK
from monitor.engine.jobs.filters import skip_filters


async def commit_one(graph: Graph, node: Node) -> None:
    """Commits the image that ``node`` shows. Raises OSError: ENOTSUP without a backing image,
    EBUSY while a job is at work, EACCES when the base cannot be written to. The caller has the
    turn."""
    image = skip_filters(node)
    base = skip_filters(image.backing) if image is not None else None
    if image is None or base is None:
        raise _error(errno.ENOTSUP)
    if image.blocker(Operation.COMMIT_SOURCE) or base.blocker(Operation.COMMIT_TARGET):
        raise _error(errno.EBUSY)
    was_read_only = base.read_only
    async with graph.drained(image, base):
        try:
            await switch(graph, base, read_only=False)
        except (RequestError, OSError) as error:
            raise _error(errno.EACCES) from error
        try:
            await graph.in_worker(_carry_down, image, base)
        finally:
            if was_read_only:
                await make_read_only(graph, base)


async def commit_all(graph: Graph) -> None:
    """Commits every drive's image that has a backing image. The first failure ends it."""
    for drive in list(graph.drives.values()):
        image = skip_filters(drive.node)
        if image is not None and image.backing is not None:
            await commit_one(graph, image)


def _carry_down(image: Node, base: Node) -> None:
    """Both are drained, so that this needs no lane."""
    length = image.length()
    if base.length() < length:
        base.truncate(length)
    buffer = memoryview(bytearray(CHUNK))
    for run in runs_of(image, 0, length):
        if run.kind is ExtentKind.UNALLOCATED:
            continue
        if run.kind is ExtentKind.ZERO:
            base.write_zeroes(run.offset, run.length, False, False)
            continue
        end = run.offset + run.length
        for offset in range(run.offset, end, len(buffer)):
            view = buffer[: min(len(buffer), end - offset)]
            image.read(view, offset)
            base.write(view, offset)
    base.flush()
    if image.driver.make_empty():
        image.flush()


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
