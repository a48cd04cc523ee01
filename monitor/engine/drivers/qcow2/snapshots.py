"""The table of internal snapshots: read and checked, so that nothing overwrites what it names, and
made anew when it changes."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any, Final, NamedTuple

from monitor.engine.drivers.base import Child
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.errors import BadHeader
from monitor.engine.drivers.qcow2.header import Header
from monitor.engine.errors import host_failure

_CHUNK: Final = 256 << 10
_EXTRA: Final = Struct(">QQQ")  # vm_state_size_large, disk_size, icount; later ones are optional
_NO_ICOUNT: Final = 0xFFFF_FFFF_FFFF_FFFF


class Snapshot(NamedTuple):
    """One entry. ``vm_clock_nsec`` is the guest's time; ``disk_size`` None means the image's.
    ``unknown`` are bytes of extra data that a later version put there."""

    raw_id: bytes
    raw_name: bytes
    l1_table_offset: int
    l1_size: int
    date_sec: int
    date_nsec: int
    vm_clock_nsec: int
    vm_state_size: int
    disk_size: int | None
    icount: int | None
    unknown: bytes = b""

    @property
    def id(self) -> str:
        return self.raw_id.decode("utf-8", "backslashreplace")

    @property
    def name(self) -> str:
        return self.raw_name.decode("utf-8", "backslashreplace")

    def info(self) -> dict[str, Any]:
        """QMP's ``SnapshotInfo``."""
        facts: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "vm-state-size": self.vm_state_size,
            "date-sec": self.date_sec,
            "date-nsec": self.date_nsec,
            "vm-clock-sec": self.vm_clock_nsec // 1_000_000_000,
            "vm-clock-nsec": self.vm_clock_nsec % 1_000_000_000,
        }
        if self.icount is not None:
            facts["icount"] = self.icount
        return facts


class _Reader:
    """Reads the table forward through a window, since its size is known only at its end."""

    def __init__(self, file: Child, offset: int) -> None:
        self.file = file
        self.start = self.next = offset
        self.window = b""
        self.window_at = offset

    def take(self, count: int) -> bytes:
        if self.next + count > self.window_at + len(self.window):
            buffer = bytearray(max(_CHUNK, count))
            self.file.read(memoryview(buffer), self.next)
            self.window, self.window_at = bytes(buffer), self.next
        at = self.next - self.window_at
        self.next += count
        if self.next - self.start > q.MAX_SNAPSHOT_TABLE_BYTES:
            raise BadHeader("Snapshot table is too big")
        return self.window[at : at + count]


def read_snapshots(file: Child, header: Header) -> tuple[list[Snapshot], int]:
    """The snapshots and the bytes that their table takes.

    Raises BadHeader for a table out of bounds, HostFailure when it cannot be read.
    """
    reader = _Reader(file, header.snapshots_offset)
    try:
        found = [_read_one(reader, i) for i in range(header.nb_snapshots)]
    except OSError as error:
        raise host_failure("Failed to read snapshot table", error) from error
    return found, reader.next - reader.start


def _read_one(reader: _Reader, index: int) -> Snapshot:
    reader.take(-(reader.next - reader.start) % 8)
    (
        l1_offset,
        l1_size,
        id_length,
        name_length,
        date_sec,
        date_nsec,
        vm_clock_nsec,
        vm_state_size,
        extra_length,
    ) = q.SNAPSHOT.unpack(reader.take(q.SNAPSHOT.size))
    if extra_length > q.MAX_SNAPSHOT_EXTRA:
        raise BadHeader(f"Too much extra metadata in snapshot table entry {index}")
    if max(id_length, name_length) > q.MAX_SNAPSHOT_NAME:
        raise BadHeader(f"Name too long in snapshot table entry {index}")
    extra = reader.take(extra_length)
    large_state, disk_size, icount = _EXTRA.unpack(extra[:24].ljust(24, b"\xff"))
    return Snapshot(
        raw_id=reader.take(id_length),
        raw_name=reader.take(name_length),
        l1_table_offset=l1_offset,
        l1_size=l1_size,
        date_sec=date_sec,
        date_nsec=date_nsec,
        vm_clock_nsec=vm_clock_nsec,
        vm_state_size=large_state if extra_length >= 8 else vm_state_size,
        disk_size=disk_size if extra_length >= 16 else None,
        icount=icount if extra_length >= 24 and icount != _NO_ICOUNT else None,
        unknown=extra[24:],
    )


def pack_snapshots(snapshots: Sequence[Snapshot], disk_size: int) -> bytes:
    """The table of ``snapshots``; those that lack a disk size get the image's, in bytes."""
    table = bytearray()
    for snapshot in snapshots:
        table += bytes(-len(table) % 8)
        size = disk_size if snapshot.disk_size is None else snapshot.disk_size
        icount = _NO_ICOUNT if snapshot.icount is None else snapshot.icount
        extra = _EXTRA.pack(snapshot.vm_state_size, size, icount) + snapshot.unknown
        table += q.SNAPSHOT.pack(
            snapshot.l1_table_offset,
            snapshot.l1_size,
            len(snapshot.raw_id),
            len(snapshot.raw_name),
            snapshot.date_sec,
            snapshot.date_nsec,
            snapshot.vm_clock_nsec,
            snapshot.vm_state_size if snapshot.vm_state_size < 1 << 32 else 0,
            len(extra),
        )
        table += extra + snapshot.raw_id + snapshot.raw_name
    return bytes(table)
