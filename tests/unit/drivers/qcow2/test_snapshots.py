"""Internal snapshots: what the disk and each snapshot read as, counts, flags, limits, failures."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.engine.drivers.base import NewSnapshot
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import trees
from monitor.engine.drivers.qcow2.errors import TableOffsetInvalid, TableOutsideFile, TableTooLarge
from monitor.engine.drivers.qcow2.shadow import ShadowCounts
from monitor.engine.errors import RequestError
from tests.support.children import FailingChild, MemoryChild
from tests.support.qcow2 import Disk, new_image, open_qcow2, qemu_check, read
from tests.support.tools import need

SIZE = 256 << 10
MOMENT = 1_700_000_000


def take(disk: Disk, name: str) -> str:
    return disk.driver.create_snapshot(NewSnapshot(name, MOMENT, 5000))


class History(Disk):
    """A disk with what each of its snapshots must read as, by id."""

    def __init__(self, file: MemoryChild, backing: MemoryChild | None = None) -> None:
        super().__init__(file, backing)
        self.kept: dict[str, bytes] = {}

    def take(self) -> None:
        self.kept[take(self, f"s{len(self.kept)}")] = bytes(self.model)

    def ids(self) -> list[str]:
        return [snapshot["id"] for snapshot in self.driver.snapshots()]

    def apply(self, number: int) -> None:
        self.driver.apply_snapshot(number % len(self.ids()))
        self.model = bytearray(self.kept[self.ids()[number % len(self.ids())]])

    def delete(self, number: int) -> None:
        identity = self.ids()[number % len(self.ids())]
        self.driver.delete_snapshot(number % len(self.ids()))
        del self.kept[identity]

    def check_all(self) -> None:
        """The disk, and in a copy each snapshot."""
        self.check()
        assert self.ids() == list(self.kept)
        self.driver.flush()
        assert isinstance(self.file, MemoryChild)
        for number, content in enumerate(self.kept.values()):
            copy = open_qcow2(MemoryChild(self.file.content), self.backing)
            copy.apply_snapshot(number)
            assert read(copy) == content


STEPS = st.one_of(
    st.just(("take", 0)),
    st.tuples(st.sampled_from(["apply", "delete"]), st.integers(0, 5)),
    st.tuples(st.sampled_from(["write", "zero", "discard"]), st.integers(0, SIZE - 20_000)),
    st.tuples(st.just("resize"), st.integers(1, 3 * SIZE // 512)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(STEPS, min_size=3, max_size=12),
    st.sampled_from([512, 4096, 65536]),
    st.sampled_from([8, 16, 64]),
    st.booleans(),
)
def test_any_history(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, int]],
    cluster_size: int,
    refcount_bits: int,
    lazy: bool,
) -> None:
    """Whatever is done, the disk and each snapshot read as they must, and no count is wrong."""
    need("qemu-img")
    how = {"cluster_size": cluster_size, "refcount_bits": refcount_bits, "lazy_refcounts": lazy}
    disk = History(new_image(SIZE, **how))
    disk.write(0, random.Random(1).randbytes(SIZE // 2))
    for number, (verb, argument) in enumerate(steps):
        if verb == "take":
            disk.take()
        elif verb in ("apply", "delete"):
            if disk.kept:
                getattr(disk, verb)(argument)
        elif verb == "resize":
            disk.truncate(argument * 512)
        elif argument + 20_000 <= disk.size:
            if verb == "write":
                disk.write(argument, bytes([number + 1]) * 20_000)
            else:
                getattr(disk, "discard" if verb == "discard" else "write_zeroes")(argument, 20_000)
    disk.check_all()
    disk.driver.close()
    path = tmp_path_factory.mktemp("history") / "a.qcow2"
    assert isinstance(disk.file, MemoryChild)
    path.write_bytes(disk.file.content)
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}


def test_on_a_backing_file() -> None:
    backing = MemoryChild(random.Random(3).randbytes(SIZE))
    disk = History(new_image(SIZE, cluster_size=4096), backing)
    disk.take()
    disk.write(5000, b"x" * 9000)
    disk.take()
    disk.apply(0)
    disk.check_all()


def test_a_refcount_that_can_hold_no_more() -> None:
    """QEMU's errno; the image is as it was, and can be written."""
    disk = History(new_image(SIZE, cluster_size=512, refcount_bits=1))
    disk.write(0, b"x" * 3000)
    with pytest.raises(OSError, match="Invalid argument") as failure:
        take(disk, "one")
    assert failure.value.errno == errno.EINVAL
    disk.write(100, b"y" * 3000)
    disk.check_all()


