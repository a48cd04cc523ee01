"""Dirty bitmaps in memory, held against a plain set of bit numbers."""

from __future__ import annotations

import hashlib
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.bitmap import (
    LOG_SOON,
    BitmapBusy,
    BitmapInconsistent,
    BitmapReadOnly,
    BitmapsDiffer,
    DirtyBitmap,
    default_granularity,
)
from monitor.engine.bitmapwords import load_words, sha256, words_of

SIZE = 3 * 65536 * 512 + 700  # some windows of bits, and a last bit that covers less than the rest
Ranges = list[tuple[int, int]]

ranges = st.lists(
    st.builds(
        lambda at, length: (at, min(length, SIZE - at)),
        st.one_of(st.integers(0, SIZE - 1), st.integers(65536 * 512 - 2000, 65536 * 512 + 2000)),
        st.one_of(st.integers(0, 5000), st.integers(0, 1 << 20), st.just(SIZE)),
    ),
    max_size=6,
)
granularities = st.sampled_from([512, 1024, 4096, 65536, 1 << 20])


def bits(dirty: Ranges, granularity: int) -> set[int]:
    """The numbers of the bits that the ranges touch."""
    return {
        bit
        for offset, length in dirty
        if length
        for bit in range(offset // granularity, (offset + length - 1) // granularity + 1)
    }


def bitmap_of(dirty: Ranges, granularity: int, size: int = SIZE) -> DirtyBitmap:
    bitmap = DirtyBitmap(size, granularity, "b")
    for offset, length in dirty:
        bitmap.set(offset, length)
    return bitmap


def found_in(bitmap: DirtyBitmap) -> set[int]:
    return bits(list(bitmap.areas()), bitmap.granularity)


@given(ranges, granularities, st.integers(0, SIZE), st.integers(0, SIZE))
def test_areas_are_the_dirty_runs_clipped(
    dirty: Ranges, granularity: int, start: int, end: int
) -> None:
    bitmap = bitmap_of(dirty, granularity)
    expected = bits(dirty, granularity)
    assert found_in(bitmap) == expected
    assert bitmap.count == len(expected) * granularity
    inside = sorted(
        (max(start, bit * granularity), min(end, (bit + 1) * granularity, SIZE))
        for bit in expected
        if bit * granularity < end and (bit + 1) * granularity > start
    )
    merged: Ranges = []
    for begin, stop in inside:
        if merged and sum(merged[-1]) == begin:
            merged[-1] = merged[-1][0], stop - merged[-1][0]
        elif stop > begin:
            merged.append((begin, stop - begin))
    assert list(bitmap.areas(start, end)) == merged
    assert bitmap.next_dirty(start, end) == (merged[0][0] if merged else None)


@given(ranges, ranges, granularities)
def test_a_reset_cleans_what_lies_wholly_inside(
    dirty: Ranges, clean: Ranges, granularity: int
) -> None:
    bitmap = bitmap_of(dirty, granularity)
    expected = bits(dirty, granularity)
    for offset, length in clean:
        bitmap.reset(offset, length)
        expected -= {
            bit
            for bit in expected
            if bit * granularity >= offset and min((bit + 1) * granularity, SIZE) <= offset + length
        }
    assert found_in(bitmap) == expected


@given(ranges, ranges, granularities, granularities)
def test_merging_across_granularities(
    here: Ranges, there: Ranges, granularity: int, other: int
) -> None:
    target, source = bitmap_of(here, granularity), bitmap_of(there, other)
    covered = [(bit * other, min(other, SIZE - bit * other)) for bit in bits(there, other)]
    target.merge(source)
    assert found_in(target) == bits(here, granularity) | bits(covered, granularity)
    assert found_in(source) == bits(there, other)


def test_merging_scattered_bits_into_finer_ones() -> None:
    """More than add_range is worth: vectors, and nothing beyond the end."""
    size = 70_000 * 4096 + 100
    source = DirtyBitmap(size, 4096)
    for bit in range(0, 70_001, 2):
        source.set(bit * 4096, 1)
    target = DirtyBitmap(size, 512)
    target.merge(source)
    assert list(target.areas()) == list(source.areas())


def test_a_bitmap_merged_onto_itself_stays_as_it_is() -> None:
    bitmap = bitmap_of([(0, 1)], 512)
    bitmap.merge(bitmap)
    assert found_in(bitmap) == {0}


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(BitmapsDiffer, match="destination size is 4096, source size is 8192"):
        DirtyBitmap(4096, 512).merge(DirtyBitmap(8192, 512))


@given(ranges, granularities, st.integers(1, SIZE + 65536))
def test_a_resize_drops_what_is_beyond_and_adds_what_is_clean(
    dirty: Ranges, granularity: int, size: int
) -> None:
    bitmap = bitmap_of(dirty, granularity)
    bitmap.resize(size)
    kept = {bit for bit in bits(dirty, granularity) if bit * granularity < size}
    assert found_in(bitmap) == kept
    bitmap.resize(SIZE + 65536)
    assert found_in(bitmap) == kept


def test_more_bits_than_32_can_number() -> None:
    bitmap = DirtyBitmap(1 << 40, 512, "b")
    bitmap.set(1 << 39, 1)
    bitmap.resize(1 << 43)  # 2**34 bits
    bitmap.set((1 << 43) - 1, 1)
    assert list(bitmap.areas()) == [(1 << 39, 512), ((1 << 43) - 512, 512)]
    coarse = DirtyBitmap(1 << 43, 1 << 20)
    coarse.merge(bitmap)
    assert list(coarse.areas()) == [(1 << 39, 1 << 20), ((1 << 43) - (1 << 20), 1 << 20)]
    bitmap.merge(coarse)
    bitmap.resize(1 << 40)
    assert list(bitmap.areas()) == [(1 << 39, 1 << 20)]


@given(ranges, granularities)
def test_undo_restores_bit_for_bit(dirty: Ranges, granularity: int) -> None:
    bitmap = bitmap_of(dirty, granularity)
    saved = bitmap.save()
    bitmap.clear()
    assert bitmap.count == 0
    bitmap.set(0, SIZE)
    bitmap.restore(saved)
    assert found_in(bitmap) == bits(dirty, granularity)


@given(ranges, granularities)
def test_words_lead_back_and_are_what_is_hashed(dirty: Ranges, granularity: int) -> None:
    bitmap = bitmap_of(dirty, granularity)
    expected = bits(dirty, granularity)
    bit_count = -(-SIZE // granularity)
    as_bytes = bytearray(-(-bit_count // 64) * 8)
    for bit in expected:
        as_bytes[bit >> 3] |= 1 << (bit & 7)
    assert b"".join(words_of(bitmap, 0, len(as_bytes) // 8)) == as_bytes
    assert sha256(bitmap) == hashlib.sha256(as_bytes).hexdigest()
    other = DirtyBitmap(SIZE, granularity)
    load_words(other, 0, memoryview(as_bytes))
    assert found_in(other) == expected


def test_bits_beyond_the_disk_are_not_loaded() -> None:
    bitmap = DirtyBitmap(512 * 10, 512)
    load_words(bitmap, 0, memoryview(b"\xff" * 8))
    assert bitmap.count == 5120


def test_the_log_stays_short() -> None:
    bitmap = DirtyBitmap(SIZE, 512)
    for at in range(0, LOG_SOON * 3 * 1024, 1024):
        bitmap.note(at, 512)
        assert len(bitmap._log) < LOG_SOON
    assert bitmap.count == LOG_SOON * 3 * 512


def test_only_an_enabled_one_records() -> None:
    bitmap = DirtyBitmap(SIZE, 512)
    bitmap.enabled = False
    bitmap.note(0, 512)
    assert not bitmap.recording
    assert bitmap.count == 0
    bitmap.set(0, 512)  # a job's
    assert bitmap.count == 512


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("kept", [True, False])
def test_a_successor_takes_the_writes_meanwhile(enabled: bool, kept: bool) -> None:
    bitmap = DirtyBitmap(1 << 20, 512, "b")
    bitmap.set(0, 512)
    bitmap.enabled = enabled
    successor = bitmap.create_successor()
    assert bitmap.busy
    assert bitmap.recording is enabled
    bitmap.note(4096, 512)
    assert found_in(bitmap) == {0}
    assert found_in(successor) == ({8} if enabled else set())
    if kept:
        bitmap.reclaim()
    else:
        bitmap.abdicate()
    assert not bitmap.busy
    assert bitmap.enabled is enabled
    assert found_in(bitmap) == ({0} if kept else set()) | ({8} if enabled else set())


def test_what_is_noted_while_roles_change_is_never_lost() -> None:
    """A writer without pause: whatever it noted is dirty in the end, before, during and after."""
    bitmap = DirtyBitmap(1 << 30, 512, "b")
    ended = threading.Event()
    noted = 0

    def write() -> None:
        nonlocal noted
        while not ended.is_set():
            bitmap.note(noted * 512, 512)
            noted = (noted + 1) % (1 << 21)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(200):
        bitmap.create_successor()
        bitmap.reclaim()
    ended.set()
    writer.join()
    assert bitmap.count >= noted * 512


@pytest.mark.parametrize(
    ("flag", "allowed", "error"),
    [
        ("busy", "busy", BitmapBusy),
        ("readonly", "readonly", BitmapReadOnly),
        ("inconsistent", "broken", BitmapInconsistent),
    ],
)
def test_states_are_refused_by_name(flag: str, allowed: str, error: type[Exception]) -> None:
    bitmap = DirtyBitmap(512, 512, "b0")
    bitmap.check()
    setattr(bitmap, flag, True)
    with pytest.raises(error, match="Bitmap 'b0' is"):
        bitmap.check()
    bitmap.check(**{allowed: True})


@pytest.mark.parametrize(
    ("cluster", "granularity"),
    [(None, 65536), (512, 4096), (4096, 4096), (16384, 16384), (65536, 65536), (2 << 20, 65536)],
)
def test_the_default_granularity(cluster: int | None, granularity: int) -> None:
    assert default_granularity(cluster) == granularity
