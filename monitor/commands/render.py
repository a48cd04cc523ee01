"""Requests' results, errors and notes of the engine as text, where no command has its own."""

from __future__ import annotations

from typing import Any

from monitor.commands.errors import Verbatim
from monitor.engine.api import Event, percent_done
from monitor.engine.errors import MonitorError
from monitor.engine.schema.base import Request


def render_result(request: Request, result: Any) -> str:
    """The answer of a request that was typed in ``qmp-shell``'s form: JSON, as qmp-shell shows it.

    Without an answer (QMP's empty object) there is nothing to print: the text is empty.
    """
    import json

    import msgspec

    if request.qmp_name() == "x-blkmon-rehearse-transaction":
        return "\n".join([*result.changes, "Nothing has been changed."])
    plain = msgspec.to_builtins(result)
    if plain is None or plain == {}:
        return ""
    return json.dumps(plain, indent=2, ensure_ascii=False)


def error_text(error: MonitorError) -> str:
    """The text of an error as HMP prints it, its hint (a line of its own) included."""
    text = error.text if isinstance(error, Verbatim) else f"Error: {error.text}"
    return f"{text}\n{error.hint}" if error.hint else text


CLOSE_FAILED = "X_BLKMON_CLOSE_FAILED"


def note_line(event: Event) -> str | None:
    """The line for an event that QMP does not have and that people want to read; else None.

    Those events are named ``X_BLKMON_*``; clients of QMP do not hear them.
    """
    render = _NOTES.get(event.name)
    return render(event.data) if render is not None else None


_LOST = {
    "writes": "what was written since the last flush may be missing",
    "bitmaps": "the disk's contents are complete, but the bitmaps that were open are gone or "
    "inconsistent ('bitmap doctor' has the lines that mend them)",
}

_NOTES: dict[str, Any] = {
    "X_BLKMON_NODE_DROPPED": lambda data: (
        f"Node '{data['node-name']}' was dropped: nothing uses it"
    ),
    "X_BLKMON_NOTE": lambda data: str(data["text"]),
    "X_BLKMON_SUSPENDED": lambda data: f"blkdebug: Suspended request '{data['tag']}'",
    CLOSE_FAILED: lambda data: (
        f"Closing '{data['file'] or data['node-name']}' failed: {data['error']}; "
        + _LOST[data.get("lost", "writes")]
    ),
}


def job_line(id: str, type: str, status: str, done: int, total: int, error: str | None) -> str:
    """How far a job is."""
    line = f"{id}: {type}, {status}, {percent_done(status, done, total)}% ({done} of {total})"
    return f"{line}: {error}" if error is not None else line


def rate_text(rate: float | None) -> str:
    """Units a second with a binary prefix: "10.0 MiB/s"; "" while unknown."""
    if rate is None:
        return ""
    if rate < 1000:
        return f"{rate:.0f} B/s"
    steps = 1 if rate < 1000 << 10 else 2 if rate < 1000 << 20 else 3
    return f"{rate / (1 << 10 * steps):.1f} {'BKMG'[steps]}iB/s"


def time_text(seconds: float | None) -> str:
    """Time left as ``m:ss`` or ``h:mm:ss``; "" while unknown."""
    if seconds is None:
        return ""
    if seconds >= 100 * 3600:
        return ">99h"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


_UNITS = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def size_text(size: int) -> str:
    """``64 MiB``, ``197 KiB``, ``0.977 GiB``: three digits, as ``qemu-img info`` prints sizes."""
    index, scaled = 0, size * 1024 // 1000
    while scaled >= 1024 and index < len(_UNITS) - 1:
        scaled >>= 10
        index += 1
    return f"{size / (1 << 10 * index):.3g} {_UNITS[index]}B"
