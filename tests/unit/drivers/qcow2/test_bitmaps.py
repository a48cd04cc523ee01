"""Bitmaps in an image: what is wrong is told, what is not known is kept, and all is bounded."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.bitmap import BitmapInconsistent, DirtyBitmap
from monitor.engine.drivers.qcow2 import Qcow2Driver
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.errors import BadBitmaps, BadImage, CannotKeepBitmaps
from monitor.engine.errors import HostFailure, RequestError
from monitor.engine.graph.recorders import Bitmaps
from tests.support.bitmaps import directory_of
from tests.support.children import MemoryChild
from tests.support.qcow2 import new_image, open_qcow2, read, write

SIZE = 1 << 20
CLUSTER = 4096


def add(bitmaps: Bitmaps, name: str, granularity: int = 4096, size: int = SIZE) -> DirtyBitmap:
    bitmap = DirtyBitmap(size, granularity, name)
    bitmap.persistent = True
    bitmaps.add(bitmap)
    return bitmap


def with_bitmaps() -> MemoryChild:
    """An image that keeps two: one with some data, and one that is wholly dirty."""
    image = new_image(SIZE, cluster_size=CLUSTER)
    bitmaps = Bitmaps()
    driver = open_qcow2(image, bitmaps=bitmaps)
    add(bitmaps, "first").set(8192, 12_000)
    full = add(bitmaps, "full", 512, SIZE)
    full.set(0, SIZE)
    full.enabled = False
    driver.close()
    return image


def opened(image: MemoryChild, **flags: bool) -> tuple[Qcow2Driver, Bitmaps]:
    bitmaps = Bitmaps()
    return open_qcow2(image, bitmaps=bitmaps, **flags), bitmaps


def found(bitmaps: Bitmaps, name: str) -> DirtyBitmap:
    bitmap = bitmaps.get(name)
    assert bitmap is not None
    return bitmap


def test_they_come_back_as_they_were() -> None:
    image = with_bitmaps()
    for read_only in (True, False):
        driver, bitmaps = opened(image, read_only=read_only)
        full, first = bitmaps  # as QEMU, the newest is written first
        assert (first.name, first.enabled, first.readonly) == ("first", True, read_only)
        assert list(first.areas()) == [(8192, 12288)]
        assert (full.name, full.enabled, full.granularity) == ("full", False, 512)
        assert list(full.areas()) == [(0, SIZE)]
        assert all(bitmap.persistent for bitmap in bitmaps)
        driver.close()


def test_an_image_open_for_reading_is_not_touched() -> None:
    image = with_bitmaps()
    before = bytes(image.content)
    driver, _ = opened(image, read_only=True)
    driver.close()
    assert image.content == before


def test_one_that_was_left_in_use_is_inconsistent_and_stays_so() -> None:
    image = with_bitmaps()
    opened(image)  # and killed
    for _ in range(2):
        driver, bitmaps = opened(image)
        assert [bitmap.inconsistent for bitmap in bitmaps] == [True, True]
        assert not any(bitmap.recording for bitmap in bitmaps)
        with pytest.raises(BitmapInconsistent):
            driver.truncate(SIZE * 2)
        write(driver, 0, b"x")
        driver.close()
    driver, bitmaps = opened(image)
    for name in ("first", "full"):
        driver.remove_bitmap(name)
        bitmaps.remove(found(bitmaps, name))
    driver.truncate(SIZE * 2)
    driver.close()
    assert directory_of(image.content) == (0, 0)
    assert image.content[88:96] == bytes(8)


def test_they_are_gone_where_a_writer_did_not_know_them() -> None:
    """It has cleared the autoclear bit, as it has to."""
    image = with_bitmaps()
    image.content[95] = 0
    driver, bitmaps = opened(image)
    assert list(bitmaps) == []
    add(bitmaps, "new")
    driver.close()
    _, bitmaps = opened(image)
    assert [bitmap.name for bitmap in bitmaps] == ["new"]


Damage = Callable[[bytearray], None]


def extension(offset: int, fmt: str, value: int) -> Damage:
    """Changes a field of the header's extension."""

    def damage(image: bytearray) -> None:
        at = image.index(struct.pack(">II", q.EXT_BITMAPS, 24)) + 8
        struct.pack_into(f">{fmt}", image, at + offset, value)

    return damage


def entry(offset: int, fmt: str, value: int) -> Damage:
    """Changes a field of the directory's first entry."""

    def damage(image: bytearray) -> None:
        struct.pack_into(f">{fmt}", image, directory_of(image)[0] + offset, value)

    return damage


def table(value: int) -> Damage:
    """Changes the first entry of the second bitmap's table, which is one cluster of ones."""

    def damage(image: bytearray) -> None:
        at = directory_of(image)[0] + 32
        (offset,) = struct.unpack_from(">Q", image, at)
        struct.pack_into(">Q", image, offset, value)

    return damage


