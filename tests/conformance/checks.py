"""What the contract promises, as functions that take an open image.

A check knows the image's contents as a ``bytearray`` (the model) and asserts that the driver says
the same, whatever it was asked to do in between.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable
from typing import Literal, NamedTuple

import pytest

from monitor.engine.drivers.base import Driver, Extent, ExtentKind, Reservation
from tests.conformance.subjects import Image

_BYTES = bytes(range(1, 252))  # no zero, and a period that no block size divides


def pattern(seed: int, length: int) -> bytes:
    """``length`` bytes without zeroes that depend on ``seed``."""
    start = seed % len(_BYTES)
    return (_BYTES * (length // len(_BYTES) + 2))[start : start + length]


def read(driver: Driver, offset: int, length: int) -> bytes:
    """What the driver reads into a buffer that held something else."""
    buffer = bytearray(b"\xee") * length
    driver.read(memoryview(buffer), offset)
    return bytes(buffer)


def contents(driver: Driver) -> bytes:
    return read(driver, 0, driver.length())


def write(driver: Driver, data: bytes, offset: int) -> None:
    driver.write(memoryview(data), offset)


# -- random requests against the model -------------------------------------------------------


class Operation(NamedTuple):
    """One request. ``offset`` and ``length`` are folded into the image; ``seed`` chooses bytes."""

    kind: Literal["read", "write", "zero", "discard", "truncate", "flush", "reopen", "map"]
    offset: int
    length: int
    seed: int
    unmap: bool


class Model:
    """An image and the ``bytearray`` that it should read as."""

    def __init__(self, image: Image, initial: bytes) -> None:
        self.image = image
        self.bytes = bytearray(initial)

    def apply(self, operation: Operation) -> None:
        offset = operation.offset % (len(self.bytes) + 1)
        length = min(operation.length, len(self.bytes) - offset)
        getattr(self, f"_{operation.kind}")(offset, length, operation)

    def compare(self) -> None:
        driver = self.image.driver
        assert driver.length() == len(self.bytes)
        assert contents(driver) == self.bytes

    def _read(self, offset: int, length: int, operation: Operation) -> None:
        assert read(self.image.driver, offset, length) == self.bytes[offset : offset + length]

    def _write(self, offset: int, length: int, operation: Operation) -> None:
        data = pattern(operation.seed, length)
        write(self.image.driver, data, offset)
        if self.image.subject.keeps:
            self.bytes[offset : offset + length] = data

    def _zero(self, offset: int, length: int, operation: Operation) -> None:
        self.image.driver.write_zeroes(offset, length, operation.unmap, False)
        self.bytes[offset : offset + length] = bytes(length)

    def _discard(self, offset: int, length: int, operation: Operation) -> None:
        """Each byte keeps its value or becomes zero, and stays so."""
        self.image.driver.discard(offset, length)
        found = read(self.image.driver, offset, length)
        before = self.bytes[offset : offset + length]
        assert all(now in (0, was) for now, was in zip(found, before, strict=True))
        self.bytes[offset : offset + length] = found

    def _truncate(self, offset: int, length: int, operation: Operation) -> None:
        subject = self.image.subject
        if not subject.resizable:
            return
        size = operation.offset + operation.length
        size -= size % subject.unit
        if size > len(self.bytes) and not subject.grows:
            return
        self.image.driver.truncate(size)
        kept = self.bytes[:size]
        self.bytes = kept + bytes(size - len(kept))

    def _flush(self, offset: int, length: int, operation: Operation) -> None:
        self.image.driver.flush()

    def _reopen(self, offset: int, length: int, operation: Operation) -> None:
        self.image.reopen()

    def _map(self, offset: int, length: int, operation: Operation) -> None:
        check_runs(self.image.driver, offset, length, self.bytes)


def check_requests(image: Image, initial: bytes, operations: Iterable[Operation]) -> None:
    model = Model(image, initial)
    model.compare()
    for operation in operations:
        model.apply(operation)
        model.compare()
    model.image.reopen()
    model.compare()
    check_map(image.driver, model.bytes)


# -- map -------------------------------------------------------------------------------------


def check_runs(driver: Driver, offset: int, length: int, model: bytes | bytearray) -> int:
    """One answer of ``map`` against the contents; the bytes that it covers."""
    runs = driver.map(offset, length)
    assert all(run.length > 0 for run in runs), "an empty run"
    covered = sum(run.length for run in runs)
    assert covered <= length
    assert covered > 0 or length == 0
    position = offset
    for run in runs:
        _check_run(run, model[position : position + run.length])
        if run.kind is ExtentKind.UNALLOCATED:
            assert not driver.holds(position, run.length)
            assert not driver.holds(position, min(512, run.length))
        position += run.length
    return covered


def _check_run(run: Extent, model: bytes | bytearray) -> None:
    if run.kind is ExtentKind.ZERO:
        assert not any(model), "bytes in a run of zeroes"
    if run.host >= 0:
        assert os.pread(run.host, run.length, run.host_offset) == model


def check_map(driver: Driver, model: bytes | bytearray) -> None:
    """Asking on for the rest covers the whole image."""
    offset = 0
    while offset < len(model):
        offset += check_runs(driver, offset, len(model) - offset, model)


# -- single promises -------------------------------------------------------------------------


def check_empty_requests(image: Image, initial: bytes) -> None:
    driver = image.driver
    for offset in (0, len(initial) // 2, len(initial)):
        driver.read(memoryview(bytearray()), offset)
        driver.write(memoryview(b""), offset)
        driver.write_zeroes(offset, 0, True, False)
        driver.discard(offset, 0)
        assert driver.map(offset, 0) == []
    Model(image, initial).compare()


def check_buffers(image: Image, initial: bytes) -> None:
    """Any flat memoryview will do: a slice of a larger one, or of read-only bytes."""
    if not image.subject.keeps:
        return
    driver, data = image.driver, pattern(3, 5000)
    driver.write(memoryview(b"xyz" + data + b"xyz")[3:-3], 700)
    around = bytearray(b"\xee" * 5100)
    driver.read(memoryview(around)[50:-50], 700)
    assert around == b"\xee" * 50 + data + b"\xee" * 50


def check_zeroes_without_fallback(image: Image, initial: bytes) -> None:
    """``no_fallback`` zeroes, or refuses with ENOTSUP and changes nothing."""
    model = Model(image, initial)
    model.apply(Operation("write", 0, len(initial), 1, False))
    refusal = 0
    try:
        image.driver.write_zeroes(4096, 8192, False, True)
    except OSError as error:
        refusal = error.errno or 0
    assert refusal in (0, errno.ENOTSUP)
    if not refusal:
        model.bytes[4096 : 4096 + 8192] = bytes(8192)
    model.compare()


def check_beyond_the_end(image: Image, initial: bytes) -> None:
    """A format's requests of its file: reads give zeroes, writes and zeroes grow the file."""
    if not image.subject.endless:
        return
    driver, end = image.driver, len(initial)
    assert read(driver, end - 10, 5000) == initial[-10:] + bytes(4990)
    assert read(driver, end + 100_000, 100) == bytes(100)
    assert driver.length() == end
    write(driver, b"far", end + 9_999)
    expected = initial + bytes(9_999) + b"far"
    assert driver.length() == len(expected)
    assert contents(driver) == expected
    for unmap in (False, True):
        driver.write_zeroes(len(expected) - 1, 5_001, unmap, False)
        expected = expected[:-1] + bytes(5_001)
        assert driver.length() == len(expected)
        assert contents(driver) == expected
    assert sum(run.length for run in driver.map(len(expected) + 5, 1000)) <= 1000


