"""QEMU's dialect of JSON: what its parser takes, and how it writes."""

from __future__ import annotations

from collections.abc import Iterable


def member_order(names: Iterable[str]) -> list[str]:
    """Names of an object's members in the order in which QEMU writes and looks at them.

    That is the order of the 512 buckets of its dictionaries; of two names in one bucket the
    later comes first.
    """
    latest_first = list(names)
    latest_first.reverse()
    return sorted(latest_first, key=_bucket)


def _bucket(name: str) -> int:
    encoded = name.encode("utf-8", "surrogateescape")
    value = 0x238F13AF * len(encoded)
    for index, byte in enumerate(encoded):
        value += byte << index * 5 % 24
    return (1103515243 * value + 12345 & 0xFFFFFFFF) % 512
