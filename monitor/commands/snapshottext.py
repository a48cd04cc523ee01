"""Internal snapshots as QEMU's tables show them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from msgspec import UNSET, structs

from monitor.commands.render import size_text
from monitor.engine.schema.image import SnapshotInfo
from monitor.engine.schema.snapshot import DiskSnapshots

_HEAD = ("ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT")


def table(snapshots: Sequence[SnapshotInfo]) -> Iterator[str]:
    """The table's lines; blanks at the end of a line are QEMU's."""
    yield _line(*_HEAD)
    for snapshot in snapshots:
        date = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.date_sec))
        minutes, seconds = divmod(snapshot.vm_clock_sec, 60)
        hours, minutes = divmod(minutes, 60)
        millis = snapshot.vm_clock_nsec // 1_000_000
        clock = f"{hours:02}:{minutes:02}:{seconds:02}.{millis:03}"
        icount = "" if snapshot.icount is UNSET else str(snapshot.icount)
        size = size_text(snapshot.vm_state_size)
        yield _line(snapshot.id, snapshot.name, size, date, clock, icount)


def _line(identity: str, name: str, size: str, date: str, clock: str, icount: str) -> str:
    return f"{identity:<9} {name:<16} {size:>8}{date:>20}{clock:>13}{icount:>11}"


def overview(disks: Sequence[DiskSnapshots]) -> str:
    """``info snapshots``: what all disks have, then what each has alone."""
    able = [disk for disk in disks if disk.able]
    if not able:
        return "no block device can store vmstate for snapshot"
    if not any(disk.snapshots for disk in disks):
        return "There is no snapshot available."
    names = [{snapshot.name for snapshot in disk.snapshots} for disk in disks]
    everywhere = set.intersection(*names)
    common = [s for s in able[0].snapshots if s.name in everywhere]
    lines = ["List of snapshots present on all disks:"]
    lines += table([structs.replace(s, id="--") for s in common]) if common else ["None"]
    for disk in able:
        partial = [s for s in disk.snapshots if s.name not in everywhere]
        if partial:
            lines += ["", f"List of partial (non-loadable) snapshots on '{disk.device}':"]
            lines += table(partial)
    return "\n".join(lines)
