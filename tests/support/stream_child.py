"""A process to be killed: streams a chain while a guest writes and flushes.

    python -m tests.support.stream_child FOLDER SEED SPEED       (ends when its input does)

Says on standard output, a line each, what a parent may rely on:

    begin OFFSET LENGTH BYTE     a write is about to be made
    done                         it is flushed: from here on it must never be lost
    at PERCENT                   progress of the stream
    completed                    the event that tells of the end
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import threading

from monitor.engine import permissions
from monitor.engine.api import Event
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import JobNotActive
from monitor.engine.graph.drive import Drive
from monitor.engine.schema.blockdev import BlockdevOptionsFile, BlockdevOptionsQcow2
from monitor.engine.schema.graph import BlockdevAdd
from monitor.engine.schema.stream import BlockStream


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def write_on_and_on(drive: Drive, seed: int, stop: threading.Event) -> None:
    chance = random.Random(seed)
    lane, root = drive.lane(), drive.roots[0]
    while not stop.is_set():
        offset = chance.randrange(root.length() // 512) * 512
        length = min(chance.choice([512, 4096, 65536, 200_000]), root.length() - offset)
        byte = chance.randrange(256)
        say("begin", offset, length, byte)
        with lane:
            if byte:
                root.write(memoryview(bytes([byte]) * length), offset)
            else:
                root.write_zeroes(offset, length, True, False)
            root.flush()
        say("done")
        stop.wait(0.01)


def read_on_and_on(drive: Drive, seed: int, stop: threading.Event) -> None:
    """What is read through the stream's filter is filled too."""
    chance = random.Random(seed)
    lane, root = drive.lane(), drive.roots[0]
    buffer = memoryview(bytearray(300_000))
    while not stop.is_set():
        with lane:
            root.read(buffer, chance.randrange(root.length() - len(buffer)))
        stop.wait(0.01)


async def main(folder: str, seed: int, speed: int) -> None:
    engine = EmbeddedEngine()
    file = BlockdevOptionsFile(filename=os.path.join(folder, "top"))
    await engine.execute(BlockdevAdd(options=BlockdevOptionsQcow2(node_name="top", file=file)))
    drive = Drive("guest")
    taken = permissions.CONSISTENT_READ | permissions.WRITE
    engine.graph.add_client(drive, engine.graph.nodes["top"], taken, permissions.ALL)
    ended = asyncio.Event()

    def listen(event: Event) -> None:
        if event.name == "BLOCK_JOB_COMPLETED":
            say("completed", event.data.get("error", ""))
            ended.set()

    engine.subscribe(listen)
    stop = threading.Event()
    guests = [
        threading.Thread(target=target, args=(drive, seed, stop))
        for target in (write_on_and_on, read_on_and_on)
    ]
    for guest in guests:
        guest.start()
    await engine.execute(BlockStream(job_id="s0", device="top", speed=speed))
    with contextlib.suppress(JobNotActive):
        while not ended.is_set():
            snapshot = await engine.step("s0")
            say("at", int(snapshot.fraction * 100))
    # The guest goes on writing until the parent kills us, or has gone itself.
    await asyncio.to_thread(sys.stdin.read)
    stop.set()
    for guest in guests:
        guest.join()
    await engine.shut_down()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
