"""Requests that QMP does not have, on real files."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.schema.extra import DriveAdd, IoRequest, IoResult
from monitor.engine.schema.query import QueryBlock


def io(operation: Any, offset: int, length: int) -> IoRequest:
    return IoRequest(device="d0", operation=operation, offset=offset, length=length)


def on_drive(image: Path, options: str, *requests: Any) -> list[Any]:
    """The answers of a drive d0 on ``image``, a raw file of 1 MiB. A function among the requests is
    called when its turn comes."""
    image.write_bytes(bytes(1 << 20))

    async def work() -> list[Any]:
        engine = EmbeddedEngine()
        await engine.execute(DriveAdd(options=f"id=d0,file={image},format=raw{options}"))
        try:
            return [r() if callable(r) else await engine.execute(r) for r in requests]
        finally:
            await engine.shut_down()

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("options", "writeback", "flushes"),
    [
        ("", True, 0),
        (",cache=writeback", True, 0),
        (",cache=writethrough", False, 2),
        (",cache.writeback=off", False, 2),
        (",cache=unsafe", True, 0),
    ],
)
def test_write_through_flushes_each_write(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    writeback: bool,
    flushes: int,
) -> None:
    counts: list[int] = []
    monkeypatch.setattr(os, "fdatasync", counts.append)
    work = (io("write", 0, 512), io("zero", 512, 512), io("read", 0, 512))
    image = tmp_path / "a.img"
    *_, (drive,), seen = on_drive(image, options, *work, QueryBlock(), lambda: len(counts))
    assert drive.inserted.cache.writeback is writeback
    assert seen == flushes


@pytest.mark.parametrize(
    ("offset", "length", "within"),
    [(0, 4096, 4096), ((1 << 20) - 512, 4096, 512), (1 << 20, 512, 0), (1 << 30, 512, 0)],
)
def test_alloc_looks_no_further_than_the_end(
    tmp_path: Path, offset: int, length: int, within: int
) -> None:
    (answer,) = on_drive(tmp_path / "a.img", "", io("alloc", offset, length))
    assert isinstance(answer, IoResult)
    assert (answer.length, answer.allocated) == (within, within)