def test_compressed_data_is_not_packed_into_what_was_given_up() -> None:
    disk = History(new_image(SIZE, cluster_size=4096))
    disk.take()
    for number in range(4):
        data = bytes([number + 1]) * 4096
        disk.driver.write_compressed(memoryview(data), 0)
        disk.model[:4096] = data
        disk.apply(0)
        disk.write(8192, b"y" * 4096)
    disk.check_all()
    disk.delete(0)
    disk.driver.write_compressed(memoryview(b"z" * 8192), 0)
    disk.model[:8192] = b"z" * 8192
    disk.check_all()


def test_an_empty_disk() -> None:
    disk = History(new_image(0))
    disk.take()
    disk.truncate(1 << 20)
    disk.write(0, b"x" * 1000)
    disk.apply(0)
    assert disk.driver.length() == 0
    disk.delete(0)
    disk.check_all()


def test_ids_count_on_from_the_largest() -> None:
    disk = Disk(new_image(SIZE))
    assert [take(disk, name) for name in "abc"] == ["1", "2", "3"]
    disk.driver.delete_snapshot(0)
    assert take(disk, "d") == "4"
    disk.driver.delete_snapshot(2)
    assert take(disk, "e") == "4"


def test_what_a_later_version_noted_is_kept() -> None:
    """Bytes of extra data that nobody knows here, an icount, a state size of more than 32 bits."""
    disk = Disk(new_image(SIZE))
    take(disk, "a")
    image = disk.driver._image
    odd = image.snapshots[0]._replace(unknown=b"later", icount=77, vm_state_size=5 << 32)
    image.snapshots[0] = odd
    take(disk, "b")
    disk.reopen()
    assert disk.driver._image.snapshots[0] == odd
    assert disk.driver._image.snapshots[1].info()["date-nsec"] == 5000


def test_freed_clusters_are_given_to_the_host() -> None:
    disk = History(new_image(SIZE, cluster_size=4096))
    disk.take()
    disk.write(0, b"x" * 8192)
    assert isinstance(disk.file, MemoryChild)
    disk.file.discards.clear()
    disk.apply(0)
    assert max(length for _, length in disk.file.discards) >= 8192


