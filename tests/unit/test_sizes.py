"""Sizes as they are typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.sizes import bad_unit, human_size, read_size, write_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("512", 512), ("512b", 512), ("64k", 1 << 16), ("64K", 1 << 16),
        ("64KiB", 1 << 16), ("1.5MiB", 3 << 19), ("1.5M", 3 << 19), ("10G", 10 << 30),
        ("2T", 2 << 40), ("2P", 2 << 50), ("7E", 7 << 60), ("0x10", 16), ("0x10k", 16 << 10),
        ("010", 10), ("+1", 1), ("1.G", 1 << 30), ("9223372036854775807", (1 << 63) - 1),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "k", "-1", "10Q", "10 k", "1e3", ".5G", "0.5b", "0x1.8", "8E", "16E", "10iB", "10BiB",
     "10MB", "1k1", "99999999999999999999", "٣k"],
)  # fmt: skip
def test_no_sizes(text: str) -> None:
    assert read_size(text) is None


def test_hmp_counts_in_mebibytes() -> None:
    assert read_size("10", "M") == 10 << 20
    assert read_size("1.5", "M") == 3 << 19
    assert read_size("0.5b", "M") is None
    assert read_size("10b", "M") == 10


@pytest.mark.parametrize(
    ("text", "at"),
    [("10Q", 2), ("1.5x", 3), ("0x10Q", 4), ("10QiB", 2), ("x", None), ("10", None), ("16E", None),
     ("0x10", None)],
)  # fmt: skip
def test_the_bad_unit_is_found(text: str, at: int | None) -> None:
    assert bad_unit(text) == at


@given(st.integers(0, (1 << 63) - 1))
def test_what_is_written_reads_the_same(size: int) -> None:
    assert read_size(write_size(size)) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1 << 20, "1 MiB"),
        (3 << 29, "1.5 GiB"),
        (1000 << 10, "0.977 MiB"),
    ],
)
def test_sizes_for_eyes_are_those_of_qemu_img(size: int, text: str) -> None:
    assert human_size(size) == text
