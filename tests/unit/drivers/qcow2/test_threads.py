"""Requests from many threads at once: each sees whole clusters of its own, and no other's."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from monitor.engine.drivers.qcow2 import Qcow2Driver
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.header import read_header
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.drivers.qcow2.unfinished import mark_of
from monitor.engine.errors import RequestError
from tests.support.children import MemoryChild
from tests.support.edges import DriverEdge
from tests.support.files import open_file
from tests.support.qcow2 import Disk, new_image, open_qcow2, qemu_check, qemu_content, read, write
from tests.support.tools import need

CLUSTER = 4096


def together(*bodies: Callable[[], None]) -> None:
    """Runs all of them at once; the first exception comes out here."""
    errors: list[BaseException] = []

    def guarded(body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("below", [True, False])
def test_writers_in_the_same_clusters(tmp_path: Path, below: bool) -> None:
    """Each thread owns every fourth 512-byte piece of each cluster, so that allocations collide,
    and clusters of zeroes with them."""
    size = 2 << 20
    backing = MemoryChild(random.Random(0).randbytes(size)) if below else None
    path = tmp_path / "a.qcow2"
    path.write_bytes(new_image(size, cluster_size=CLUSTER).content)
    file = DriverEdge(open_file(path))
    disk = Disk(file, backing)

    def writer(index: int) -> Callable[[], None]:
        def body() -> None:
            chance = random.Random(index)
            pieces = list(range(index, size // 512, 4))
            chance.shuffle(pieces)
            for piece in pieces[:600]:
                data = chance.choice([bytes(512), chance.randbytes(512)])
                if any(data):
                    write(disk.driver, piece * 512, data)
                else:
                    disk.driver.write_zeroes(piece * 512, 512)
                disk.model[piece * 512 : piece * 512 + 512] = data
                if piece % 97 == 0:
                    disk.driver.flush()

        return body

    together(*(writer(index) for index in range(4)))
    disk.check()
    disk.driver.close()
    file.driver.close()
    need("qemu-img")
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}


@pytest.mark.parametrize("direct", [False, True])
def test_everything_at_once(tmp_path: Path, direct: bool) -> None:
    """Writes, zeroes, discards, reads and flushes; each thread in a part of its own. Room in the
    file is taken up ahead meanwhile, and given back."""
    size = 4 << 20
    path = tmp_path / "a.qcow2"
    path.write_bytes(new_image(size, cluster_size=CLUSTER).content)
    try:
        file = DriverEdge(open_file(path, direct=direct))
    except RequestError as error:
        pytest.skip(f"no O_DIRECT here: {error}")
    disk = Disk(file)
    part = size // 4

    def worker(index: int) -> Callable[[], None]:
        def body() -> None:
            chance = random.Random(index)
            base = index * part
            for _ in range(250):
                offset = base + chance.randrange(part - 30_000)
                length = chance.randrange(1, 30_000)
                kind = chance.choice("wwwzdrrf")
                if kind == "w":
                    disk.write(offset, chance.randbytes(length))
                elif kind == "z":
                    disk.write_zeroes(offset, length, chance.random() < 0.5)
                elif kind == "d":
                    disk.discard(offset, length)
                elif kind == "f":
                    disk.driver.flush()
                else:
                    seen = read(disk.driver, offset, length)
                    assert seen == disk.model[offset : offset + length]

        return body

    def ahead() -> None:
        for step in range(100):
            disk.driver.expect((8 << 20) * (step % 2))
            assert direct or file.length() < 6 << 20

    together(ahead, *(worker(index) for index in range(4)))
    disk.check()
    disk.driver.expect(8 << 20)
    disk.driver.close()
    assert file.length() < 6 << 20
    file.driver.close()
    need("qemu-img")
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}
    assert qemu_content(path) == disk.model


class Between:
    """A lock that has ``body`` run once, when it is let go for the first time."""

    def __init__(self, lock: threading.Lock, body: Callable[[], None]) -> None:
        self._lock = lock
        self._body: Callable[[], None] | None = body

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *reason: object) -> None:
        self._lock.release()
        body, self._body = self._body, None
        if body is not None:
            body()


def test_zeroes_in_a_part_leave_what_others_write_to_the_rest() -> None:
    """Also what comes between looking at a cluster of zeroes and making it a zero cluster."""
    disk = open_qcow2(MemoryChild(bytes(new_image(1 << 20, cluster_size=CLUSTER).content)))
    image = disk._image
    write(disk, 1 << 19, b"the image is marked as in use from now on")
    between = Between(image.lock, lambda: write(disk, 512, b"data" * 128))
    image.lock = between  # type: ignore[assignment]
    disk.write_zeroes(0, 512)
    assert read(disk, 0, 2048) == bytes(512) + b"data" * 128 + bytes(1024)


class SlowChild(MemoryChild):
    """Reads of guest data stop at a gate."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.slow: threading.Thread | None = None
        self.reached = threading.Event()
        self.gate = threading.Event()

    def read(self, buffer: memoryview, offset: int) -> None:
        self._wait()
        super().read(buffer, offset)

    def write(self, buffer: memoryview, offset: int) -> None:
        self._wait()
        super().write(buffer, offset)

    def _wait(self) -> None:
        if threading.current_thread() is self.slow:
            self.slow = None
            self.reached.set()
            assert self.gate.wait(30)


