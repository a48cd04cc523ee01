"""Following backing links: loops, long chains, and what an image may name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from monitor.engine.drivers.qcow2 import CreateOptions, create_image
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.graph.opening import Opening
from monitor.engine.graph.policy import MAX_CHAIN
from monitor.engine.schema.base import Request
from monitor.engine.schema.blockdev import BlockdevOptionsFile, BlockdevOptionsQcow2
from monitor.engine.schema.extra import DriveAdd, IoRequest, IoResult
from monitor.engine.schema.graph import BlockdevAdd, BlockdevSnapshot, BlockdevSnapshotSync
from tests.support.children import MemoryChild
from tests.support.graphs import Events, run


def image(path: Path, backing: str | Path | None = None, fmt: str | None = "qcow2") -> Path:
    """A new qcow2 image of 1 MiB; nothing about ``backing`` is looked at."""
    file = MemoryChild()
    named = {"backing_file": str(backing), "backing_fmt": fmt} if backing else {}
    create_image(file, CreateOptions(size=1 << 20, **named))  # type: ignore[arg-type]
    path.write_bytes(bytes(file.content))
    return path


async def layers(path: Path, *, read_only: bool) -> int:
    """Opens the chain from ``path`` as a drive does and counts it."""
    graph = Graph(Events())
    loose = {"driver": "qcow2", "read-only": "on" if read_only else "off"}
    async with Opening(graph) as opening:
        node = await opening.open_loose(loose, str(path))
        return len(list(node.chain()))


@pytest.mark.parametrize("read_only", [False, True])
def test_a_loop_is_told_at_the_file_that_closes_it(tmp_path: Path, read_only: bool) -> None:
    """By inode: the link back goes through another name. (QEMU opens until it is killed.)"""
    top = image(tmp_path / "a.qcow2", "b.qcow2")
    image(tmp_path / "b.qcow2", "again.qcow2")
    (tmp_path / "again.qcow2").symlink_to("a.qcow2")
    with pytest.raises(RequestError) as told:
        run(layers(top, read_only=read_only))
    again = tmp_path / "again.qcow2"
    assert told.value.text == (
        "Could not open backing file: " * 2
        + f"Backing file '{again}' is already in the chain that leads to it"
    )


def test_chains_open_in_proportion_to_their_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each node's pipeline is bound a few times, not once more for every layer below it."""
    bound: list[Node] = []
    wire = Node.wire

    def counted(node: Node) -> None:
        bound.append(node)
        wire(node)

    monkeypatch.setattr(Node, "wire", counted)
    path, length = None, 60
    for number in range(length):
        path = image(tmp_path / f"{number}.qcow2", path)
    assert path is not None
    assert run(layers(path, read_only=False)) == length
    assert len(bound) < 20 * length


def test_a_chain_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_CHAIN == 1000
    monkeypatch.setattr("monitor.engine.graph.opening.MAX_CHAIN", 3)
    path = None
    for number in range(5):
        path = image(tmp_path / f"{number}.qcow2", path)
        if number == 3:
            assert run(layers(path, read_only=False)) == 4
    assert path is not None
    with pytest.raises(RequestError, match=r"backing chain of '.*4.qcow2' has more than"):
        run(layers(path, read_only=False))


def test_a_guessed_format_may_name_no_further_file(tmp_path: Path) -> None:
    base = image(tmp_path / "base.qcow2")
    middle = image(tmp_path / "middle.qcow2", base)
    top = image(tmp_path / "top.qcow2", middle, fmt=None)
    with pytest.raises(RequestError) as told:
        run(layers(top, read_only=False))
    assert told.value.text == (
        f"Could not open backing file: '{top}' does not record the format of its backing file "
        f"'{middle}', which looks like qcow2 and names a further file; "
        "give backing.driver=qcow2 explicitly"
    )


def test_a_read_reaches_the_bottom_of_a_long_chain(tmp_path: Path) -> None:
    """In a worker as everywhere, and further down than the interpreter lets calls nest."""
    bottom = tmp_path / "bottom"
    bottom.write_bytes(b"b" * (1 << 20))
    path = image(tmp_path / "0.qcow2", bottom, "raw")
    for number in range(1, 300):
        path = image(tmp_path / f"{number}.qcow2", path)

    async def main() -> bytes:
        engine = EmbeddedEngine()
        await engine.execute(DriveAdd(options=f"id=d0,file={path},format=qcow2"))
        request = IoRequest(device="d0", operation="read", offset=0, length=4096, want_data=True)
        answer: IoResult = await engine.execute(request)
        await engine.shut_down()
        assert isinstance(answer.data, bytes)
        return answer.data

    assert run(main()) == b"b" * 4096
    assert sys.getrecursionlimit() > 4 * MAX_CHAIN


@pytest.mark.parametrize("command", ["blockdev-snapshot", "blockdev-snapshot-sync"])
def test_a_chain_does_not_grow_past_its_end_by_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for module in ("opening", "snapshot"):
        monkeypatch.setattr(f"monitor.engine.graph.{module}.MAX_CHAIN", 2)
    path = image(tmp_path / "0.qcow2")
    for number in range(1, 3):
        path = image(tmp_path / f"{number}.qcow2", path)
    new = tmp_path / "new.qcow2"

    async def main() -> None:
        engine = EmbeddedEngine()
        await engine.execute(DriveAdd(options=f"id=d0,file={path},format=qcow2"))
        request: Request = BlockdevSnapshotSync(device="d0", snapshot_file=str(new))
        if command == "blockdev-snapshot":
            file = BlockdevOptionsFile(filename=str(image(new)))
            options = BlockdevOptionsQcow2(node_name="n0", file=file, backing=None)
            await engine.execute(BlockdevAdd(options=options))
            request = BlockdevSnapshot(node="d0", overlay="n0")
        try:
            with pytest.raises(RequestError, match="has more than"):
                await engine.execute(request)
        finally:
            await engine.shut_down()

    run(main())
    assert new.exists() == (command == "blockdev-snapshot")  # nothing was created in vain


def test_many_nodes_are_not_a_long_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers are counted where there are nodes enough for too many, and those below alone."""
    monkeypatch.setattr("monitor.engine.graph.snapshot.MAX_CHAIN", 2)

    async def main() -> None:
        engine = EmbeddedEngine()
        for number in range(3):
            path = image(tmp_path / f"{number}.qcow2")
            await engine.execute(DriveAdd(options=f"id=d{number},file={path},format=qcow2"))
        try:
            for new in ("a", "b"):
                file = str(tmp_path / f"{new}.qcow2")
                await engine.execute(BlockdevSnapshotSync(device="d0", snapshot_file=file))
            request = BlockdevSnapshotSync(device="d0", snapshot_file=str(tmp_path / "c.qcow2"))
            with pytest.raises(RequestError, match="has more than"):
                await engine.execute(request)
        finally:
            await engine.shut_down()

    run(main())


def test_a_json_name_is_refused_where_images_may_give_it(tmp_path: Path) -> None:
    path = image(tmp_path / "a.qcow2")
    with pytest.raises(RequestError, match=r"^Unknown protocol 'json'$"):
        name = f'json:{{"driver":"file","filename":"{path}"}}'
        run(layers(name, read_only=True))  # type: ignore[arg-type]
