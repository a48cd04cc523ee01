"""The command line: which front end, on which engine, with which disks.

    blkmon [OPTION…] [FILE…]

On a terminal, and without FILE or ``-c``, the prompt; else commands from the files, then from
``-c``, or from standard input. Exit statuses are ``shell.status.Status``'s.

Nothing heavy is imported here: what a start needs is loaded when it is known what that is.
"""

from __future__ import annotations

import gc
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from monitor.options import Options, parse_arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``blkmon`` with ``arguments`` (those of the process by default); its exit status."""
    # Until a loop runs, nothing is open and an interrupt may end the process as it ends any other.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _mend_standard_streams()
    _log_what_nobody_catches()
    gc.disable()  # what is imported stays; ``lifetime.with_engine`` has garbage collected again
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    from monitor.engine.errors import MonitorError

    try:
        return _dispatch(options)
    except MonitorError as error:
        print(f"blkmon: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        _report(error)
        return 1


def _report(error: BaseException) -> None:
    from monitor.shell.log import report_failure

    report_failure(error)


def _log_what_nobody_catches() -> None:
    """No traceback on anybody's screen: also none of a thread, or of an object's last moments."""

    def unhandled(failure: Any) -> None:
        _report(failure.exc_value or RuntimeError("unknown"))

    threading.excepthook = unhandled
    sys.unraisablehook = unhandled


def _mend_standard_streams() -> None:
    """Names of files may be any bytes; and a stream that was closed before the start is no stream.

    An output that the caller closed is as good as /dev/null; its number must not go to an image.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Closed at the start, they are None now, though their numbers have been taken since.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")


_LEFT_OUT = {"asyncio": "ssl", "msgspec": "typing_extensions"}
"""What these import where it is there, and do without where it is not: nothing here speaks TLS by
way of the loop, and OpenSSL would take as long as a bare interpreter does from start to end, the
other a quarter of that."""


def _load_lightly() -> None:
    for name, left_out in _LEFT_OUT.items():
        if left_out in sys.modules:
            continue
        sys.modules[left_out] = None  # type: ignore[assignment]
        try:
            importlib.import_module(name)
        finally:
            del sys.modules[left_out]


def _dispatch(options: Options) -> int:
    _load_lightly()
    if options.replay:
        from monitor.shell.replay import replay_files

        return replay_files(options.files, update=options.update)
    if options.qmp:
        from monitor.shell.serving import serve_qmp

        return serve_qmp(options)
    if not (options.files or options.commands or options.check) and _on_terminal():
        from monitor.shell.running import converse

        return converse(options)
    from monitor.shell.running import run_scripts

    return run_scripts(options)


def _on_terminal() -> bool:
    return os.isatty(0) and os.isatty(1)
