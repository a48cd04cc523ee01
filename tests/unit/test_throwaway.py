"""snapshot=on of drives: the image keeps its bytes, and nothing is left of what was written."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from monitor.engine import images
from monitor.engine.clock import ManualClock
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import Refused, RequestError
from monitor.engine.schema.commit import CommitDrive
from monitor.engine.schema.extra import DriveAdd, DriveDel, IoRequest

LENGTH = 1 << 20
WRITTEN = bytes([7]) * 512


def play(scenario: Any) -> None:
    async def main() -> None:
        engine = EmbeddedEngine(ManualClock())
        try:
            await scenario(engine)
        finally:
            await engine.shut_down()

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "a.img"
    path.write_bytes(bytes([1]) * LENGTH)
    return path


def request(operation: Any, **more: Any) -> IoRequest:
    return IoRequest(device="d", operation=operation, offset=512, length=512, **more)


def test_the_image_keeps_its_bytes_and_nothing_is_left(disk: Path, temporary: Path) -> None:
    """The overlay has no name while it is in use, so that not even SIGKILL leaves it."""
    before = disk.stat()

    async def scenario(engine: EmbeddedEngine) -> None:
        text = f"if=none,id=d,file={disk},format=raw,snapshot=on"
        await engine.execute(DriveAdd(options=text))
        await engine.execute(request("write", pattern=7))
        read = await engine.execute(request("read", want_data=True))
        assert read.data == WRITTEN
        assert not list(temporary.iterdir())
        await engine.execute(DriveDel(id="d"))

    play(scenario)
    assert not list(temporary.iterdir())
    assert disk.read_bytes() == bytes([1]) * LENGTH
    assert disk.stat().st_mtime_ns == before.st_mtime_ns


def test_a_commit_keeps_what_was_written(disk: Path, temporary: Path) -> None:
    async def scenario(engine: EmbeddedEngine) -> None:
        text = f"if=none,id=d,file={disk},format=raw,snapshot=on"
        await engine.execute(DriveAdd(options=text))
        await engine.execute(request("write", pattern=7))
        await engine.execute(CommitDrive(device="d"))

    play(scenario)
    assert disk.read_bytes()[512:1024] == WRITTEN


@pytest.mark.parametrize(
    ("mistake", "reason"),
    [("a folder that is not there", "No such file or directory"), ("an id twice", "")],
)
def test_what_fails_leaves_nothing(
    disk: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, mistake: str, reason: str
) -> None:
    async def scenario(engine: EmbeddedEngine) -> None:
        text = f"if=none,id=d,file={disk},format=raw,snapshot=on"
        if reason:
            monkeypatch.setenv("TMPDIR", f"{temporary}/nowhere")
        else:
            text += ",node-name=d"
        with pytest.raises(RequestError) as refused:
            await engine.execute(DriveAdd(options=text))
        if reason:
            assert refused.value.text.startswith(
                f"Could not open temporary file '{temporary}/nowhere/vl."
            )
            assert refused.value.text.endswith(f"': {reason}")
        assert not engine.graph.nodes
        assert not engine.graph.drives

    play(scenario)
    assert not list(temporary.iterdir())


def test_an_overlay_that_cannot_be_made(
    disk: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise Refused("No space left on device")

    async def scenario(engine: EmbeddedEngine) -> None:
        monkeypatch.setattr(images, "_format", full)
        text = f"if=none,id=d,file={disk},format=raw,snapshot=on"
        with pytest.raises(
            RequestError, match=r"^Could not create temporary overlay '.*/vl.*': No"
        ):
            await engine.execute(DriveAdd(options=text))
        assert not engine.graph.nodes

    play(scenario)
    assert not list(temporary.iterdir())
