"""blockdev-reopen: what it changes is seen by requests, and a refused one changes nothing.

Its texts and the state afterwards are held against qemu-storage-daemon's in
tests/interop/test_same_qmp.py (cases ``reopen: …``).
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from monitor.engine import permissions
from monitor.engine.drivers.base import OpenFlags
from monitor.engine.drivers.qcow2.driver import Qcow2Driver
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.graph import edit
from monitor.engine.graph.client import Client
from monitor.engine.graph.transaction import Transaction
from monitor.engine.schema.base import request_types
from monitor.engine.schema.decode import decode
from monitor.engine.schema.extra import CreateImage, IoRequest
from tests.support.graphs import run, shape

SIZE = 1 << 20
CLUSTER = 64 << 10


async def ask(engine: EmbeddedEngine, command: str, **arguments: Any) -> Any:
    spelt = {name.replace("_", "-"): value for name, value in arguments.items()}
    return await engine.execute(decode(request_types()[command], spelt))


async def reopen(engine: EmbeddedEngine, *options: dict[str, Any]) -> None:
    await ask(engine, "blockdev-reopen", options=list(options))


async def fill(engine: EmbeddedEngine, node: str, pattern: int) -> None:
    await engine.execute(
        IoRequest(device=node, operation="write", offset=0, length=CLUSTER, pattern=pattern)
    )


async def shows(engine: EmbeddedEngine, node: str, pattern: int) -> bool:
    answer = await engine.execute(
        IoRequest(device=node, operation="read", offset=0, length=CLUSTER, pattern=pattern)
    )
    return answer.mismatch is msgspec.UNSET


def image(folder: Path, name: str, **options: Any) -> dict[str, Any]:
    """Options of a qcow2 node that is called as its file."""
    file = {"driver": "file", "filename": str(folder / name)}
    spelt = {key.replace("_", "-"): value for key, value in options.items()}
    return {"driver": "qcow2", "node-name": name, "file": file, **spelt}


async def images(folder: Path, *names: str) -> EmbeddedEngine:
    """An engine with a qcow2 node for each name, filled with 1, 2, …"""
    engine = EmbeddedEngine()
    for pattern, name in enumerate(names, 1):
        await engine.execute(CreateImage(filename=str(folder / name), format="qcow2", size=SIZE))
        await ask(engine, "blockdev-add", **image(folder, name))
        await fill(engine, name, pattern)
    return engine


def test_another_backing_image_shows(tmp_path: Path) -> None:
    async def work() -> None:
        engine = await images(tmp_path, "a", "b")
        await engine.execute(CreateImage(filename=str(tmp_path / "top"), format="qcow2", size=SIZE))
        await ask(engine, "blockdev-add", **image(tmp_path, "top", backing="a"))
        assert await shows(engine, "top", 1)
        await reopen(engine, image(tmp_path, "top", backing="b"))
        assert await shows(engine, "top", 2)
        await reopen(engine, image(tmp_path, "top", backing=None))
        assert await shows(engine, "top", 0)
        assert not engine.graph.nodes["b"].parents
        await reopen(engine, image(tmp_path, "top", backing="a"))
        assert await shows(engine, "top", 1)
        await engine.shut_down()

    run(work())


def test_backing_options_need_no_file(tmp_path: Path) -> None:
    """Neither when the header names one."""

    async def work() -> None:
        engine = EmbeddedEngine()
        link = {"backing_file": str(tmp_path / "a"), "backing_format": "qcow2"}
        for name, backing in (("a", {}), ("top", link)):
            await engine.execute(
                CreateImage(filename=str(tmp_path / name), format="qcow2", size=SIZE, **backing)
            )
        null = {"driver": "null-co", "node-name": "z"}
        await ask(engine, "blockdev-add", **image(tmp_path, "top", backing=null))
        assert engine.graph.nodes["top"].backing is engine.graph.nodes["z"]
        await engine.shut_down()

    run(work())


def test_nothing_to_reopen() -> None:
    async def work() -> None:
        await reopen(EmbeddedEngine())

    run(work())


def test_an_image_that_nothing_uses_any_more_is_closed(tmp_path: Path) -> None:
    async def work() -> None:
        engine = await images(tmp_path, "a")
        await engine.execute(
            CreateImage(
                filename=str(tmp_path / "top"),
                format="qcow2",
                size=SIZE,
                backing_file=str(tmp_path / "a"),
                backing_format="qcow2",
            )
        )
        await ask(engine, "blockdev-del", node_name="a")
        await ask(engine, "blockdev-add", **image(tmp_path, "top"))
        assert len(engine.graph.nodes) == 4
        await reopen(engine, image(tmp_path, "top", backing=None))
        assert len(engine.graph.nodes) == 2
        await engine.shut_down()

    run(work())


def test_another_part_of_the_file_shows(tmp_path: Path) -> None:
    async def work() -> None:
        engine = EmbeddedEngine()
        (tmp_path / "a.img").write_bytes(bytes([1]) * CLUSTER + bytes([2]) * CLUSTER)
        file = {"driver": "file", "filename": str(tmp_path / "a.img")}
        raw = {"driver": "raw", "node-name": "r", "file": file}
        await ask(engine, "blockdev-add", **raw)
        assert await shows(engine, "r", 1)
        await reopen(engine, {**raw, "offset": CLUSTER})
        assert await shows(engine, "r", 2)
        assert engine.graph.nodes["r"].length() == CLUSTER
        await reopen(engine, raw)
        assert await shows(engine, "r", 1)
        await engine.shut_down()

    run(work())


def test_lazy_refcounts_end_with_the_option(tmp_path: Path) -> None:
    """Counts that wait are written before nobody waits for them any more."""

    def dirty() -> bool:
        return bool((tmp_path / "a").read_bytes()[79] & 1)  # the incompatible features' last byte

    async def work() -> None:
        engine = await images(tmp_path, "a")
        await reopen(engine, image(tmp_path, "a", lazy_refcounts=True))
        await engine.execute(
            IoRequest(device="a", operation="write", offset=CLUSTER, length=CLUSTER, pattern=9)
        )
        assert dirty()
        await reopen(engine, image(tmp_path, "a"))
        assert not dirty()
        await fill(engine, "a", 8)
        await engine.shut_down()
        assert not dirty()

    run(work())


def reopening(folder: Path, case: str) -> list[dict[str, Any]]:
    """Options of which the last are refused, at different stages."""
    fine = image(folder, "a", backing=None, read_only=True, detect_zeroes="on", cache_size=1 << 20)
    return {
        "an option that stays": [fine, image(folder, "b", force_share=True)],
        "a bad option of the driver": [fine, image(folder, "b", l2_cache_entry_size=3)],
        "another file": [fine, image(folder, "b") | {"file": {"driver": "file", "filename": "x"}}],
        "a loop": [image(folder, "a", backing="b"), image(folder, "b", backing="a")],
        "a backing image in use for writing": [image(folder, "b", backing="written")],
        "read-only below a writer": [fine, image(folder, "written", read_only=True)],
        "a frozen link": [fine, image(folder, "frozen", backing="b")],
        "a broken disk": [fine, image(folder, "b", read_only=True)],
    }[case]


TEXTS = {
    "an option that stays": "Cannot change the option 'force-share'",
    "a bad option of the driver": "L2 cache entry size must be a power of two between 512 and the "
    "cluster size (65536)",
    "another file": "Cannot change the option 'filename'",
    "a loop": "Making 'a' a backing child of 'b' would create a cycle",
    "a backing image in use for writing": "Permission conflict on node 'written': permissions "
    "'write' are both required by an unnamed block device (uses node 'written' as 'root' child) "
    "and unshared by node 'b' (uses node 'written' as 'backing' child).",
    "read-only below a writer": "Read-only block node 'written' cannot support read-write users",
    "a frozen link": "Cannot change frozen 'backing' link from 'frozen' to 'a'",
    "a broken disk": "failed while preparing to reopen image '{folder}/b'",
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_refused_reopen_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    async def work() -> None:
        engine = await images(tmp_path, "a", "b", "written", "frozen")
        graph = engine.graph
        writer = Client()
        graph.add_client(writer, graph.nodes["written"], permissions.WRITE, permissions.ALL)
        reader = Client()
        alone = permissions.ALL & ~permissions.WRITE
        graph.add_client(reader, graph.nodes["b"], permissions.CONSISTENT_READ, alone)
        await reopen(engine, image(tmp_path, "frozen", backing="a"))
        with Transaction() as transaction:
            edit.freeze(transaction, [graph.nodes["frozen"].children["backing"]])
            transaction.commit()
        if case == "a broken disk":
            _break(monkeypatch, graph.nodes["b"].driver)
        before = _everything(engine)
        with pytest.raises(RequestError) as caught:
            await reopen(engine, *reopening(tmp_path, case))
        assert caught.value.text == TEXTS[case].format(folder=tmp_path)
        assert _everything(engine) == before
        await fill(engine, "a", 7)
        assert await shows(engine, "a", 7)
        edit.thaw([graph.nodes["frozen"].children["backing"]])
        await engine.shut_down()

    run(work())


def _break(monkeypatch: pytest.MonkeyPatch, broken: Any) -> None:
    prepare = Qcow2Driver.prepare_reopen

    def failing(driver: Qcow2Driver, flags: OpenFlags, options: Any = None) -> Any:
        if driver is broken:
            raise OSError(5, "Input/output error")
        return prepare(driver, flags, options)

    monkeypatch.setattr(Qcow2Driver, "prepare_reopen", failing)


def _everything(engine: EmbeddedEngine) -> Any:
    nodes = engine.graph.nodes
    facts = {
        name: (node.options, node.flags, node.detect_zeroes, node.filename, node.inherits_from)
        for name, node in nodes.items()
    }
    limits = {
        name: (image.tables.limit, image.read_only, image.pass_discards)
        for name, node in nodes.items()
        if (image := getattr(node.driver, "_image", None)) is not None
    }
    return shape(engine.graph), facts, limits


def test_modes_change_while_guests_write(tmp_path: Path) -> None:
    async def work() -> None:
        engine = await images(tmp_path, "a")
        over = False
        written = 0

        async def guest() -> None:
            nonlocal written
            while not over:
                written += 1
                await fill(engine, "a", written % 255 + 1)

        writing = asyncio.ensure_future(guest())
        for turn in range(12):
            seen = written
            modes = {"detect_zeroes": "on"} if turn % 2 else {"cache": {"no-flush": True}}
            await reopen(engine, image(tmp_path, "a", **modes))
            while written == seen and not writing.done():
                await asyncio.sleep(0)
        over = True
        await writing
        assert await shows(engine, "a", written % 255 + 1)
        await engine.shut_down()

    run(work())