def test_counters_go_to_the_disk_when_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two blocks in memory everything is right all the same."""
    begin = ShadowCounts.__init__
    seen = []

    def cramped(self: ShadowCounts, *args: object) -> None:
        begin(self, *args)  # type: ignore[arg-type]
        self._limit = 2
        seen.append(len(self.places))

    monkeypatch.setattr(ShadowCounts, "__init__", cramped)
    disk = History(new_image(SIZE, cluster_size=512, refcount_bits=64))
    disk.write(0, random.Random(3).randbytes(SIZE))
    disk.take()
    disk.write(1000, b"y" * 90_000)
    disk.take()
    disk.apply(0)
    disk.delete(1)
    disk.check_all()
    assert max(seen) > 4


@pytest.mark.parametrize("at", range(16))
def test_a_failure_anywhere_changes_nothing(at: int) -> None:
    """A child whose n-th write or flush fails: the image is before or after, never between."""
    disk = History(new_image(SIZE, cluster_size=4096))
    disk.write(0, b"x" * 60_000)
    disk.take()
    disk.write(10_000, b"y" * 60_000)
    disk.driver.flush()
    child = FailingChild()
    assert isinstance(disk.file, MemoryChild)
    child.content, child.errno, child.countdown = disk.file.content, errno.EIO, at + 1
    disk.driver._image.file = child
    disk.driver._image.refcounts.file = disk.driver._image.tables.file = child
    try:
        disk.driver.apply_snapshot(0)
    except OSError:
        assert child.countdown <= 0
    else:
        disk.model = bytearray(disk.kept["1"])
    child.countdown = -1  # from here on nothing fails
    disk.write(0, b"z" * 5000)
    disk.check_all()


# -- hostile tables ------------------------------------------------------------------------------


def hostile() -> Disk:
    disk = Disk(new_image(SIZE, cluster_size=4096))
    disk.write(0, b"x" * 20_000)
    take(disk, "a")
    return disk


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"l1_size": 0xFFFF_FFFF}, TableTooLarge),
        ({"l1_table_offset": 513}, TableOffsetInvalid),
        ({"l1_table_offset": (1 << 63) - 4096}, TableOutsideFile),
        ({"l1_table_offset": (1 << 64) - 4096}, TableOffsetInvalid),
        ({"disk_size": 1 << 62}, OSError),
    ],
)
def test_snapshots_that_lie(change: dict[str, int], error: type[Exception]) -> None:
    """Refused before memory is taken; the disk stays as it is."""
    disk = hostile()
    image = disk.driver._image
    image.snapshots[0] = image.snapshots[0]._replace(**change)  # type: ignore[arg-type]
    with pytest.raises(error):
        disk.driver.apply_snapshot(0)
    disk.check()


@pytest.mark.parametrize("entry", [1 << 40, 4096 + 512, (3 << 12) | 1])
def test_snapshots_whose_tables_lie(entry: int) -> None:
    """L2 tables outside of the file, unaligned, or used twice."""
    disk = hostile()
    image = disk.driver._image
    at = image.snapshots[0].l1_table_offset
    lies = np.full(image.snapshots[0].l1_size, entry & q.OFFSET_MASK, ">u8")
    disk.file.write(lies.tobytes() + lies.tobytes(), at)  # type: ignore[arg-type]
    image.snapshots[0] = image.snapshots[0]._replace(l1_size=2 * len(lies))
    for attempt in (disk.driver.apply_snapshot, disk.driver.delete_snapshot):
        with pytest.raises((RequestError, OSError)):
            attempt(0)
    assert read(disk.driver) == disk.model


def test_what_would_take_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = hostile()
    monkeypatch.setattr(trees, "MAX_TABLES", 0)
    with pytest.raises(OSError, match="File too large"):
        take(disk, "b")
    disk.check()


def test_qemu_takes_our_snapshots_and_we_take_qemus(tmp_path: Path) -> None:
    from tests.support.tools import run

    need("qemu-img", "qemu-io")
    path = tmp_path / "a.qcow2"
    disk = Disk(new_image(1 << 20))
    disk.write(0, b"\1" * 300_000)
    take(disk, "ours")
    disk.write(0, b"\2" * 200_000)
    disk.driver.close()
    path.write_bytes(disk.file.content)  # type: ignore[attr-defined]
    run("qemu-img", "snapshot", "-c", "theirs", path)
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 3 0 100k", path)
    run("qemu-img", "snapshot", "-a", "ours", path)
    run("qemu-io", "-f", "qcow2", "-c", "read -q -P 1 0 300000", path)
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}
    disk = Disk(MemoryChild(path.read_bytes()))
    assert [s["name"] for s in disk.driver.snapshots()] == ["ours", "theirs"]
    disk.driver.apply_snapshot(1)
    assert read(disk.driver, 0, 200_000) == b"\2" * 200_000
    disk.driver.delete_snapshot(0)
    disk.driver.close()
    path.write_bytes(disk.file.content)  # type: ignore[attr-defined]
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}
    run("qemu-img", "snapshot", "-d", "theirs", path)
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}
