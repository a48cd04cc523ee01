"""HMP's ``commit``: an image's contents go down into its backing image while everybody waits.

    1  base   read-write for as long as it takes, and as long as the image
    2  base   <- what the image holds; flushed
    3  image  emptied, where its format can; flushed

The base is on the disk before the image is emptied, so that a crash in between loses nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from monitor.engine import permissions
from monitor.engine.drivers.base import ExtentKind
from monitor.engine.drivers.job_filters import CommitTopDriver
from monitor.engine.errors import RequestError
from monitor.engine.graph import edit
from monitor.engine.graph.allocation import runs_of
from monitor.engine.graph.blockers import Operation
from monitor.engine.graph.client import Client
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.modes import make_read_only, switch
from monitor.engine.graph.node import Node, skip_filters
from monitor.engine.graph.transaction import Transaction
from monitor.engine.jobs.carrying import CHUNK
from monitor.engine.jobs.filters import make_filter, root, take_off

_EMPTIES: Final = permissions.CONSISTENT_READ | permissions.WRITE_UNCHANGED
_WRITES: Final = permissions.WRITE | permissions.RESIZE


class CommitRefused(OSError):
    """The graph or the base refuses; ``note`` says why, which QEMU prints before the error."""

    def __init__(self, error: RequestError, code: int) -> None:
        super().__init__(code, os.strerror(code))
        self.note = error.text


async def commit_one(graph: Graph, image: Node) -> None:
    """Commits an image into its backing image. Raises OSError: ENOTSUP without a backing image,
    EBUSY while a job is at work, EACCES when the base cannot be made writable; CommitRefused. The
    caller has the turn."""
    base = image.backing
    if base is None:
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
            async with _held(graph, image, base):
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


@asynccontextmanager
async def _held(graph: Graph, image: Node, base: Node) -> AsyncIterator[None]:
    """The permission to empty the image and to write to the base. Between them is a filter: what
    the image's users want to stay as it is does, and is no reason against it. Raises
    CommitRefused."""
    client = Client()
    try:
        with Transaction() as edits:
            node = make_filter(graph, edits, base, CommitTopDriver(), None, writable=True)
            edit.point(edits, image.children["backing"], node)
            root(edits, client, "root", image, _EMPTIES, permissions.ALL)
            edit.refresh(edits, [image, node, base])
            root(edits, client, "root", base, _WRITES, permissions.ALL)
            edit.refresh(edits, [base])
            graph.commit(edits)
    except RequestError as error:
        raise CommitRefused(error, errno.EPERM) from error
    try:
        yield
    finally:
        with Transaction() as edits:
            edit.point(edits, image.children["backing"], base)
            edit.refresh(edits, [image, *take_off(edits, node, base)])
            graph.commit(edits)
        await graph.remove_client(client)
        await graph.close_unused([node])


def _carry_down(image: Node, base: Node) -> None:
    """Both are drained, so that this needs no lane."""
    length = image.length()
    if base.length() < length:
        try:
            base.truncate(length)
        except RequestError as error:
            raise CommitRefused(error, getattr(error, "errno", errno.ENOTSUP)) from error
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
