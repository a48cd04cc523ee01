"""What the tests of several drivers begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.engine.drivers.memory import MemoryDriver
from tests.support.nbd_driver import SIZE


@pytest.fixture
def nbd_path(tmp_path: Path) -> Path:
    return tmp_path / "nbd.sock"


@pytest.fixture
def nbd_disk() -> MemoryDriver:
    return MemoryDriver(data=bytes([7]) * SIZE)