def check_fixed_size(image: Image, initial: bytes) -> None:
    if image.subject.resizable:
        return
    with pytest.raises(Exception, match=r"resize|grow"):
        image.driver.truncate(len(initial) * 2)
    Model(image, initial).compare()


def check_resizing(image: Image, initial: bytes) -> None:
    """What is cut off does not come back."""
    if not (image.subject.resizable and image.subject.grows):
        return
    driver, unit = image.driver, image.subject.unit
    model = Model(image, initial)
    model.apply(Operation("write", 0, len(initial), 9, False))
    for size in (20 * unit, 7 * unit, 0, 64 * 1024 + unit, 3 * 64 * 1024):
        driver.truncate(size)
        model.bytes = model.bytes[:size] + bytes(max(size - len(model.bytes), 0))
        model.compare()
        check_map(driver, model.bytes)


def check_threads(image: Image, initial: bytes, *, threads: int = 6, stripe: int = 100) -> None:
    """Writers side by side in the same blocks, and readers meanwhile: no byte is lost, and what a
    reader sees is old or new."""
    driver = image.driver
    if not image.subject.keeps:
        return
    limit = len(initial) // stripe
    start = threading.Barrier(threads)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            start.wait()
            for index in range(number, limit, threads):
                offset = index * stripe
                if index % 7 == 0:
                    driver.write_zeroes(offset, stripe, False, False)
                else:
                    write(driver, pattern(index, stripe), offset)
                if index % 5 == 0:
                    driver.flush()
                    _check_stripe(read(driver, offset, stripe), index)
        except BaseException as error:
            failures.append(error)

    def _check_stripe(found: bytes, index: int) -> None:
        assert found == (bytes(stripe) if index % 7 == 0 else pattern(index, stripe))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures, failures[0]
    for index in range(limit):
        _check_stripe(read(driver, index * stripe, stripe), index)


def check_facts(image: Image, initial: bytes) -> None:
    driver = image.driver
    assert driver.alignment >= 1
    assert driver.alignment & (driver.alignment - 1) == 0
    allocated = driver.allocated_bytes()
    assert allocated is None or allocated >= 0
    cluster = driver.cluster_size()
    assert cluster is None or cluster & (cluster - 1) == 0
    assert isinstance(driver.filename, str)


