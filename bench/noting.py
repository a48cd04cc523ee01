"""``python -m bench.noting``: what a dirty bitmap costs a drive's writes: without, with, in turn.

The cheapest write there is shows the most: 4 KiB at a time into a file that lies in the host's
cache. The bitmap is of 64 KiB, and soon dirty all over; then, with ``fresh``, cleared before each
round, so that every write of a new cluster is logged.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from monitor.engine import permissions
from monitor.engine.bitmap import DirtyBitmap
from monitor.engine.graph import edit
from monitor.engine.graph.client import Client, Lane
from monitor.engine.graph.edge import RootEdge
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.opening import Opening
from monitor.engine.graph.transaction import Transaction
from monitor.engine.schema.blockdev import BlockdevOptionsFile

SIZE = 256 << 20
WRITES = 20_000
ROUNDS = 9


async def main() -> None:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(bytes(SIZE))
        graph = Graph(lambda name, data: None)
        async with Opening(graph) as opening:
            node = await opening.open(BlockdevOptionsFile(filename=file.name))
            client = Client("d0")
            root = graph.add_client(client, node, permissions.WRITE, permissions.ALL)
            lane = client.lane()
            bitmap = DirtyBitmap(SIZE, 65536, "b0")
            write(root, lane)
            for fresh in (False, True):
                times: tuple[list[float], list[float]] = ([], [])
                for _ in range(ROUNDS):
                    times[0].append(write(root, lane))
                    with Transaction() as transaction:
                        edit.attach_bitmap(transaction, node, bitmap)
                        graph.commit(transaction)
                    if fresh:
                        bitmap.clear()
                    times[1].append(write(root, lane))
                    with Transaction() as transaction:
                        edit.detach_bitmap(transaction, node, bitmap)
                        graph.commit(transaction)
                without, noted = map(statistics.median, times)
                print(f"fresh={fresh}: {without:.2f} and {noted:.2f} us: {noted / without:.3f}")
            await graph.remove_client(client)


def write(root: RootEdge, lane: Lane) -> float:
    """Microseconds of the thread (other programs on the machine do not count) for a write."""
    buffer = memoryview(b"x" * 4096)
    clusters = SIZE // 4096
    began = time.thread_time()
    for number in range(WRITES):
        with lane:
            root.write(buffer, number * 7919 % clusters * 4096)
    return (time.thread_time() - began) / WRITES * 1e6


if __name__ == "__main__":
    asyncio.run(main())
