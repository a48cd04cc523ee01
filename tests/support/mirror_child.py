"""A process to be killed: mirrors or commits a disk while a guest writes and flushes.

    python -m tests.support.mirror_child FOLDER JOB SEED       (ends when its input does)

JOB is ``mirror``, ``top`` (a mirror of that alone, which holds writes up), ``active`` (commit) or
``commit`` (of the middle of the chain). Both mirrors make their target. Beside what
``stream_child`` says of the guest's writes, a line each:

    ready        the event that tells that everything is on the target
    completed    the event that tells of the end
"""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

from tests.support.bench import Bench
from tests.support.stream_child import say, write_on_and_on


async def main(folder: Path, job: str, seed: int) -> None:
    bench = Bench()
    ended = asyncio.Event()
    await bench.open(folder / "top", "qcow2")

    def listen(event: Any) -> None:
        if event.name == "BLOCK_JOB_READY":
            say("ready")
            asyncio.get_running_loop().create_task(bench.do("job-complete", id="j"))
        if event.name == "BLOCK_JOB_COMPLETED":
            assert "error" not in event.data
            say("completed")
            ended.set()

    bench.engine.subscribe(listen)
    stop = threading.Event()
    guest = threading.Thread(target=write_on_and_on, args=(bench.drive, seed, stop))
    guest.start()
    match job:
        case "mirror":
            target = str(folder / "copy")
            await bench.do("drive-mirror", job_id="j", device="d0", target=target, sync="full")
        case "top":
            options = {"target": str(folder / "copy"), "sync": "top", "copy_mode": "write-blocking"}
            await bench.do("drive-mirror", job_id="j", device="d0", **options)
        case "active":
            await bench.do("block-commit", job_id="j", device="d0")
        case "commit":
            await bench.do("block-commit", job_id="j", device="d0", top=str(folder / "mid"))
    await ended.wait()
    # The guest goes on writing until the parent kills us, or has gone itself.
    await asyncio.to_thread(sys.stdin.read)
    stop.set()
    guest.join()
    await bench.engine.shut_down()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
