"""Versions: ours, and QEMU's whose interface is spoken here."""

from __future__ import annotations

VERSION = "0.1.0"
QEMU_VERSION = (7, 2, 0)


def package() -> str:
    """What ``query-version`` gives as package."""
    return f"blkmon {VERSION}"
