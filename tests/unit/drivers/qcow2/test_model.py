"""Any sequence of requests, on any kind of image, against a bytearray."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.drivers.qcow2 import CreateOptions, create_image
from tests.support.children import MemoryChild
from tests.support.qcow2 import Disk
from tests.support.qcow2_strategies import images, requests


@given(st.data(), images())
def test_any_requests_without_backing(data: st.DataObject, options: dict[str, Any]) -> None:
    file = MemoryChild()
    create_image(file, CreateOptions(**options))
    disk = Disk(file)
    for _ in range(data.draw(st.integers(1, 12))):
        requests(data, disk)
        disk.check()
    disk.reopen()
    disk.check()


@given(st.data(), images(), st.integers(0, 3 << 20))
def test_any_requests_on_a_backing_file(
    data: st.DataObject, options: dict[str, Any], below: int
) -> None:
    backing = MemoryChild(bytes(range(1, 252)) * (below // 251))
    file = MemoryChild()
    create_image(file, CreateOptions(**options, backing_file="below", backing_fmt="raw"))
    disk = Disk(file, backing)
    for _ in range(data.draw(st.integers(1, 12))):
        requests(data, disk)
        disk.check()
    disk.reopen()
    disk.check()