CONSTRAINTS = "Bitmap 'full' doesn't satisfy the constraints"
NO_TABLE = "Could not read bitmap_table table from image for bitmap"


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (extension(-4, "I", 32), "bitmaps_ext: Invalid extension length"),
        (extension(4, "I", 1), "bitmaps_ext: Reserved field is not zero"),
        (extension(0, "I", 65536), "bitmaps_ext: image has 65536 bitmaps, exceeding"),
        (extension(0, "I", 0), "bitmaps_ext: found bitmaps extension with zero bitmaps"),
        (extension(0, "I", 1), "More bitmaps found than specified in header extension"),
        (extension(0, "I", 3), "Less bitmaps found than specified in header extension"),
        (extension(16, "Q", 4097), "bitmaps_ext: invalid bitmap directory offset"),
        (extension(16, "Q", 1 << 40), "bitmaps_ext: invalid bitmap directory offset"),
        (extension(8, "Q", 1 << 40), "bitmaps_ext: bitmap directory size (1099511627776) exceeds"),
        (extension(8, "Q", 0), "Requested bitmap directory size is zero"),
        (extension(8, "Q", 40), "Broken bitmap directory"),
        (entry(0, "Q", 0), CONSTRAINTS),
        (entry(0, "Q", 4097), CONSTRAINTS),
        (entry(0, "Q", 1 << 62), NO_TABLE),
        (entry(8, "I", 0), CONSTRAINTS),
        (entry(8, "I", 1 << 31), CONSTRAINTS),
        (entry(8, "I", 2), "Could not read bitmap 'full' from image: Invalid argument"),
        (entry(12, "I", 8), CONSTRAINTS),
        (entry(16, "B", 0), CONSTRAINTS),
        (entry(16, "B", 2), CONSTRAINTS),
        (entry(17, "B", 8), CONSTRAINTS),
        (entry(17, "B", 32), CONSTRAINTS),
        (entry(18, "H", 0), "doesn't satisfy the constraints"),
        (entry(18, "H", 1024), "Broken bitmap directory"),
        (entry(20, "I", 1 << 31), "Broken bitmap directory"),
        (table(3), NO_TABLE),
        (table(1 << 56), NO_TABLE),
        (table(4096 | 1), NO_TABLE),
        (table(512), NO_TABLE),
        (table(1 << 40), NO_TABLE),
    ],
)
def test_a_wrong_directory(damage: Damage, text: str) -> None:
    image = with_bitmaps()
    if text is NO_TABLE and damage.__qualname__.startswith("table"):
        text = NO_TABLE + " 'first': Invalid argument"
    damage(image.content)
    before = bytes(image.content)
    for read_only in (True, False):
        with pytest.raises(BadBitmaps) as caught:
            opened(image, read_only=read_only)
        assert text in caught.value.text
    assert image.content == before


@given(st.data())
def test_any_damage_is_survived(data: st.DataObject) -> None:
    """Whatever lies in the extension, the directory and the tables: open, or refused in a line."""
    image = MemoryChild(WHOLE)
    content = image.content
    head = content.index(struct.pack(">II", q.EXT_BITMAPS, 24))
    directory, size = directory_of(content)
    tables = [struct.unpack_from(">Q", content, directory + at)[0] for at in (0, 32)]
    places = [(head, 32), (directory, size), *((offset, 16) for offset in tables)]
    for _ in range(data.draw(st.integers(1, 3))):
        start, length = data.draw(st.sampled_from(places))
        at = start + data.draw(st.integers(0, length - 1))
        content[at] = data.draw(st.integers(0, 255))
    try:
        driver, bitmaps = opened(image)
    except (BadImage, HostFailure):
        return
    for bitmap in bitmaps:
        bitmap.note(0, 1)
        assert bitmap.count >= 0
    read(driver, 0, 4096)
    try:
        write(driver, 0, b"x")
        driver.close()
    except (RequestError, OSError):
        return


WHOLE = bytes(with_bitmaps().content)


def test_loading_is_bounded() -> None:
    """Tables of 512 MiB of bits each, all of them in one cluster of the file."""
    image = new_image(1 << 44, cluster_size=65536)
    bitmaps = Bitmaps()
    driver = open_qcow2(image, bitmaps=bitmaps)
    add(bitmaps, "b", 65536, 1 << 44).set(0, 65536)
    driver.close()
    directory = directory_of(image.content)[0]
    offset, entries = struct.unpack_from(">QI", image.content, directory)
    (data,) = struct.unpack_from(">Q", image.content, offset)
    for number in range(entries):
        struct.pack_into(">Q", image.content, offset + number * 8, data)
    tracemalloc.start()
    try:
        with pytest.raises(BadBitmaps, match="Bitmap 'b' holds more data than can be read"):
            opened(image)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_names_are_bytes() -> None:
    """One that is no UTF-8 is shown somehow, and kept as it is."""
    image = with_bitmaps()
    at = image.content.index(b"first", directory_of(image.content)[0])
    image.content[at : at + 5] = b"fi\xffst"
    driver, bitmaps = opened(image)
    assert [bitmap.name for bitmap in bitmaps] == ["full", "fi\\xffst"]
    driver.close()
    assert b"fi\xffst" in image.content[directory_of(image.content)[0] :]


