"""Names that lead to what is no image, in every place where a name may stand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.clock import ManualClock
from monitor.engine.drivers.qcow2 import CreateOptions, create_image
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.graph.policy import NoBaseDirectory, OpenPolicy
from monitor.engine.schema.base import request_types
from monitor.engine.schema.decode import decode
from monitor.engine.schema.extra import CreateImage, DriveAdd
from tests.support.children import MemoryChild

KINDS = ("fifo", "directory", "socket", "character", "loop")
LONGEST = (1 << 63) - (1 << 30)


@pytest.fixture
def strange(tmp_path: Path) -> Iterator[dict[str, Path]]:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as bound:
        with contextlib.chdir(tmp_path):  # socket names are short
            bound.bind("socket")
        names = {kind: tmp_path / kind for kind in KINDS} | {"character": Path("/dev/zero")}
        yield names


def sentence(kind: str, path: Path, *, read_only: bool = False) -> str:
    irregular = f"'file' driver requires '{path}' to be a regular file"
    return {
        "fifo": irregular,
        "character": irregular,
        "directory": irregular if read_only else f"Could not open '{path}': Is a directory",
        "socket": f"Could not open '{path}': No such device or address",
        "loop": f"Could not open '{path}': Too many levels of symbolic links",
    }[kind]


def refusal(request: Any) -> str:
    async def main() -> str:
        engine = EmbeddedEngine(ManualClock())
        try:
            with pytest.raises(RequestError) as caught:
                await engine.execute(request)
            assert not engine.graph.nodes
            return caught.value.text
        finally:
            await engine.graph.close_all()

    return asyncio.run(asyncio.wait_for(main(), 20))


def added(options: dict[str, Any]) -> Any:
    return decode(request_types()["blockdev-add"], options)


@pytest.mark.parametrize("kind", KINDS)
def test_as_an_image(strange: dict[str, Path], kind: str) -> None:
    path = strange[kind]
    file = {"driver": "file", "filename": str(path)}
    expected = sentence(kind, path)
    assert refusal(added({**file, "node-name": "n0"})) == expected
    for fmt in ("raw", "qcow2"):
        assert refusal(added({"driver": fmt, "node-name": "n0", "file": file})) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_as_a_backing_file(strange: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """Named by an image's header, with and without a format."""
    expected = sentence(kind, strange[kind], read_only=True)
    for fmt in ("raw", None):
        child = MemoryChild()
        options = CreateOptions(1 << 20, backing_file=str(strange[kind]), backing_fmt=fmt)
        create_image(child, options)
        path = tmp_path / "overlay"
        path.write_bytes(child.content)
        found = refusal(DriveAdd(options=f"if=none,id=d0,file={path},format=qcow2"))
        assert found == f"Could not open backing file: {expected}"


@pytest.mark.parametrize("kind", KINDS)
def test_as_a_drive(strange: dict[str, Path], kind: str) -> None:
    path = strange[kind]
    for fmt in ("", ",format=raw"):
        text = refusal(DriveAdd(options=f"if=none,id=d0,file={path}{fmt}"))
        assert text == sentence(kind, path, read_only=True)  # until somebody writes


@pytest.mark.parametrize("kind", ["fifo", "directory", "socket", "character"])
def test_as_a_new_image(strange: dict[str, Path], kind: str) -> None:
    path = strange[kind]
    before = os.stat(path)
    assert refusal(CreateImage(filename=str(path), format="qcow2", size=1 << 20))
    assert refusal(CreateImage(filename=str(path), format="raw", size=1 << 20))
    assert os.path.samestat(before, os.stat(path))


@pytest.mark.parametrize("length", [1, 511, 513, 1 << 20 | 7, LONGEST])
def test_lengths_that_are_odd_or_huge(length: int) -> None:
    path = _sparse(length)
    try:

        async def main() -> None:
            engine = EmbeddedEngine(ManualClock())
            await engine.execute(DriveAdd(options=f"if=none,id=d0,file={path},format=raw"))
            node = engine.graph.find("d0")
            assert node.length() == length
            buffer = bytearray(b"\xff" * 1)
            node.read(memoryview(buffer), length - 1)
            assert buffer == b"\0"
            runs = node.map(0, length)
            assert sum(run.length for run in runs) <= length
            await engine.graph.close_all()

        asyncio.run(asyncio.wait_for(main(), 20))
    finally:
        path.unlink()


