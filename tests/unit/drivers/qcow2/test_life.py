"""A qcow2 image's life: created, opened with options, reopened; and failures of its file."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from errno import EFBIG, EIO, ENOSPC, EROFS
from typing import Any

import pytest

from monitor.engine.drivers.base import OpenFlags
from monitor.engine.drivers.qcow2 import CreateOptions, create_image
from monitor.engine.errors import RequestError
from tests.support.children import FailingChild, Flush, MemoryChild, RecordingChild, Write
from tests.support.qcow2 import Disk, new_image, open_qcow2, read, write

CLUSTER = 65536
MIB = 1 << 20
GIB = 1 << 30


# -- creating ----------------------------------------------------------------------------------

V3 = "(use version=v3 or greater)"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": 1000}, "Image size must be a multiple of 512 bytes"),
        ({"cluster_size": 256}, "Cluster size must be a power of two between 512 and 2048k"),
        ({"cluster_size": 3000}, "Cluster size must be a power of two between 512 and 2048k"),
        ({"cluster_size": 4 * MIB}, "Cluster size must be a power of two between 512 and 2048k"),
        ({"backing_fmt": "raw"}, "Backing format cannot be used without backing file"),
        (
            {"refcount_bits": 3},
            "Refcount width must be a power of two and may not exceed 64 bits",
        ),
        (
            {"refcount_bits": 128},
            "Refcount width must be a power of two and may not exceed 64 bits",
        ),
        (
            {"refcount_bits": 0},
            "Refcount width must be a power of two and may not exceed 64 bits",
        ),
        (
            {"version": 2, "refcount_bits": 8},
            "Different refcount widths than 16 bits require compatibility level 1.1 or above " + V3,
        ),
        (
            {"version": 2, "lazy_refcounts": True},
            f"Lazy refcounts only supported with compatibility level 1.1 and above {V3}",
        ),
        (
            {"version": 2, "compression_type": "zstd"},
            "Non-zlib compression type is only supported with compatibility level 1.1 and above "
            + V3,
        ),
        (
            {"preallocation": "metadata", "backing_file": "b", "backing_fmt": "raw"},
            "Backing file and preallocation can only be used at the same time if extended_l2 is on",
        ),
        (
            {"size": 1 << 40, "cluster_size": 512},
            "Could not resize image: Failed to grow the L1 table: File too large",
        ),
        (
            {"size": (1 << 63) - 512},
            "Could not resize image: offset(9223372036854775296) exceeds "
            "maximum(9223372035781033984)",
        ),
        (
            {"backing_file": "x" * 1024, "backing_fmt": "raw"},
            f"Could not assign backing file '{'x' * 1024}' with format 'raw': Invalid argument",
        ),
        (
            {"backing_file": "x" * 400, "backing_fmt": "raw", "cluster_size": 512},
            f"Could not assign backing file '{'x' * 400}' with format 'raw': "
            "No space left on device",
        ),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], text: str) -> None:
    file = MemoryChild()
    with pytest.raises(RequestError) as caught:
        create_image(file, CreateOptions(**({"size": MIB} | options)))
    assert str(caught.value) == text
    assert not file.content


def test_a_new_image_is_none_until_its_header_takes_its_place() -> None:
    """After the first flush nothing is left to do but to overwrite zeroes: the host need not find
    blocks for the header, which makes the second flush the cheaper one."""
    file = RecordingChild()
    create_image(file, CreateOptions(MIB, backing_file="below", backing_fmt="raw"))
    first, last = (n for n, event in enumerate(file.events) if isinstance(event, Flush))
    before = [event for event in file.events[:first] if isinstance(event, Write)]
    (header,) = file.events[first + 1 : last]
    assert isinstance(header, Write)
    assert header.offset == 0
    assert header.data.startswith(b"QFI\xfb")
    (place,) = (write for write in before if write.offset == 0)
    assert len(place.data) == CLUSTER
    assert not any(place.data)


# -- life --------------------------------------------------------------------------------------


def test_read_only_then_read_write() -> None:
    file = RecordingChild(bytes(new_image(MIB).content))
    disk = open_qcow2(file)
    write(disk, 0, b"x")
    change = disk.prepare_reopen(OpenFlags(read_only=True, unmap=True))
    assert change is not None
    assert isinstance(file.events[-1], Flush)
    assert read(open_qcow2(file, read_only=True), 0, 1) == b"x"
    change.commit()
    file.events.clear()
    with pytest.raises(OSError) as caught:
        write(disk, 0, b"y")
    assert caught.value.errno == EROFS
    disk.flush()
    assert not file.events
    back = disk.prepare_reopen(OpenFlags(unmap=True))
    assert back is not None
    back.commit()
    write(disk, 0, b"z")
    disk.close()
    assert read(open_qcow2(file), 0, 1) == b"z"


def test_an_unchanged_image_is_not_touched() -> None:
    file = RecordingChild(bytes(new_image(MIB).content))
    disk = open_qcow2(file)
    read(disk)
    disk.close()
    assert not file.events


def test_importing_the_driver_is_cheap() -> None:
    script = (
        "import sys; import monitor.engine.drivers.qcow2; "
        "sys.exit(any(m in sys.modules for m in ('numpy', 'zstandard')))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"cache_size": 10, "l2_cache_size": 1, "refcount_cache_size": 2},
            "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time",
        ),
        ({"cache_size": 10, "l2_cache_size": 11}, "l2-cache-size may not exceed cache-size"),
        (
            {"l2_cache_entry_size": 1000},
            "L2 cache entry size must be a power of two between 512 and the cluster size (65536)",
        ),
    ],
)
def test_cache_options_that_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(RequestError) as caught:
        open_qcow2(new_image(MIB), options=options)
    assert str(caught.value) == text


def test_a_small_cache_is_enough() -> None:
    disk = Disk(new_image(8 * MIB, cluster_size=512))
    disk.driver.close()
    disk.driver = open_qcow2(disk.file, options={"cache_size": 4096})
    chance = random.Random(3)
    for _ in range(300):
        disk.write(chance.randrange(8 * MIB - 3000), chance.randbytes(3000))
    disk.check()
    disk.reopen()
    disk.check()


# -- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cluster_size", [512, 65536])
@pytest.mark.parametrize("countdown", range(1, 25))
def test_a_failure_anywhere_loses_only_what_failed(countdown: int, cluster_size: int) -> None:
    file = FailingChild(bytes(new_image(2 * MIB, cluster_size=cluster_size).content))
    disk = Disk(file)
    reports: list[str] = []
    disk.driver.on_corrupt = lambda *report: reports.append(report[3])
    chance = random.Random(countdown)
    disk.write(0, chance.randbytes(MIB))
    disk.driver.flush()
    file.countdown = countdown
    file.errno = chance.choice([ENOSPC, EIO, EFBIG])
    unsure: list[tuple[int, int]] = []
    for _ in range(6):
        offset, length = chance.randrange(MIB + 500_000), chance.choice([100, 5000, 200_000])
        data = chance.randbytes(length)
        try:
            disk.write(offset, data)
        except OSError:
            unsure.append((offset, length))
        try:
            disk.driver.flush()
        except OSError:
            continue  # the next one carries all of it
    assert not reports
    for offset, length in unsure:
        disk.write(offset, chance.randbytes(length))
    disk.check()
    disk.reopen()
    disk.check()


@pytest.mark.parametrize("request_", ["a cluster", "several", "compressed"])
def test_a_failed_write_whose_clusters_cannot_be_given_back_holds_up_no_others(
    request_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block of refcounts cannot be read: those clusters leak, and no more. What other requests
    give back is used again."""
    file = new_image(4 * MIB)
    disk = open_qcow2(file)
    write(disk, 0, bytes(range(256)) * 256)

    def fail(*args: object) -> None:
        raise OSError(EIO, os.strerror(EIO))

    data = os.urandom(100) * 5000
    with monkeypatch.context() as patch:
        patch.setattr(file, "write", fail)
        patch.setattr(disk._image.refcounts, "release", fail)
        with pytest.raises(OSError, match="Input/output error"):
            match request_:
                case "a cluster":
                    write(disk, MIB, data[:100])
                case "several":
                    write(disk, MIB, data)
                case "compressed":
                    disk.write_compressed(memoryview(data[:CLUSTER]), MIB)
    disk.discard(0, CLUSTER)
    disk.flush()
    size = file.length()
    write(disk, 2 * MIB, data[:CLUSTER])
    disk.flush()
    assert file.length() == size