@pytest.mark.parametrize("compatible", [True, False])
def test_extra_data_is_kept(compatible: bool) -> None:
    image = with_bitmaps()
    content = image.content
    at, size = directory_of(content)
    second = content[at + 32 : at + size]
    flags = q.BITMAP_AUTO | (q.BITMAP_EXTRA_COMPATIBLE if compatible else 0)
    struct.pack_into(">I", second, 12, flags)
    struct.pack_into(">I", second, 20, 8)
    content[at + 32 : at + size + 8] = second[:24] + b"unknown!" + second[24:]
    extension(8, "Q", size + 8)(content)
    driver, bitmaps = opened(image)
    assert [bitmap.name for bitmap in bitmaps] == ["full", "first"][: 1 + compatible]
    write(driver, 0, b"x" * 4096)
    found(bitmaps, "full").set(0, 1)
    driver.close()
    at, size = directory_of(image.content)
    assert b"unknown!first" in image.content[at : at + size]
    driver, bitmaps = opened(image)
    assert not any(bitmap.inconsistent for bitmap in bitmaps)
    if not compatible:
        with pytest.raises(CannotKeepBitmaps, match="not loaded into memory"):
            driver.truncate(SIZE * 2)


def test_a_dirty_image_with_bitmaps_is_repaired() -> None:
    image = with_bitmaps()
    image.content[79] |= q.INCOMPAT_DIRTY
    reftable = struct.unpack_from(">Q", image.content, 48)[0]
    block = struct.unpack_from(">Q", image.content, reftable)[0]
    image.content[block : block + CLUSTER] = bytes(CLUSTER)
    driver, bitmaps = opened(image)
    write(driver, 0, random.Random(1).randbytes(300_000))
    driver.close()
    _, bitmaps = opened(image)
    assert list(found(bitmaps, "first").areas()) == [(8192, 12288)]
    assert list(found(bitmaps, "full").areas()) == [(0, SIZE)]


def test_limits_of_what_is_kept() -> None:
    driver, _ = opened(new_image(1 << 46))
    check = driver.check_new_bitmap
    with pytest.raises(CannotKeepBitmaps, match="Maximum number of persistent bitmaps is already"):
        check("b", 65536, ["x"] * 65535)
    with pytest.raises(CannotKeepBitmaps, match="Not enough space in the bitmap directory"):
        check("b", 65536, ["x" * 1023] * 65000)
    with pytest.raises(CannotKeepBitmaps, match="Too much space will be occupied by the bitmap"):
        check("b", 4096, [])
    with pytest.raises(CannotKeepBitmaps, match=r"Name length exceeds maximum \(1023 characters\)"):
        check("ü" * 512, 65536, [])
    check("ü" * 511 + "x", 65536, ["x"] * 65534)


def test_what_would_not_be_read_again_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(q, "MAX_BITMAP_DATA", 2 * CLUSTER)
    image = new_image(1 << 30, cluster_size=CLUSTER)
    driver, bitmaps = opened(image)
    for name in ("first", "second"):
        one = add(bitmaps, name, 4096, 1 << 30)
        one.set(0, 1)
        one.set((1 << 30) - 1, 1)
    with pytest.raises(RequestError, match="Bitmap 'first' is too big"):
        driver.close()
    assert directory_of(image.content) == (0, 0)


def test_a_bitmap_that_does_not_fit_is_lost_aloud() -> None:
    """The image itself is closed all the same."""
    image = new_image(SIZE, cluster_size=CLUSTER)
    driver, bitmaps = opened(image)
    add(bitmaps, "x" * 1024)
    write(driver, 0, b"x" * 4096)
    with pytest.raises(RequestError) as caught:
        driver.close()
    assert caught.value.text == (
        "Lost persistent bitmaps during inactivation of node 'node': "
        f"Bitmap '{'x' * 1024}' doesn't satisfy the constraints: "
        "Name length exceeds maximum (1023 characters)"
    )
    driver, _ = opened(image)
    assert read(driver, 0, 4096) == b"x" * 4096


class FailingChild(MemoryChild):
    """Fails the n-th write."""

    left = 1 << 30

    def write(self, buffer: memoryview, offset: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(5, "no")
        super().write(buffer, offset)


def test_a_failure_while_storing_leaves_what_was_there() -> None:
    for left in range(12):
        image = FailingChild(WHOLE)
        driver, bitmaps = opened(image)
        found(bitmaps, "first").set(500_000, 1)
        image.left = left
        try:
            driver.close()
        except (RequestError, OSError):
            image.left = 1 << 30
            _, bitmaps = opened(image)
            assert found(bitmaps, "first").inconsistent or list(
                found(bitmaps, "first").areas()
            ) == [(8192, 12288), (499712, 4096)]
            continue
        break
    else:
        pytest.fail("it needs more writes than that")
