"""What a backup looks at, and how often."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from monitor.engine.drivers.base import Extent, ExtentKind
from monitor.engine.drivers.blockcopy import UNIT, BlockCopy
from monitor.engine.jobs.backup import _WINDOW, _Walk
from tests.support.children import MemoryChild

SIZE = 10 * UNIT


class Broken(MemoryChild):
    """Nobody can look at its seventh unit."""

    def map(self, offset: int, length: int) -> list[Extent]:
        if offset <= 6 * UNIT < offset + length:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return [Extent(ExtentKind.DATA, length)]


def walk_of(
    copying: BlockCopy, disk: MemoryChild, meanwhile: Callable[[], object] = lambda: None
) -> _Walk:
    """``meanwhile`` is called in the middle of each look."""

    def layers() -> list[MemoryChild]:
        meanwhile()
        return [disk]

    job: Any = SimpleNamespace(copying=copying, plan=SimpleNamespace(target=None), layers=layers)
    walk = _Walk(job)
    walk._is_blank = lambda offset, length: False  # type: ignore[method-assign]
    return walk


def test_what_could_be_looked_at_is_planned_once() -> None:
    disk = Broken(bytes(SIZE))
    copying = BlockCopy(disk, MemoryChild(bytes(SIZE)), SIZE, UNIT)
    copying.todo.clear()
    for first, count in ((0, 4), (6, 1), (8, 2)):
        copying.todo.set(first * UNIT, count * UNIT)
    walk, planned = walk_of(copying, disk), []
    while (piece := walk.next(UNIT * 4)) is not None:
        planned.append((piece.offset // UNIT, piece.length // UNIT, piece.unseen))
    assert planned == [(0, 4, False), (6, 1, True), (8, 2, False)]


def test_what_a_guest_copies_during_a_look_that_fails_is_nobodys() -> None:
    class Copied(MemoryChild):
        def map(self, offset: int, length: int) -> list[Extent]:
            copying.todo.clear()
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    disk = Copied(bytes(SIZE))
    copying = BlockCopy(disk, MemoryChild(bytes(SIZE)), SIZE, UNIT)
    assert walk_of(copying, disk).next(UNIT) is None


def test_a_window_that_a_guest_has_copied_is_not_the_end() -> None:
    """It does so after the first dirty unit was found, and before the areas were taken."""
    size = 4 * _WINDOW
    disk = MemoryChild(bytes(16))
    copying = BlockCopy(disk, MemoryChild(bytes(16)), size, UNIT)
    copying.todo.clear()
    for place in (0, size - UNIT):
        copying.todo.set(place, UNIT)
    walk = walk_of(copying, disk, meanwhile=lambda: copying.todo.reset(0, UNIT))
    piece = walk.next(UNIT)
    assert piece is not None
    assert piece.offset == size - UNIT
