"""Sizes as people type them: ``64k``, ``1.5MiB``, ``10G``, ``0x10``."""

from __future__ import annotations

import re

from monitor.engine.schema.scalars import INT64_MAX, parse_size

EXPECTED = "a size, such as 64k or 1.5G"


def read_size(text: str, unit: str = "B") -> int | None:
    """Bytes; None for what is no size of at most 2^63 - 1 bytes.

    ``unit`` ("B" or "M") is what a number without a unit counts. The units are those of QEMU
    (b, k, M, G, T, P, E in either case, powers of 1024), with or without ``iB`` behind.
    """
    if text[-2:] == "iB" and text[-3:-2] in "kKMGTPE":
        text = text[:-2]
    size = parse_size(text, unit)
    return size if size is not None and size <= INT64_MAX else None


_NUMBER = re.compile(r"\+?(?>0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]*)?)(?=[^0-9.])", re.ASCII)


def bad_unit(text: str) -> int | None:
    """Where in ``text`` the wrong unit of an otherwise good number begins; None if elsewhere."""
    match = _NUMBER.match(text)
    if match is None or read_size(text[: match.end()] + "k") is None:
        return None
    unit = text[match.end() :]
    return None if unit.lower() in ("b", *"kmgtpe") else match.end()  # then it is the number
