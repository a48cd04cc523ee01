"""Snapshots while guests write: no write is lost, and none reaches an image that has been left."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading
from pathlib import Path

import pytest
from msgspec import UNSET

from monitor.engine.drivers.file.driver import FileDriver
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.graph.drive import Drive
from monitor.engine.schema.extra import CreateImage, DriveAdd, IoRequest
from monitor.engine.schema.graph import BlockdevSnapshotSync
from monitor.engine.schema.query import QueryBlock

SNAPSHOTS = 6
GUESTS = 3
PIECE = 64 << 10
PIECES = 16
"""Pieces of the disk that each guest writes, again and again; each guest has its own."""


def digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


class Held:
    """Guests' data stays in flight until a drained section has begun, and a little longer than a
    snapshot takes that does not wait for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.in_flight = 0
        self._go = threading.Event()
        self._lock = threading.Lock()
        self._over = False
        write = FileDriver.write

        def held(driver: FileDriver, buffer: memoryview, offset: int) -> None:
            if len(buffer) != PIECE or not buffer[0] == buffer[-1] != 0:  # the image's own
                write(driver, buffer, offset)
                return
            self._count(1)
            assert self._go.wait(60), "no section has begun"
            write(driver, buffer, offset)
            self._count(-1)

        monkeypatch.setattr(FileDriver, "write", held)
        monkeypatch.setattr(Drive, "gate_closed", lambda drive: self._section_begins())
        monkeypatch.setattr(Drive, "gate_opened", lambda drive: self._section_ends())

    def _count(self, more: int) -> None:
        with self._lock:
            self.in_flight += more

    def _section_begins(self, hops: int = 50) -> None:
        """Lets go a few turns of the loop later, when a section that waits has begun to."""
        loop = asyncio.get_running_loop()
        if hops:
            loop.call_soon(self._section_begins, hops - 1)
        else:
            self._go.set()

    def _section_ends(self) -> None:
        if not self._over:
            self._go.clear()

    def over(self) -> None:
        """No more sections: what is written goes through."""
        self._over = True
        self._go.set()


def test_snapshots_while_guests_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)

    async def main() -> None:
        engine = EmbeddedEngine()
        images = [tmp_path / f"{number}.qcow2" for number in range(SNAPSHOTS + 1)]
        size = GUESTS * PIECES * PIECE
        await engine.execute(CreateImage(filename=str(images[0]), format="qcow2", size=size))
        await engine.execute(DriveAdd(options=f"if=none,id=d0,format=qcow2,file={images[0]}"))
        model: dict[int, int] = {}
        over = asyncio.Event()

        async def guest(number: int) -> None:
            count = 0
            while not over.is_set():
                offset = (number * PIECES + count % PIECES) * PIECE
                pattern = count % 255 + 1
                await engine.execute(
                    IoRequest(
                        device="d0", operation="write", offset=offset, length=PIECE, pattern=pattern
                    )
                )
                model[offset] = pattern
                count += 1

        guests = [asyncio.ensure_future(guest(number)) for number in range(GUESTS)]
        left: dict[Path, bytes] = {}
        for below, image in itertools.pairwise(images):
            written = len(model)
            while held.in_flight < GUESTS and not any(g.done() for g in guests):
                await asyncio.sleep(0)
            await engine.execute(BlockdevSnapshotSync(device="d0", snapshot_file=str(image)))
            left[below] = digest(below)
            while len(model) == written < GUESTS * PIECES and not any(g.done() for g in guests):
                await asyncio.sleep(0)
        over.set()
        held.over()
        await asyncio.gather(*guests)
        await engine.shut_down()
        assert {path: digest(path) for path in left} == left

        engine = EmbeddedEngine()  # what is on the disk
        await engine.execute(DriveAdd(options=f"if=none,id=d0,format=qcow2,file={images[-1]}"))
        for offset, pattern in model.items():
            answer = await engine.execute(
                IoRequest(
                    device="d0", operation="read", offset=offset, length=PIECE, pattern=pattern
                )
            )
            assert answer.mismatch is UNSET
        (drive,) = await engine.execute(QueryBlock())
        assert drive.inserted.backing_file_depth == SNAPSHOTS
        await engine.shut_down()

    asyncio.run(main())
