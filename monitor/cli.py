"""The command line: which front end, on which engine, with which disks.

    blkmon [OPTION…] [FILE…]

On a terminal, and without FILE or ``-c``, the prompt; else commands from the files, then from
``-c``, or from standard input. Exit statuses are ``shell.script.Status``'s.

Nothing heavy is imported here: what a start needs is loaded when it is known what that is.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

_EPILOG = """\
exit status: 0 all went well; 1 a command failed; 2 usage; 3 a script does not parse, nothing of
it ran; 4 a job that was waited for failed; 5 the connection was lost; 128+N ended by signal N.
The first failure decides. A line that begins with '-' may fail, one with '!' must."""


class _DiskAction(argparse.Action):
    """Keeps ``--drive``, ``--blockdev`` and their like in the order in which they were given."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        namespace.disks.append((option_string, values))


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="blkmon",
        usage="blkmon [OPTION...] [FILE...]",
        description="An interactive monitor, in the style of QEMU's, on a live block graph.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(disks=[])
    add = parser.add_argument
    add("files", metavar="FILE", nargs="*", help="a script to run; '-' is standard input")
    add("-c", "--command", metavar="CMD", action="append", dest="commands", default=[],
        help="run CMD, after the files (repeatable)")  # fmt: skip
    add("--drive", "-drive", metavar="OPTS", action=_DiskAction, dest="drive",
        help="make a drive before anything runs, as QEMU's -drive (repeatable)")  # fmt: skip
    add("--blockdev", "-blockdev", metavar="OPTS", action=_DiskAction, dest="blockdev",
        help="open a node before anything runs, as QEMU's -blockdev: options or JSON")  # fmt: skip
    add("--set", metavar="NAME=VALUE", action="append", dest="variables", default=[],
        type=_variable, help="a variable: $NAME in commands (repeatable)")  # fmt: skip
    add("-y", "--yes", action="store_true", help="lose data where a command says so, unasked")
    add(
        "-n",
        "--check",
        action="store_true",
        help="parse everything, list all mistakes, run nothing",
    )
    add("--object", "-object", metavar="OPTS", action=_DiskAction, dest="object",
        help="make a secret, TLS credentials or an iothread before anything runs")  # fmt: skip
    add("--nbd-server", metavar="OPTS", action=_DiskAction, dest="nbd_server",
        help="listen for NBD clients before anything runs, as qemu-storage-daemon")  # fmt: skip
    add("--export", metavar="OPTS", action=_DiskAction, dest="export",
        help="offer a node, as qemu-storage-daemon's --export (repeatable)")  # fmt: skip
    add("--checkpoint", metavar="FILE", help="keep in FILE how much of the script is done")
    add("--resume", action="store_true", help="leave out what --checkpoint's FILE says is done")
    add("--progress", metavar="FD", type=_descriptor,
        help="tell this descriptor how far jobs are, a line for every 5%% or second")  # fmt: skip
    add("--keep-going", action="store_true", help="do not stop at the first command that fails")
    add("--json", action="store_true", help="print one JSON object a command")
    add("--qmp", metavar="DOOR", action="append", type=_door, default=[],
        help="serve QMP: stdio, unix:PATH or tcp:HOST:PORT (repeatable); the end is when a "
        "client quits, or the one on stdio has ended")  # fmt: skip
    add("--record", metavar="FILE", help="record the session as a transcript")
    add("--replay", action="store_true", help="replay the FILEs as transcripts; 1 if one differs")
    add("--update", action="store_true", help="with --replay: rewrite what no longer matches")
    add("--version", action="version", version=_version(), help="print the version and exit")
    return parser


def _variable(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` of ``--set``, a setting's included."""
    from monitor.commands.settings import check_set
    from monitor.engine.errors import RequestError

    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"'{text}': expected NAME=VALUE")
    try:
        check_set(name, value)
    except RequestError as error:
        raise argparse.ArgumentTypeError(error.text) from error
    return name, value


def _descriptor(text: str) -> int:
    """The number of a file descriptor that is open for writing."""
    import fcntl

    try:
        flags = fcntl.fcntl(int(text), fcntl.F_GETFL)
    except (ValueError, OverflowError, OSError) as error:
        raise argparse.ArgumentTypeError(f"'{text}' is no open file descriptor") from error
    if flags & os.O_ACCMODE == os.O_RDONLY:
        raise argparse.ArgumentTypeError(f"'{text}' is not open for writing")
    return int(text)


def _door(text: str) -> Any:
    from monitor.servers.door import parse_door

    try:
        return parse_door(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None


def _version() -> str:
    from monitor.version import QEMU_VERSION, VERSION

    spoken = ".".join(map(str, QEMU_VERSION))
    return f"blkmon {VERSION} (speaks the QMP and HMP of QEMU {spoken})"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line; a wrong one ends the process with status 2."""
    parser = argument_parser()
    options = parser.parse_intermixed_args(arguments)
    _refuse_contradictions(parser, options)
    return options


def _refuse_contradictions(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    scripted = bool(options.files or options.commands)
    if options.replay and not options.files:
        parser.error("--replay needs a FILE")
    if options.update and not options.replay:
        parser.error("--update goes with --replay")
    if options.check and options.replay:
        parser.error("--check and --replay do not go together")
    if options.replay and (options.commands or options.disks or options.record or options.json):
        parser.error("--replay takes its commands and disks from the FILEs alone")
    if options.resume and not options.checkpoint:
        parser.error("--resume goes with --checkpoint")
    if options.checkpoint and (not scripted or "-" in options.files or options.check):
        parser.error("--checkpoint is for scripts in FILEs and -c")
    if options.checkpoint and (options.replay or options.record):
        parser.error("--checkpoint does not go with --replay and --record")
    if options.qmp and (scripted or options.check or options.replay or options.record):
        parser.error("--qmp serves a program: it takes no commands, and records nothing")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``blkmon`` with ``arguments`` (those of the process by default); its exit status."""
    # Until a loop runs, nothing is open and an interrupt may end the process as it ends any other.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _mend_standard_streams()
    _log_what_nobody_catches()
    options = parse_arguments(arguments)
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


def _dispatch(options: argparse.Namespace) -> int:
    if options.replay:
        from monitor.shell.replay import replay_files

        return replay_files(options.files, update=options.update)
    if options.qmp:
        from monitor.shell.running import serve_qmp

        return serve_qmp(options)
    if not (options.files or options.commands or options.check) and _on_terminal():
        from monitor.shell.running import converse

        return converse(options)
    from monitor.shell.running import run_scripts

    return run_scripts(options)


def _on_terminal() -> bool:
    return os.isatty(0) and os.isatty(1)
