"""Requests on one node as it stands: its write threshold, its link to the backing image."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError, host_failure
from monitor.engine.graph import edit
from monitor.engine.graph.blockers import Operation
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.modes import switch
from monitor.engine.graph.node import Node
from monitor.engine.graph.threshold import WriteThreshold
from monitor.engine.graph.transaction import Transaction
from monitor.engine.handlers import handles
from monitor.engine.schema.node import BlockPasswd, BlockSetWriteThreshold, ChangeBackingFile


class NoSuchDevice(RequestError):
    """As DeviceNotFound, which has a QMP class of its own."""

    template = "Device '{name}' not found"
    name: str


class NothingBelow(RequestError):
    template = "not allowing backing file change on an image without a backing file"
    node: str


class NotInChain(RequestError):
    template = "'{device}' and image file are not in the same chain"
    device: str


class PasswordsAreGone(RequestError):
    template = "Setting block passwords directly is no longer supported"


@handles(BlockSetWriteThreshold)
async def block_set_write_threshold(
    engine: EmbeddedEngine, request: BlockSetWriteThreshold
) -> None:
    graph = engine.graph
    async with graph.turn:
        node = graph.nodes.get(request.node_name)
        if node is None:
            raise NoSuchDevice(request.node_name)
        offset = request.write_threshold
        async with graph.drained(node):
            with Transaction() as transaction:
                edit.set_threshold(
                    transaction, node, WriteThreshold(offset, node, graph.emit) if offset else None
                )
                graph.commit(transaction)


@handles(ChangeBackingFile)
async def change_backing_file(engine: EmbeddedEngine, request: ChangeBackingFile) -> None:
    graph = engine.graph
    async with graph.turn:
        top = graph.find_root(request.device)
        image = graph.find_either(None, request.image_node_name)
        if image.below() is None:
            raise NothingBelow(image.name)
        graph.refuse_if_busy(top, Operation.CHANGE)
        if image not in top.chain():
            raise NotInChain(request.device)
        async with _writable(graph, image):
            try:
                await graph.in_worker(_write_link, image, request.backing_file)
            except OSError as error:
                what = f"Could not change backing file to '{request.backing_file}'"
                raise host_failure(what, error) from error
            image.auto_backing = request.backing_file
            async with graph.drained(image):
                with Transaction() as transaction:
                    transaction.touched.add(image)  # its own name may tell of the link
                    graph.commit(transaction)


def _write_link(image: Node, backing_file: str) -> None:
    """The format that is written is the image's own, as QEMU has it."""
    image.driver.set_backing(backing_file, image.driver.name)


@asynccontextmanager
async def _writable(graph: Graph, image: Node) -> AsyncIterator[None]:
    """A read-only image is read-write inside."""
    if not image.read_only:
        yield
        return
    await switch(graph, image, read_only=False)
    try:
        yield
    finally:
        await switch(graph, image, read_only=True)


@handles(BlockPasswd)
async def block_passwd(engine: EmbeddedEngine, request: BlockPasswd) -> None:
    raise PasswordsAreGone()
