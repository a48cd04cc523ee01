"""A process that writes to an image with a bitmap, closes it and opens it again, until killed."""

from __future__ import annotations

import asyncio
import random
import sys

from monitor.engine.embedded import EmbeddedEngine
from tests.support.bitmaps import command, run


async def main(path: str, seed: int) -> None:
    chance = random.Random(seed)
    while True:
        engine = EmbeddedEngine()
        file = {"driver": "file", "filename": path}
        await run(engine, command("blockdev-add", driver="qcow2", node_name="n0", file=file))
        node = engine.graph.nodes["n0"]
        print("open", flush=True)
        for _ in range(chance.randint(1, 6)):
            node.write(
                memoryview(bytes([chance.randint(1, 255)]) * 5000), chance.randrange(1 << 20)
            )
            if chance.random() < 0.3:
                node.flush()
        await engine.shut_down()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
