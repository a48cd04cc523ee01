"""Option strings of drives, and what QEMU 7.2's ``-drive`` makes of the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.engine.drivers.qcow2 import CreateOptions, create_image
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.schema.extra import DriveAdd
from monitor.engine.schema.query import BlockInfo, QueryBlock
from tests.support.children import MemoryChild
from tests.support.graphs import run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """raw, base.qcow2, and top.qcow2 whose header names a file that does not exist."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").write_bytes(bytes(1 << 20))
    for name, backing in (("base.qcow2", {}), ("top.qcow2", {"backing_file": "gone"})):
        file = MemoryChild()
        create_image(file, CreateOptions(size=1 << 20, **backing))  # type: ignore[arg-type]
        (tmp_path / name).write_bytes(bytes(file.content))
    return tmp_path


def added(options: str) -> tuple[BlockInfo, list[str]]:
    """The drive that ``options`` make, and the notes on the way."""

    async def main() -> tuple[BlockInfo, list[str]]:
        engine = EmbeddedEngine()
        notes: list[str] = []
        engine.subscribe(lambda e: notes.append(e.data["text"]) if "text" in e.data else None)
        try:
            await engine.execute(DriveAdd(options=options))
            (drive,) = await engine.execute(QueryBlock())
        finally:
            await engine.shut_down()
        return drive, notes

    return run(main())


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            "id=d0,file=raw,format=raw,file.filename=raw",
            "Can't specify 'file' and 'filename' options at the same time",
        ),
        (
            "id=d0,file=raw,driver=file,filename=raw",
            "Can't specify 'file' and 'filename' options at the same time",
        ),
        (
            "id=d0,file=raw,format=raw,node-name=d0",
            "Device name 'd0' conflicts with an existing node name",
        ),
        ("id=d0,file=raw,format=raw,detect-zeroes=foo", "invalid parameter value: foo"),
        ("id=d0,file=raw,format=raw,aio=foo", "invalid aio option"),
        (
            "id=d0,file=raw,format=raw,aio=native",
            "aio=native was specified, but it requires cache.direct=on, which was not specified.",
        ),
        (
            "id=d0,file=raw,format=raw,backing.driver=raw",
            "Driver doesn't support backing files",
        ),
        (
            "id=d0,file=top.qcow2,backing.file.filename=none.qcow2",
            "Could not open backing file: Could not open 'none.qcow2': No such file or directory",
        ),
        (
            "id=d0,file=top.qcow2," + "backing." * 5000 + "driver=raw",
            "Parameters are nested too deeply",
        ),
    ],
)
def test_refused_as_by_qemu(options: str, text: str) -> None:
    with pytest.raises(RequestError) as told:
        added(options)
    assert told.value.text == text


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("backing", "name", "driver"),
    [
        ("backing.file.filename=base.qcow2", "base.qcow2", "qcow2"),  # its format is guessed
        ("backing.driver=raw,backing.file.filename=base.qcow2", "base.qcow2", "raw"),
        ("backing.file.driver=file,backing.file.filename=base.qcow2", "base.qcow2", "qcow2"),
    ],
)
def test_a_backing_image_by_options(backing: str, name: str, driver: str) -> None:
    drive, _ = added(f"id=d0,file=top.qcow2,{backing}")
    below = drive.inserted.image.backing_image  # type: ignore[union-attr]
    assert (below.filename, below.format) == (name, driver)  # type: ignore[union-attr]


@pytest.mark.usefixtures("folder")
def test_an_empty_backing_option_is_none() -> None:
    drive, notes = added("id=d0,file=top.qcow2,backing=")
    assert drive.inserted.backing_file_depth == 0  # type: ignore[union-attr]
    assert notes == ['warning: Use of "backing": "" is deprecated; use "backing": null instead']


@pytest.mark.usefixtures("folder")
def test_zeroes_may_be_detected_without_discard() -> None:
    drive, _ = added("id=d0,file=raw,format=raw,detect-zeroes=unmap")
    assert drive.inserted.detect_zeroes == "unmap"  # type: ignore[union-attr]


@pytest.mark.usefixtures("folder")
def test_aio_reaches_the_file() -> None:
    drive, _ = added("id=d0,file=raw,format=raw,cache=none,aio=native")
    assert drive.inserted.cache.direct is True  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("latency-ns=1k", "Parameter 'latency-ns' expects a number"),
        ("latency-ns=10.5", "Parameter 'latency-ns' expects a number"),
        ("read-zeroes=maybe", "Parameter 'read-zeroes' expects 'on' or 'off'"),
    ],
)
def test_what_qemu_dies_of(option: str, text: str) -> None:
    with pytest.raises(RequestError) as told:
        added(f"id=d0,driver=null-co,{option}")
    assert told.value.text == text
