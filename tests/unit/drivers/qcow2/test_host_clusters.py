"""Which host clusters are in use, and where the file ends."""

from __future__ import annotations

from errno import EPERM

import pytest

from monitor.engine.drivers.file.device import CannotGrowDevice
from monitor.engine.drivers.qcow2 import CreateOptions, create_image
from monitor.engine.errors import HostFailure
from tests.support.children import MemoryChild
from tests.support.qcow2 import Disk, new_image, open_qcow2

MIB = 1 << 20
CLUSTER = 65536


class Reserving(MemoryChild):
    """Takes up room ahead, as a file that is open with O_DIRECT."""

    alignment = 512

    def reserve(self, size: int) -> None:
        if size > self.length():
            self.truncate(size)


@pytest.mark.parametrize("cut", [60_000, CLUSTER], ids=["in part", "as a whole"])
def test_a_last_cluster_that_the_file_lacks_is_kept_when_room_is_given_back(cut: int) -> None:
    """It is in use already, so that nothing is allocated when it is written to."""
    file = Reserving()
    create_image(file, CreateOptions(size=MIB, cluster_size=CLUSTER))
    disk = Disk(file)
    disk.write(CLUSTER, b"a" * CLUSTER)
    disk.driver.close()
    end = file.length()
    file.truncate(end - cut)
    disk.driver = open_qcow2(file)
    disk.driver.expect(4 * MIB)
    assert file.length() > 4 * MIB
    disk.write(CLUSTER, b"b" * CLUSTER)
    disk.driver.expect(0)
    assert file.length() == end
    disk.reopen()
    disk.check()


class Device(Reserving):
    """Keeps its size, which is no multiple of a cluster."""

    def reserve(self, size: int) -> None:
        """It has the room that it has."""

    def truncate(self, size: int) -> None:
        raise CannotGrowDevice


def test_an_image_on_a_device_whose_size_is_odd() -> None:
    """It cannot be cut off. What a job has written is there when the image is closed."""
    file = Device(bytes(new_image(MIB, cluster_size=CLUSTER).content).ljust(MIB + 4096, b"\0"))
    disk = Disk(file)
    disk.driver.expect(MIB)
    disk.write(CLUSTER, b"a" * CLUSTER)
    disk.driver.expect(0)
    disk.write(CLUSTER, b"b" * CLUSTER)
    disk.driver.expect(MIB)
    disk.reopen()
    disk.check()


def test_a_file_that_cannot_be_cut_off_is_closed_with_all_of_it() -> None:
    class Uncut(Reserving):
        def truncate(self, size: int) -> None:
            if size < self.length():
                raise HostFailure("Could not resize file", EPERM)
            super().truncate(size)

    disk = Disk(Uncut(new_image(MIB, cluster_size=CLUSTER).content))
    disk.driver.expect(MIB)
    disk.write(CLUSTER, b"a" * CLUSTER)
    disk.reopen()
    disk.check()


@pytest.mark.parametrize("dirty", [0, 4])
def test_a_run_over_more_refcount_blocks_than_are_kept(dirty: int) -> None:
    """A block of so small clusters counts 256 of them; four are kept, also those that are dirty."""
    disk = Disk(new_image(4 * MIB, cluster_size=512))
    small = {"refcount_cache_size": 2048}
    disk.driver = open_qcow2(disk.file, options=small)
    disk.write(0, b"x" * 2 * MIB)
    disk.discard(0, 2 * MIB)
    disk.driver.close()
    disk.driver = open_qcow2(disk.file, options=small)
    for number in range(dirty):
        disk.write(3 * MIB + number * 512, b"y" * 512)
    disk.write(0, b"z" * MIB)
    disk.reopen()
    disk.check()
    report = disk.driver.check("none")
    assert (report.corruptions, report.leaks, report.problems) == (0, 0, [])