def check_hold(image: Image, initial: bytes) -> None:
    """What ``map`` offered inside is not given to anybody else, whatever is written meanwhile."""
    driver = image.driver
    with driver.hold(), driver.hold():
        runs = [run for run in driver.map(0, len(initial)) if run.host >= 0]
        driver.discard(0, len(initial))
        driver.flush()
        if image.subject.resizable and image.subject.grows:
            driver.truncate(len(initial) * 2)
            write(driver, b"\xff" * len(initial), len(initial))
            driver.flush()
        for run in runs:
            assert b"\xff" not in os.pread(run.host, run.length, run.host_offset)


def check_reservations(image: Image, initial: bytes) -> None:
    """What is copied into a reservation is there once it is committed, and not before."""
    driver, model = image.driver, bytearray(initial)
    for step, (offset, length) in enumerate(((0, 65536), (8192, 4096), (0, 1 << 20), (100, 7000))):
        length = min(length, len(model) - offset)
        for keep in (False, True):
            reserved = driver.map_for_write(offset, length)
            if reserved is None:
                break
            assert 0 < reserved.length <= length
            data = pattern(step * 2 + keep, reserved.length)
            before = contents(driver)
            _copy_into(reserved, data)
            end = offset + reserved.length
            now = contents(driver)
            assert now[:offset] + now[end:] == before[:offset] + before[end:]
            if keep:
                reserved.commit()
                model[offset:end] = data
                assert contents(driver) == model
            else:
                reserved.abort()
                model[offset:end] = contents(driver)[offset:end]
    image.driver.flush()
    Model(image, bytes(model)).compare()
    image.reopen()
    Model(image, bytes(model)).compare()


def _copy_into(reserved: Reservation, data: bytes) -> None:
    position = 0
    for run in reserved.runs:
        assert run.kind is ExtentKind.DATA
        assert run.length > 0
        part = data[position : position + run.length]
        assert os.pwrite(run.host, part, run.host_offset) == run.length
        position += run.length


def check_scattered_reads(image: Image, initial: bytes) -> None:
    """Ranges far apart, of whole clusters and of any bytes, over whatever lies there."""
    end, unit = len(initial), image.driver.cluster_size() or 4096
    whole = [(at, min(unit, end - at)) for at in range(0, end, 3 * unit)][:20]
    odd = [(at + 5, min(700, end - at - 5)) for at in range(0, end - 5, 9000)][:20]
    for ranges in (whole, odd, whole[:1], whole[-1:]):
        buffer = memoryview(bytearray(b"?" * sum(length for _, length in ranges)))
        image.driver.read_ranges(buffer, ranges)
        assert bytes(buffer) == b"".join(initial[at : at + length] for at, length in ranges)


def check_scattered_writes(image: Image, initial: bytes) -> None:
    """Ranges far apart, of whole clusters and of any bytes."""
    driver, model = image.driver, bytearray(initial)
    end, unit = len(model), driver.cluster_size() or 4096
    whole = [(at, min(unit, end - at)) for at in range(0, end, 3 * unit)][:20]
    odd = [(at + 5, min(700, end - at - 5)) for at in range(0, end - 5, 9000)][:20]
    for step, ranges in enumerate((whole, odd, [whole[0], odd[-1]], whole[::2])):
        if ranges[0][0] + ranges[0][1] > ranges[-1][0]:
            ranges = ranges[:1]
        data = pattern(step + 9, sum(length for _, length in ranges))
        driver.write_ranges(memoryview(data), ranges)
        position = 0
        for offset, length in ranges:
            if image.subject.keeps:
                model[offset : offset + length] = data[position : position + length]
            position += length
        Model(image, bytes(model)).compare()
    driver.flush()
    image.reopen()
    Model(image, bytes(model)).compare()


def check_compressed_writes(image: Image, initial: bytes) -> None:
    """Whole clusters, the last of the disk cut short; others are refused and change nothing."""
    driver, model = image.driver, bytearray(initial)
    if not driver.compresses:
        with pytest.raises(OSError) as caught:
            driver.write_compressed(memoryview(bytes(65536)), 0)
        assert caught.value.errno == errno.ENOTSUP
        Model(image, initial).compare()
        return
    unit = driver.cluster_size() or 1
    end = len(model)
    for start in (0, end // unit * unit // 2 // unit * unit, 0):
        data = pattern(start + 5, min(3 * unit, end - start))
        if start + len(data) < end:
            data = data[: len(data) // unit * unit]
        driver.write_compressed(memoryview(data), start)
        model[start : start + len(data)] = data
        assert contents(driver) == model
        write(driver, b"over", start + 10)
        model[start + 10 : start + 14] = b"over"
        assert contents(driver) == model
    driver.flush()
    image.reopen()
    Model(image, bytes(model)).compare()


SINGLE = (
    check_empty_requests,
    check_buffers,
    check_zeroes_without_fallback,
    check_beyond_the_end,
    check_fixed_size,
    check_resizing,
    check_threads,
    check_hold,
    check_reservations,
    check_scattered_reads,
    check_scattered_writes,
    check_compressed_writes,
    check_facts,
)
