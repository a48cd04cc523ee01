"""Sizes as they are typed."""

from __future__ import annotations

import pytest

from monitor.sizes import bad_unit, read_size


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
