"""Our own bugs: a traceback in the log, one line to the user.

The log is ``$XDG_STATE_HOME/blkmon/log`` (``~/.local/state`` by default), mode 0600, cut when it
grows past ``LIMIT``.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.engine.errors import InternalError

if TYPE_CHECKING:
    import logging

LIMIT = 1 << 20
"""Bytes after which the log is begun anew; one older copy is kept beside it."""


def state_folder() -> Path:
    """Where this user's history and log are kept (XDG Base Directory specification, 0.8)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # A relative path there is to be ignored, says the specification.
    root = Path(state) if os.path.isabs(state) else Path("~/.local/state").expanduser()
    return root / "blkmon"


def config_path() -> Path:
    """The script that the prompt runs when it starts: settings, named commands, variables."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    root = Path(config) if os.path.isabs(config) else Path("~/.config").expanduser()
    return root / "blkmon" / "config"


class LoggedError(InternalError):
    """A mistake of ours whose traceback is in the log."""

    template = "internal error: {what} (details are in {log})"
    log: str


def log_failure(error: BaseException) -> InternalError:
    """Writes the traceback of ``error`` to the log; the error to show in its place."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _logged(what, error)


def log_record(record: logging.LogRecord) -> None:
    """What the engine or a library logs goes there too, with one line on stderr."""
    error = record.exc_info[1] if record.exc_info else None
    print(f"blkmon: {_logged(record.getMessage(), error)}", file=sys.stderr)


def _logged(what: str, error: BaseException | None) -> InternalError:
    details = "".join(traceback.format_exception(error)) if error is not None else ""
    try:
        log = _append(f"{what}\n{details}")
    except OSError:
        return InternalError(what)
    return LoggedError(what, str(log))


def report_failure(error: BaseException) -> None:
    """Logs a mistake of ours that no command can report, with one line on stderr."""
    print(f"blkmon: {log_failure(error)}", file=sys.stderr)


def _append(text: str) -> Path:
    """Writes an entry; the log's path. Raises OSError."""
    folder = state_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "log"
    if path.exists() and path.stat().st_size > LIMIT:
        path.replace(path.with_suffix(".old"))
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        entry = f"{stamp} pid {os.getpid()}\n{text}\n"
        os.write(descriptor, entry.encode("utf-8", "backslashreplace"))
    finally:
        os.close(descriptor)
    return path
