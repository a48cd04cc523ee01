"""What ``check`` and ``map`` print: the texts of ``qemu-img``."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.engine.schema.base import UNSET, given
from monitor.engine.schema.extra import ImageCheck, MapEntry


def check_text(found: ImageCheck) -> str:
    """The problems, what was repaired, what is left, and how much of the disk there is."""
    lines = list(found.problems)
    leaks_fixed, corruptions_fixed = _count(found.leaks_fixed), _count(found.corruptions_fixed)
    if leaks_fixed or corruptions_fixed:
        lines += [
            "The following inconsistencies were found and repaired:",
            "",
            f"    {leaks_fixed} leaked clusters",
            f"    {corruptions_fixed} corruptions",
            "",
            "Double checking the fixed image now...",
        ]
    leaks, corruptions = _count(found.leaks), _count(found.corruptions)
    if not (leaks or corruptions):
        lines.append("No errors were found on the image.")
    if corruptions:
        lines += [
            "",
            f"{corruptions} errors were found on the image.",
            "Data may be corrupted, or further writes to the image may corrupt it.",
        ]
    if leaks:
        lines += [
            "",
            f"{leaks} leaked clusters were found on the image.",
            "This means waste of disk space, but no harm to data.",
        ]
    total, allocated = _count(found.total_clusters), _count(found.allocated_clusters)
    if total and allocated:
        fragmented = _count(found.fragmented_clusters) * 100 / allocated
        compressed = _count(found.compressed_clusters) * 100 / allocated
        lines.append(
            f"{allocated}/{total} = {allocated * 100 / total:.2f}% allocated, "
            f"{fragmented:.2f}% fragmented, {compressed:.2f}% compressed clusters"
        )
    if _count(found.image_end_offset):
        lines.append(f"Image end offset: {found.image_end_offset}")
    return "\n".join(lines)


def _count(number: object) -> int:
    return number if isinstance(number, int) else 0


def map_text(runs: Sequence[MapEntry]) -> str:
    """A line for each run of data; what lies compressed has no place of its own."""
    lines = ["Offset          Length          Mapped to       File"]
    for run in runs:
        if run.data and not run.zero:
            place = "compressed" if run.offset is UNSET else _hex(run.offset)
            name = given(run.filename, "")
            lines.append(f"{_hex(run.start):<16}{_hex(run.length):<16}{place:<16}{name}".rstrip())
    return "\n".join(lines)


def _hex(number: object) -> str:
    """As C's ``%#x`` has it: zero without a prefix."""
    return f"{number:#x}" if number else "0"
