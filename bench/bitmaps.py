"""Rows about dirty bitmaps: of a disk of 16 TiB, a bit for each 64 KiB."""

from __future__ import annotations

import time
from pathlib import Path

from bench.sessions import Session, qcow2, run
from bench.work import row

TIB = 1 << 40
GRANULARITY = 65536


def make_image(path: Path) -> None:
    """An empty image of 16 TiB that keeps two bitmaps, each dirty at a million places and in one
    piece of 1 TiB."""
    import random

    from monitor.engine.bitmap import DirtyBitmap
    from monitor.engine.drivers.base import OpenContext, OpenFlags
    from monitor.engine.drivers.qcow2 import CreateOptions, Qcow2Driver, create_image
    from monitor.engine.graph.recorders import Bitmaps
    from monitor.engine.schema.blockdev import BlockdevOptionsQcow2
    from tests.support.children import MemoryChild

    file = MemoryChild()
    create_image(file, CreateOptions(size=16 * TIB))
    driver = Qcow2Driver()
    driver.bitmaps = bitmaps = Bitmaps()
    driver.open(OpenContext(BlockdevOptionsQcow2(file=""), OpenFlags(), "n", {"file": file}))
    chance = random.Random(1)
    for number, name in enumerate("ab"):
        bitmap = DirtyBitmap(16 * TIB, GRANULARITY, name)
        bitmap.persistent = True
        bitmap.set(number * TIB, TIB)
        for _ in range(1 << 20):
            bitmap.set(chance.randrange(16 * TIB), 1)
        bitmaps.add(bitmap)
    driver.close()
    path.write_bytes(file.content)


_IMAGE: list[bytes] = []


def _open(session: Session, folder: Path) -> None:
    if not _IMAGE:
        make_image(folder / "made.qcow2")
        _IMAGE.append((folder / "made.qcow2").read_bytes())
    (folder / "d.qcow2").write_bytes(_IMAGE[0])
    session.do("blockdev-add", node_name="d", **qcow2("d.qcow2"))


@row("merge of two bitmaps of 16 TiB at 64 KiB", goal="0.1", stretch="0.03")
def merge(command: tuple[str, ...], folder: Path) -> float:
    with Session(command, folder) as session:
        _open(session, folder)
        began = time.perf_counter()
        for _ in range(10):
            session.do("block-dirty-bitmap-merge", node="d", target="a", bitmaps=["b"])
        return (time.perf_counter() - began) / 10


@row("memory of one bitmap of 16 TiB at 64 KiB", unit="MiB", goal="0.1", stretch="0.02")
def memory(command: tuple[str, ...], folder: Path) -> float:
    """Half of what comes with an image that keeps two, after another image has been opened."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "first.qcow2", "16T", folder=folder)
    run("qemu-img", "bitmap", "--add", "first.qcow2", "c", "-g", "2G", folder=folder)
    with Session(command, folder) as session:
        session.do("blockdev-add", node_name="first", **qcow2("first.qcow2"))
        before = session.memory()
        _open(session, folder)
        return (session.memory() - before) / 2 / (1 << 20)
