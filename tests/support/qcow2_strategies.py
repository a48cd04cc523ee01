"""Hypothesis: images of every kind, and requests on them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.support.qcow2 import Disk

CLUSTER_SIZES = [512, 1024, 4096, 65536, 2 << 20]


@st.composite
def images(draw: st.DrawFn) -> dict[str, Any]:
    version = draw(st.sampled_from([2, 3]))
    cluster_size = draw(st.sampled_from(CLUSTER_SIZES))
    sectors = draw(st.integers(1, min(16 * cluster_size, 6 << 20) // 512))
    return {
        "version": version,
        "cluster_size": cluster_size,
        "size": sectors * 512,
        "refcount_bits": draw(st.sampled_from([1, 2, 4, 8, 16, 32, 64])) if version == 3 else 16,
    }


def scattered(data: st.DataObject, size: int, cluster: int) -> list[tuple[int, int]]:
    """Ranges apart from each other, of whole clusters or of any bytes."""
    unit = data.draw(st.sampled_from([1, cluster]))
    places = st.integers(0, -(-size // unit))
    at = sorted(data.draw(st.sets(places, min_size=2, max_size=10)))
    pairs = [
        (low * unit, min(size, high * unit)) for low, high in zip(at[::2], at[1::2], strict=False)
    ]
    return [(low, high - low) for low, high in pairs if low < high]


def requests(data: st.DataObject, disk: Disk) -> None:
    """Draws one request and makes it."""
    size = disk.size
    scatter = ["scattered", "gathered"]
    kinds = ["write", "write", "write", *scatter, "zero", "discard", "flush", "grow", "reopen"]
    kind = data.draw(st.sampled_from(kinds))
    if kind == "flush":
        disk.driver.flush()
    elif kind == "reopen":
        disk.reopen()
    elif kind == "grow":
        facts = disk.driver.specific_info() or {}
        low = -(size // 512) if facts["data"]["compat"] != "0.10" else 0
        step = data.draw(st.integers(max(low + 1, -200), 200)) * 512
        if disk.backing is None or step < 0 or low:
            disk.truncate(size + step)
    elif kind == "scattered":
        ranges = scattered(data, size, disk.driver.cluster_size() or 1)
        byte = data.draw(st.integers(1, 255))
        disk.write_ranges(bytes([byte]) * sum(length for _, length in ranges), ranges)
    elif kind == "gathered":
        ranges = scattered(data, size, disk.driver.cluster_size() or 1)
        wanted = b"".join(disk.model[at : at + length] for at, length in ranges)
        assert disk.read_ranges(ranges) == wanted
    else:
        offset = data.draw(st.integers(0, size - 1))
        length = data.draw(st.integers(1, size - offset))
        if kind == "write":
            byte = data.draw(st.integers(1, 255))
            disk.write(offset, bytes([byte]) * length)
        elif kind == "zero":
            disk.write_zeroes(offset, length, data.draw(st.booleans()))
        else:
            disk.discard(offset, length)
