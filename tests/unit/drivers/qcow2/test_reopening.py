"""An image that stays open with other flags and options."""

from __future__ import annotations

import pytest

from monitor.engine.drivers.base import OpenFlags
from monitor.engine.drivers.qcow2 import Qcow2Driver, repair
from monitor.engine.schema.blockdev import BlockdevOptionsQcow2
from tests.support.qcow2 import Disk, new_image, open_qcow2, read

MIB = 1 << 20


def reopen(driver: Qcow2Driver, l2_cache_size: int, *, given_up: bool = False) -> None:
    """Still read-write, with other options; the graph has had it flushed."""
    options = BlockdevOptionsQcow2(file="file", l2_cache_size=l2_cache_size)
    driver.flush()
    change = driver.prepare_reopen(OpenFlags(unmap=True), options)
    assert change is not None
    if given_up:
        change.abort()
    else:
        change.commit()


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("given_up", [False, True])
@pytest.mark.parametrize("goes_on", [False, True])
def test_other_options_leave_nothing_undone(lazy: bool, given_up: bool, goes_on: bool) -> None:
    """The counts that waited in memory reach the disk, and the dirty bit goes, when it is closed
    next, whether or not anything was written in between."""
    disk = Disk(new_image(MIB, cluster_size=4096, lazy_refcounts=lazy))
    disk.write(0, b"x" * 40960)
    disk.discard(0, 8192)
    reopen(disk.driver, MIB, given_up=given_up)
    assert disk.driver.check("none").leaks == 0
    if goes_on:
        disk.write(80_000, b"y" * 40960)
    disk.driver.close()
    closed = open_qcow2(disk.file, read_only=True)
    report = closed.check("none")
    assert (report.corruptions, report.leaks, report.problems) == (0, 0, [])
    assert (closed.image_facts() or {})["dirty-flag"] is False
    assert read(closed) == disk.model


def test_other_options_do_not_have_an_image_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its dirty bit is its own: nothing was lost. A large one could not be written to any more."""
    disk = Disk(new_image(MIB, cluster_size=4096, lazy_refcounts=True))
    disk.write(0, b"x" * 40960)
    monkeypatch.setattr(repair, "_MAX_CLUSTERS", 0)
    for size in (MIB, 2 * MIB):
        reopen(disk.driver, size)
        disk.write(size // 4, b"y" * 40960)
    disk.reopen()
    disk.check()
    assert disk.driver.check("none").corruptions == 0
