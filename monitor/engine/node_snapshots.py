"""Internal snapshots of nodes: who can have them, finding, making and deleting them.

A node whose driver keeps none (a filter, raw) passes the question to the node that holds its data,
as QEMU does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from monitor.engine.drivers.base import NewSnapshot
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError, host_failure
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.transaction import Actions

Info = dict[str, Any]
"""A snapshot in QMP's shape (``SnapshotInfo``)."""


MAX_NAME = 255
"""Bytes of a name that are kept, as in QEMU."""


def cut_name(name: str) -> str:
    """As much of a snapshot's name as is kept."""
    return name.encode("utf-8", "surrogateescape")[:MAX_NAME].decode("utf-8", "ignore")


def keeper(node: Node) -> Node | None:
    """The node whose image keeps the snapshots of ``node``; None where none can."""
    below: Node | None = node
    while below is not None and not below.driver.can_snapshot:
        below = below.data_child
    return below


def writable_disks(graph: Graph) -> Iterator[Node]:
    """The nodes that ``savevm`` means: drives' first, then what lies on no other node and the
    monitor opened; all that can be written."""
    drives = [drive.node for drive in graph.drives.values() if drive.node is not None]
    loose = [node for node in graph.nodes.values() if node.monitor_owned and not node.parents]
    for node in dict.fromkeys([*drives, *loose]):
        if not node.read_only:
            yield node


def find(snapshots: list[Info], identity: str | None, name: str | None) -> int | None:
    """The number of the first snapshot with this id and this name; None of them is any."""
    for number, info in enumerate(snapshots):
        if identity in (None, info["id"]) and name in (None, info["name"]):
            return number
    return None


async def create(engine: EmbeddedEngine, actions: Actions, node: Node, name: str) -> None:
    """A step of a transaction in which the node that keeps its snapshots is drained, and with it
    all above. Raises OSError."""
    graph, held = engine.graph, keeper(node)
    assert held is not None
    seconds, micros = divmod(round(engine.clock.wall() * 1_000_000), 1_000_000)
    wanted = NewSnapshot(name, seconds, micros * 1000)
    driver = held.driver
    identity = await graph.in_worker(driver.create_snapshot, wanted)

    async def undo() -> None:
        number = find(driver.snapshots(), identity, name)
        try:
            if number is not None:
                await graph.in_worker(driver.delete_snapshot, number)
        except (RequestError, OSError) as error:
            text = (
                f"Failed to delete snapshot with id '{identity}' and name '{name}' on device "
                f"'{node.device_name()}' in abort: {_reason(error)}"
            )
            engine.emit("X_BLKMON_NOTE", {"text": text})

    actions.add(abort=undo)
    actions.says(f"snapshot '{name}' in '{node.user_name()}'")


async def delete(graph: Graph, held: Node, number: int) -> Info:
    """Deletes it; what it was. Raises RequestError."""
    driver = held.driver
    info = driver.snapshots()[number]
    try:
        await graph.in_worker(driver.delete_snapshot, number)
    except OSError as error:
        raise host_failure("Failed to remove snapshot from snapshot list", error) from error
    return info


def _reason(error: RequestError | OSError) -> str:
    return error.text if isinstance(error, RequestError) else (error.strerror or str(error))