@pytest.mark.parametrize("length", [LONGEST + 512, (1 << 63) - 1])
def test_lengths_that_are_too_long(length: int) -> None:
    path = _sparse(length)
    try:
        text = refusal(added({"driver": "file", "node-name": "n0", "filename": str(path)}))
        assert text == "Could not refresh total sector count: File too large"
    finally:
        path.unlink()


def _sparse(length: int) -> Path:
    """In memory: of the usual filesystems only tmpfs holds files of 2^63 - 1 bytes."""
    path = Path(f"/dev/shm/blkmon-{os.getpid()}-{length}")
    try:
        with path.open("wb") as file:
            os.truncate(file.fileno(), length)
    except OSError as error:
        path.unlink(missing_ok=True)
        pytest.skip(f"no sparse file of that length here: {error}")
    return path


def _overlay(name: str) -> bytes:
    """A qcow2 image whose header names ``name`` as its backing file."""
    child = MemoryChild()
    create_image(child, CreateOptions(1 << 20, backing_file=name, backing_fmt="raw"))
    return bytes(child.content)


@pytest.mark.parametrize("name", ["file:nbd:unix:s", 'file:json:{"driver": "null-co"}'])
def test_what_follows_file_in_an_image_is_a_path(tmp_path: Path, name: str) -> None:
    """Also where the overlay is called by a name without a folder, so that nothing comes before."""
    with contextlib.chdir(tmp_path), socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        server.listen()
        server.setblocking(False)
        Path("overlay").write_bytes(_overlay(name))
        text = refusal(DriveAdd(options="if=none,id=d0,file=overlay,format=qcow2"))
        path = f"./{name.removeprefix('file:')}"
        expected = f"Could not open '{path}': No such file or directory"
        assert text == f"Could not open backing file: {expected}"
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    ("overlay", "name", "path"),
    [
        ("a.qcow2", "b", "b"),
        ("/x/a.qcow2", "file:b", "/x/b"),
        ("nbd:x/a.qcow2", "b", "./nbd:x/b"),  # a folder of that name
        ("a.qcow2", "file:nbd:unix:s", "./nbd:unix:s"),
        ("nbd://host/a", "/x/b", "/x/b"),
    ],
)
def test_a_name_in_an_image_leads_to_a_file(overlay: str, name: str, path: str) -> None:
    assert OpenPolicy().resolve(name, overlay) == path


@pytest.mark.parametrize("overlay", ["nbd://host/a", "nbd+unix:///a?socket=/run/s"])
def test_beside_an_export_there_is_nothing(overlay: str) -> None:
    """What an image on an NBD server names is no other export, and no other socket."""
    with pytest.raises(NoBaseDirectory, match=r"^Cannot generate a base directory for NBD nodes$"):
        OpenPolicy().resolve("b", overlay)


@pytest.mark.parametrize(
    "name",
    ['json:{"driver": "file", "filename": "/etc/passwd"}', "nbd://host/x", "null-co://", "ssh:x"],
)
def test_names_in_images_are_plain_paths(tmp_path: Path, name: str) -> None:
    """The refusal says what to type instead, and typing it opens the image."""
    path = tmp_path / "overlay"
    path.write_bytes(_overlay(name))
    text = refusal(DriveAdd(options=f"if=none,id=d0,file={path},format=qcow2"))
    assert "is not a plain path and is not opened unasked" in text
    assert "backing=null" in text

    async def main() -> None:
        engine = EmbeddedEngine(ManualClock())
        file = {"driver": "file", "filename": str(path)}
        options = {"driver": "qcow2", "node-name": "n0", "file": file, "backing": None}
        await engine.execute(added(options))
        assert engine.graph.nodes["n0"].backing is None
        await engine.graph.close_all()

    asyncio.run(asyncio.wait_for(main(), 20))
