"""Breakpoints of ``blkdebug`` nodes.

They take neither the turn nor a client: whoever has the turn may be waiting for just the request
that is held.
"""

from __future__ import annotations

import asyncio
import errno

from monitor.engine.drivers.blkdebug import BlkdebugDriver
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import HostFailure, host_failure
from monitor.engine.graph.errors import DeviceOrNodeNotFound
from monitor.engine.graph.node import Node
from monitor.engine.handlers import handles
from monitor.engine.schema.base import given
from monitor.engine.schema.breakpoints import Breakpoint


@handles(Breakpoint)
async def breakpoint_request(engine: EmbeddedEngine, request: Breakpoint) -> None:
    """Raises HostFailure with qemu-io's reasons: ENOENT, and ENOTSUP without such a node."""
    graph = engine.graph
    if request.device not in graph.drives and request.device not in graph.nodes:
        raise DeviceOrNodeNotFound("", request.device)
    driver = _driver(graph.find(request.device))
    try:
        match request.operation:
            case "set":
                event = given(request.event, "")
                driver.rules.set_breakpoint(event, request.tag)
            case "remove":
                driver.rules.remove_breakpoint(request.tag)
            case "resume":
                driver.rules.resume(request.tag)
            case "wait":
                await _suspended(driver, request.tag)
    except OSError as error:
        raise host_failure("breakpoint", error) from error


def _driver(node: Node) -> BlkdebugDriver:
    """The first such driver on the way to the bytes of ``node``'s image."""
    found: Node | None = node
    while found is not None:
        if isinstance(found.driver, BlkdebugDriver):
            return found.driver
        found = found.data_child
    raise HostFailure("breakpoint", errno.ENOTSUP)


async def _suspended(driver: BlkdebugDriver, tag: str) -> None:
    loop = asyncio.get_running_loop()
    standing = asyncio.Event()

    def tell() -> None:
        loop.call_soon_threadsafe(standing.set)

    driver.rules.when_suspended(tag, tell)
    await standing.wait()
