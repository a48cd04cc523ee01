"""The command line's options: what each is called, takes and means (``--help``).

blkmon [OPTION…] [FILE…]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from monitor.options import Options

_EPILOG = """\
exit status: 0 all went well; 1 a command failed; 2 usage; 3 a script does not parse, nothing of
it ran; 4 a job that was waited for failed; 5 the connection was lost; 128+N ended by signal N.
The first failure decides. A line that begins with '-' may fail, one with '!' must."""


class _DiskAction(argparse.Action):
    """Keeps ``--drive``, ``--blockdev`` and their like in the order in which they were given."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        disks = [*getattr(namespace, "disks", []), (option_string, values)]
        namespace.disks = disks


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="blkmon",
        usage="blkmon [OPTION...] [FILE...]",
        description="An interactive monitor, in the style of QEMU's, on a live block graph.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,  # ``Options`` has what holds then
    )
    add = parser.add_argument
    add("files", metavar="FILE", nargs="*", help="a script to run; '-' is standard input")
    add("-c", "--command", metavar="CMD", action="append", dest="commands",
        help="run CMD, after the files (repeatable)")  # fmt: skip
    add("--drive", "-drive", metavar="OPTS", action=_DiskAction, dest="drive",
        help="make a drive before anything runs, as QEMU's -drive (repeatable)")  # fmt: skip
    add("--blockdev", "-blockdev", metavar="OPTS", action=_DiskAction, dest="blockdev",
        help="open a node before anything runs, as QEMU's -blockdev: options or JSON")  # fmt: skip
    add("--set", metavar="NAME=VALUE", action="append", dest="variables",
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
    add("--qmp", metavar="DOOR", action="append", type=_door,
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


def parse_all(arguments: Sequence[str]) -> Options:
    """The options of a command line; a wrong one ends the process with status 2."""
    parser = argument_parser()
    options = Options(**vars(parser.parse_intermixed_args(arguments)))
    contradiction = options.contradiction()
    if contradiction is not None:
        parser.error(contradiction)
    return options
