"""A process that backs a disk up again and again while guests write, and then quits, or dies.

    python -m tests.support.backup_child FOLDER FIRST COUNT END

``FOLDER/disk.qcow2`` is backed up COUNT times: by increments on what backup FIRST - 1 has left, or
as a whole where the bitmap cannot be trusted. Backup N is ``FOLDER/N.qcow2``, the disk at its
beginning ``FOLDER/N.raw``. END is ``quit``, or ``crash``: guests write yet, and nothing is closed.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading

from monitor.engine import permissions
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.graph.client import Client
from monitor.engine.graph.drive import Drive
from monitor.engine.graph.node import Node
from monitor.engine.schema.backup import DriveBackup
from monitor.engine.schema.bitmap import BlockDirtyBitmapAdd, BlockDirtyBitmapRemove
from monitor.engine.schema.blockdev import BlockdevOptionsFile, BlockdevOptionsQcow2
from monitor.engine.schema.extra import CreateImage
from monitor.engine.schema.graph import BlockdevAdd


def write_on_and_on(drive: Drive, seed: int, stop: threading.Event, busy: threading.Event) -> None:
    chance = random.Random(seed)
    lane, root = drive.lane(), drive.roots[0]
    count = 0
    while not stop.is_set():
        offset = chance.randrange(root.length() // 512) * 512
        length = min(chance.choice([512, 4096, 65536, 200_000]), root.length() - offset)
        with lane:
            if chance.random() < 0.8:
                root.write(memoryview(chance.randbytes(length)), offset)
            else:
                root.write_zeroes(offset, length, True, False)
        count += 1
        if count == 5:
            busy.set()
    with lane:
        root.flush()
    drive.drop_lane(lane)


async def back_up(engine: EmbeddedEngine, folder: str, number: int, node: Node, full: bool) -> None:
    target = os.path.join(folder, f"{number}.qcow2")
    below = None if full else f"{number - 1}.qcow2"
    fmt = {} if full else {"backing_format": "qcow2"}
    await engine.execute(
        CreateImage(filename=target, format="qcow2", size=node.length(), backing_file=below, **fmt)
        if below
        else CreateImage(filename=target, format="qcow2", size=node.length())
    )
    admit = engine.graph.admit

    def keep(client: Client) -> None:
        """The disk at the beginning: drained, so nobody writes."""
        seen = bytearray(node.length())
        node.driver.read(memoryview(seen), 0)
        with open(os.path.join(folder, f"{number}.raw"), "wb") as file:
            file.write(seen)
        admit(client)

    engine.graph.admit = keep  # type: ignore[method-assign]
    try:
        await engine.execute(
            DriveBackup(
                job_id="b",
                device="d0",
                target=target,
                format="qcow2",
                mode="existing",
                sync="full" if full else "incremental",
                bitmap="m",
                bitmap_mode="on-success",
                auto_dismiss=False,
            )
        )
    finally:
        engine.graph.admit = admit  # type: ignore[method-assign]
    ended = await engine.job_ended("b")
    assert ended.error is None, ended
    job = engine.job_table.find("b")
    assert job
    await engine.job_table.dismiss(job)


async def main(folder: str, first: int, count: int, end: str) -> None:
    engine = EmbeddedEngine()
    file = BlockdevOptionsFile(filename=os.path.join(folder, "disk.qcow2"))
    await engine.execute(BlockdevAdd(options=BlockdevOptionsQcow2(node_name="disk", file=file)))
    node = engine.graph.nodes["disk"]
    drive = Drive("d0")
    taken = permissions.CONSISTENT_READ | permissions.WRITE
    engine.graph.add_client(drive, node, taken, permissions.ALL)
    engine.graph.drives["d0"] = drive
    bitmap = node.bitmaps.get("m")
    full = bitmap is None or bitmap.inconsistent
    if bitmap is not None and full:
        await engine.execute(BlockDirtyBitmapRemove(node="disk", name="m"))
    if full:
        await engine.execute(BlockDirtyBitmapAdd(node="disk", name="m", persistent=True))
    for number in range(first, first + count):
        stop, busy = threading.Event(), threading.Event()
        guest = threading.Thread(target=write_on_and_on, args=(drive, number, stop, busy))
        guest.start()
        await asyncio.to_thread(busy.wait)
        await back_up(engine, folder, number, node, full and number == first)
        if end == "crash" and number == first + count - 1:
            print("full" if full else "increments", flush=True)
            os._exit(9)
        stop.set()
        guest.join()
    print("full" if full else "increments", flush=True)
    await engine.shut_down()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
