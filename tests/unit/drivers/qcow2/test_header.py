"""Headers that lie: each wrong field gives one clear sentence, QEMU's where QEMU has one."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable

import pytest

from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import probe
from monitor.engine.drivers.qcow2.header import read_header
from monitor.engine.errors import RequestError
from tests.support.children import Flush, MemoryChild, RecordingChild, Write
from tests.support.effort import lines_of
from tests.support.qcow2 import new_image, open_qcow2, read, write

Change = Callable[[MemoryChild], None]


def field(offset: int, fmt: str, value: int) -> Change:
    def change(file: MemoryChild) -> None:
        struct.pack_into(f">{fmt}", file.content, offset, value)

    return change


def both(*changes: Change) -> Change:
    def change(file: MemoryChild) -> None:
        for one in changes:
            one(file)

    return change


def extension(magic: int, length: int, data: bytes = b"") -> Change:
    """Puts one extension in the place of all."""

    def change(file: MemoryChild) -> None:
        struct.pack_into(">II", file.content, 112, magic, length)
        end = 120 + (len(data) + 7) // 8 * 8
        file.content[120:end] = data.ljust(end - 120, b"\0")
        file.content[end : end + 8] = bytes(8)

    return change


def test_sizes_of_the_format() -> None:
    assert q.HEADER_V2.size == 72
    assert q.V3_MIN_LENGTH == 104
    assert q.SNAPSHOT.size == 40
    assert q.FEATURE_NAME.size == 48


CASES: list[tuple[str, Change, str]] = [
    ("magic", field(0, "I", 0), "Image is not in qcow2 format"),
    ("version 1", field(4, "I", 1), "Unsupported qcow2 version 1"),
    ("version 4", field(4, "I", 4), "Unsupported qcow2 version 4"),
    ("cluster bits 8", field(20, "I", 8), "Unsupported cluster size: 2^8"),
    ("cluster bits 22", field(20, "I", 22), "Unsupported cluster size: 2^22"),
    ("cluster bits huge", field(20, "I", 0xFFFFFFFF), "Unsupported cluster size: 2^4294967295"),
    ("header short", field(100, "I", 103), "qcow2 header too short"),
    ("header long", field(100, "I", 65537), "qcow2 header exceeds cluster size"),
    ("backing offset", field(8, "Q", 65537), "Invalid backing file offset"),
    ("backing offset huge", field(8, "Q", 1 << 63), "Invalid backing file offset"),
    (
        "backing name long",
        both(field(8, "Q", 1024), field(16, "I", 1024)),
        "Backing file name too long",
    ),
    (
        "backing name past the cluster",
        both(field(8, "Q", 65530), field(16, "I", 7)),
        "Backing file name too long",
    ),
    ("compression type", field(104, "B", 2), "qcow2: unknown compression type: 2"),
    (
        "compression flag missing",
        field(104, "B", 1),
        "qcow2: Compression type incompatible feature bit must be set",
    ),
    (
        "compression flag wrong",
        field(72, "Q", 8),
        "qcow2: Compression type incompatible feature bit must not be set",
    ),
    ("data file", field(72, "Q", 4), "Unsupported qcow2 feature(s): external data file"),
    ("extended L2", field(72, "Q", 16), "Unsupported qcow2 feature(s): extended L2 entries"),
    (
        "unknown feature",
        field(72, "Q", 1 << 40),
        "Unsupported qcow2 feature(s): Unknown incompatible feature: 10000000000",
    ),
    (
        "feature named by the image",
        both(
            field(72, "Q", 1 << 40 | 4),
            extension(
                q.EXT_FEATURE_NAMES,
                48,
                q.FEATURE_NAME.pack(0, 40, b"time travel"),
            ),
        ),
        "Unsupported qcow2 feature(s): external data file, time travel",
    ),
    ("AES", field(32, "I", 1), "Unsupported qcow2 feature(s): AES encryption"),
    ("LUKS", field(32, "I", 2), "Unsupported qcow2 feature(s): LUKS encryption"),
    ("corrupt", field(72, "Q", 2), "qcow2: Image is corrupt; cannot be opened read/write"),
    (
        "refcount order",
        field(96, "I", 7),
        "Reference count entry width too large; may not exceed 64 bits",
    ),
    (
        "no refcount table",
        field(56, "I", 0),
        "Image does not contain a reference count table",
    ),
    ("refcount table large", field(56, "I", 129), "Reference count table too large"),
    ("refcount table huge", field(56, "I", 0xFFFFFFFF), "Reference count table too large"),
    ("refcount table offset", field(48, "Q", 1), "Reference count table offset invalid"),
    (
        "refcount table offset huge",
        field(48, "Q", 0xFFFFFFFFFFFF0000),
        "Reference count table offset invalid",
    ),
    (
        "refcount table outside",
        field(48, "Q", 1 << 40),
        "Reference count table lies beyond the end of the file",
    ),
    ("snapshots many", field(60, "I", 65537), "Snapshot table too large"),
    (
        "snapshots unaligned",
        both(field(60, "I", 1), field(64, "Q", 512)),
        "Snapshot table offset invalid",
    ),
    (
        "snapshots outside",
        both(field(60, "I", 1), field(64, "Q", 1 << 40)),
        "Snapshot table lies beyond the end of the file",
    ),
    ("L1 large", field(36, "I", (4 << 20) + 1), "Active L1 table too large"),
    ("L1 huge", field(36, "I", 0xFFFFFFFF), "Active L1 table too large"),
    ("L1 unaligned", field(40, "Q", 512), "Active L1 table offset invalid"),
    ("L1 huge offset", field(40, "Q", 0x7FFFFFFFFFFF0000), "Active L1 table"),
    ("L1 small", field(36, "I", 0), "L1 table is too small"),
    ("disk larger than its L1", field(24, "Q", 1 << 50), "L1 table is too small"),
    ("disk huge", field(24, "Q", 0xFFFFFFFFFFFFFFFF), "Image is too big"),
    ("extension long", extension(0x12345678, 70_000), "Header extension too large"),
    ("extension huge", extension(0x12345678, 0xFFFFFFFF), "Header extension too large"),
    (
        "backing format long",
        extension(q.EXT_BACKING_FORMAT, 16, b"x" * 16),
        "ERROR: ext_backing_format: len=16 too large (>=16)",
    ),
]


@pytest.mark.parametrize(("change", "text"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_wrong_field(change: Change, text: str) -> None:
    file = new_image(64 << 20)
    change(file)
    before = bytes(file.content)
    with pytest.raises(RequestError) as caught:
        open_qcow2(file)
    assert str(caught.value).startswith(text)
    assert file.content == before


@pytest.mark.parametrize("length", [0, 3, 71, 80, 103])
def test_a_file_cut_short(length: int) -> None:
    file = new_image(1 << 20)
    file.truncate(length)
    with pytest.raises(RequestError):
        open_qcow2(file)


def test_a_corrupt_image_can_be_read() -> None:
    file = new_image(1 << 20)
    field(72, "Q", 2)(file)
    disk = open_qcow2(file, read_only=True)
    assert (disk.specific_info() or {})["data"]["corrupt"] is True
    assert read(disk) == bytes(1 << 20)


@pytest.mark.parametrize("seed", range(200))
def test_any_damage_to_the_header_is_survived(seed: int) -> None:
    """An error or an open image, in bounded time and memory; never another exception."""

    chance = random.Random(seed)
    file = new_image(1 << 20, cluster_size=chance.choice([512, 4096, 65536]))
    disk = open_qcow2(file)
    write(disk, 0, b"data" * 1000)
    disk.close()
    for _ in range(chance.randint(1, 6)):
        file.content[chance.randrange(min(len(file.content), 3 * 65536))] = chance.randrange(256)
    for _ in range(chance.randint(0, 2)):
        file.content[chance.randrange(112)] = chance.randrange(256)
    try:
        disk = open_qcow2(file)
        read(disk, 0, min(disk.length(), 1 << 20))
        if disk.length():
            write(disk, 0, b"x" * min(disk.length(), 70_000))
        disk.close()
    except (RequestError, OSError):
        pass


@pytest.mark.parametrize("cluster_bits", [9, 16, 21])
def test_opening_is_bounded_whatever_the_header_claims(cluster_bits: int) -> None:
    """The largest tables that are allowed, in a file that does not hold them."""
    file = new_image(1 << 20, cluster_size=1 << cluster_bits)
    entries = q.MAX_L1_BYTES // 8
    field(36, "I", entries)(file)
    field(56, "I", q.MAX_REFTABLE_BYTES >> cluster_bits)(file)
    tracemalloc.start()
    lines = lines_of(lambda: open_qcow2(file))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert lines < 2_000
    assert peak < 64 << 20


def test_unknown_parts_of_the_header_survive() -> None:
    file = new_image(1 << 20)
    length = 112 + 16
    header = bytearray(file.content[:112]) + b"\xaa" * 16
    struct.pack_into(">I", header, 100, length)
    unknown = struct.pack(">II", 0x11223344, 5) + b"12345\0\0\0" + bytes(8)
    file.content[: length + len(unknown)] = header + unknown
    field(80, "Q", 1 << 50)(file)  # a compatible feature nobody knows
    field(88, "Q", 1 << 60 | 1)(file)  # autoclear: one unknown, and bitmaps
    disk = open_qcow2(file)
    assert file.content[88:96] != bytes(8)  # opening alone changes nothing
    disk.set_backing("base", "raw")
    disk.close()
    header_now = read_header(file, read_only=True)
    assert header_now.tail[8:] == b"\xaa" * 16
    assert header_now.extension(0x11223344) == b"12345"
    assert header_now.compatible == 1 << 50
    assert header_now.autoclear == 0
    assert header_now.backing_file == b"base"
    assert header_now.backing_format == "raw"


def test_autoclear_bits_go_before_the_first_write() -> None:
    file = new_image(1 << 20)
    field(88, "Q", 1 << 60 | 1)(file)
    disk = open_qcow2(file)
    write(disk, 0, b"x")
    assert file.content[88:96] == bytes(8)
    disk.close()


def test_autoclear_bits_are_gone_before_anything_else_changes() -> None:
    """Also where the power is cut: else another program believes what no longer holds."""
    file = new_image(1 << 20)
    field(88, "Q", 1 << 60)(file)
    child = RecordingChild(file.content)
    disk = open_qcow2(child)
    write(disk, 0, b"x")
    disk.close()
    first, second, *_ = child.events
    assert first == Write(72, bytes(24))
    assert second == Flush()


def test_probe() -> None:
    image = bytes(new_image(0).content[:512])
    assert probe(image)
    assert not probe(image[:20])
    assert not probe(bytes(512))
    assert not probe(b"QFI\xfb\0\0\0\1" + bytes(504))


def test_names_too_long_for_the_header() -> None:
    disk = open_qcow2(new_image(1 << 20, cluster_size=512))
    for name, fmt, reason in (
        ("x" * 1024, "raw", "Invalid argument"),
        ("x", "f" * 16, "Invalid argument"),
        ("x" * 500, "raw", "No space left on device"),
    ):
        with pytest.raises(OSError, match=reason):
            disk.set_backing(name, fmt)
    assert disk.backing_filename is None