def slowly(file: SlowChild, body: Callable[[], None]) -> threading.Thread:
    """Starts ``body``, whose first access to the file stops at the gate; returns when it has."""
    thread = threading.Thread(target=body)
    file.slow = thread
    thread.start()
    assert file.reached.wait(30)
    return thread


@pytest.fixture
def file() -> SlowChild:
    child = SlowChild(bytes(new_image(1 << 20, cluster_size=CLUSTER).content))
    disk = open_qcow2(child)
    write(disk, 0, b"old!" * 1024)
    disk.close()
    return child


def test_a_slow_reader_never_sees_the_next_owner(file: SlowChild) -> None:
    disk = open_qcow2(file)
    read(disk, 0, 1)  # the table is in memory now
    seen: list[bytes] = []
    reader = slowly(file, lambda: seen.append(read(disk, 0, CLUSTER)))
    disk.discard(0, CLUSTER)
    for offset in range(CLUSTER, 1 << 20, CLUSTER):
        disk.flush()
        write(disk, offset, b"NEW!" * 1024)
    file.gate.set()
    reader.join()
    assert seen[0] in (b"old!" * 1024, bytes(CLUSTER))
    assert read(disk, 0, CLUSTER) == bytes(CLUSTER)


def test_a_slow_writer_never_hits_the_next_owner(file: SlowChild) -> None:
    disk = open_qcow2(file)
    read(disk, 0, 1)
    write(disk, 8, b"warm")  # the image is open for writing now
    writer = slowly(file, lambda: write(disk, 0, b"late" * 1024))
    disk.discard(0, CLUSTER)
    for offset in range(CLUSTER, 1 << 20, CLUSTER):
        disk.flush()
        write(disk, offset, b"NEW!" * 1024)
    file.gate.set()
    writer.join()
    assert read(disk, CLUSTER) == b"NEW!" * ((1 << 20) // 4 - 1024)


def test_a_cluster_is_reused_once_it_is_free(file: SlowChild) -> None:
    disk = open_qcow2(file)
    write(disk, CLUSTER, b"warm")
    disk.flush()
    length = file.length()
    disk.discard(0, CLUSTER)
    disk.flush()
    write(disk, 2 * CLUSTER, b"next" * 1024)
    disk.flush()
    assert file.length() == length


def test_an_allocating_write_makes_others_wait(file: SlowChild) -> None:
    disk = open_qcow2(file)
    write(disk, 20 * CLUSTER, b"warm")  # the refcounts are in memory now
    first = slowly(file, lambda: write(disk, 8 * CLUSTER, b"A" * 100))
    second = threading.Thread(target=lambda: write(disk, 8 * CLUSTER + 100, b"B" * 100))
    second.start()
    write(disk, 9 * CLUSTER, b"C" * CLUSTER)  # another cluster is not held up
    assert second.is_alive()
    file.gate.set()
    first.join()
    second.join()
    assert read(disk, 8 * CLUSTER, 300) == b"A" * 100 + b"B" * 100 + bytes(100)


def test_a_scattered_write_waits_for_its_clusters_and_holds_them(file: SlowChild) -> None:
    disk = open_qcow2(file)
    write(disk, 20 * CLUSTER, b"warm")
    first = slowly(file, lambda: write(disk, 8 * CLUSTER, b"A" * 100))
    ranges = [(4 * CLUSTER, CLUSTER), (8 * CLUSTER, CLUSTER)]
    data = memoryview(b"B" * (2 * CLUSTER))
    second = threading.Thread(target=lambda: disk.write_ranges(data, ranges))
    second.start()
    write(disk, 20 * CLUSTER, b"C" * 100)
    assert second.is_alive()
    file.gate.set()
    first.join()
    second.join()
    assert read(disk, 8 * CLUSTER, CLUSTER) == b"B" * CLUSTER
    file.gate.clear()
    file.reached.clear()
    others = [(9 * CLUSTER, CLUSTER), (11 * CLUSTER, CLUSTER)]
    third = slowly(file, lambda: disk.write_ranges(data, others))
    fourth = threading.Thread(target=lambda: write(disk, 11 * CLUSTER, b"D" * 100))
    fourth.start()
    write(disk, 20 * CLUSTER, b"E" * 100)
    assert fourth.is_alive()
    file.gate.set()
    third.join()
    fourth.join()
    assert read(disk, 11 * CLUSTER, CLUSTER) == b"D" * 100 + b"B" * (CLUSTER - 100)


def test_reads_go_on_while_a_flush_waits_for_the_disk(file: SlowChild) -> None:
    disk = open_qcow2(file)
    write(disk, 20 * CLUSTER, b"x" * CLUSTER)
    flusher = slowly(file, disk.flush)
    assert read(disk, 0, 4) == b"old!"
    write(disk, 21 * CLUSTER, b"y" * CLUSTER)
    file.gate.set()
    flusher.join()
    assert read(disk, 21 * CLUSTER, 1) == b"y"


class _Racing(MemoryChild):
    """Somebody finds out that the image is corrupt while its header's feature bits are written."""

    image: Image | None = None
    finder: threading.Thread | None = None

    def write(self, buffer: memoryview, offset: int) -> None:
        covers = offset <= q.FEATURES_AT < offset + len(buffer)
        if covers and self.image is not None and self.finder is None:
            self._find(self.image)
        super().write(buffer, offset)

    def _find(self, image: Image) -> None:
        """Goes on when the finder waits for the one who writes, or has not waited for him."""
        came, lock = threading.Event(), image.header_lock

        class Noticing:
            def __enter__(self) -> None:
                came.set()
                lock.acquire()

            def __exit__(self, *reason: object) -> None:
                lock.release()

        def find() -> None:
            with pytest.raises(OSError, match="broken"):
                image.corrupt("broken")
            came.set()

        image.header_lock = Noticing()  # type: ignore[assignment]
        self.finder = threading.Thread(target=find)
        self.finder.start()
        assert came.wait(20)


def _begin(disk: Qcow2Driver) -> None:
    write(disk, 0, b"x")


def _mark(disk: Qcow2Driver) -> None:
    disk.mark_unfinished("a job")


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("change", [_begin, _mark])
def test_the_corrupt_bit_beside_others(change: Callable[[Qcow2Driver], None], lazy: bool) -> None:
    """Whoever writes the header's bits at that moment does not take it out again, nor forgets it,
    and what he wanted to write is there too."""
    child = _Racing(new_image(1 << 20, lazy_refcounts=lazy).content)
    if change is _begin and not lazy:
        child.content[95] |= 4  # an autoclear bit that nobody knows, and that the first write takes
    disk = open_qcow2(child)
    image = disk._image
    if change is _mark:
        write(disk, 0, b"x")
    child.image = image
    with suppress(OSError):
        change(disk)
    assert child.finder is not None
    child.finder.join(20)
    assert not child.finder.is_alive()
    header = read_header(MemoryChild(bytes(child.content)), read_only=True)
    assert header.incompatible == image.header.incompatible
    assert header.incompatible & q.INCOMPAT_CORRUPT
    assert bool(header.incompatible & q.INCOMPAT_DIRTY) == lazy
    assert header.autoclear == 0
    assert (mark_of(header) == "a job") == (change is _mark)
