"""``--checkpoint FILE`` and ``--resume``: a script that was broken off goes on where it was.

The file says how many commands of the script are done, how they read, and which drives, nodes and
jobs there were then. It is written anew after each command that leaves no job running: what is
behind such a point is over and done with, and is not run again. ``--resume`` refuses when the done
part reads otherwise now, or when something that was open then is not open (``--drive`` and
``--blockdev`` open it): the rest of the script was written for that.

What only the session knows (variables, settings, named commands) is done again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from monitor.engine.api import Engine
from monitor.engine.errors import MonitorError
from monitor.engine.schema.base import UNSET
from monitor.engine.schema.query import QueryBlock, QueryNamedBlockNodes
from monitor.shell.texts import read_script

if TYPE_CHECKING:
    from monitor.language.parser import Invocation

_OF_THE_SESSION = frozenset({"set", "unset", "macro"})
_OVER = frozenset({"concluded", "null"})


class CannotResume(MonitorError):
    template = "cannot resume from '{path}': {reason}"
    path: str
    reason: str


class Mark(msgspec.Struct, frozen=True):
    """What a checkpoint file says. ``digest`` is of the ``done`` first commands; ``drives`` and
    ``nodes`` (named by the user) are name: image file."""

    done: int
    digest: str
    drives: dict[str, str]
    nodes: dict[str, str]


class Checkpoint:
    """The checkpoint of one script. ``done`` counts its commands that need not run again."""

    def __init__(self, path: str, engine: Engine, script: Sequence[Invocation]) -> None:
        self._path = path
        self._engine = engine
        self._script = script
        self.done = 0

    async def resume(self) -> None:
        """Takes over what the file says. Without a file the script begins at its beginning.

        Raises CannotResume.
        """
        mark = self._read()
        if mark is None:
            return
        if mark.done > len(self._script):
            reason = f"{mark.done} commands are done, and the script has {len(self._script)}"
            raise CannotResume(self._path, reason)
        if digest(self._script[: mark.done]) != mark.digest:
            reason = f"the script's first {mark.done} commands, which are done, have changed"
            raise CannotResume(self._path, reason)
        drives, nodes = await self._open_now()
        self._compare("drive", mark.drives, drives)
        self._compare("node", mark.nodes, nodes)
        self.done = mark.done

    def skips(self, number: int) -> bool:
        """Whether the ``number``-th command (from 0) is done, and need not be done again."""
        return number < self.done and self._script[number].name not in _OF_THE_SESSION

    async def passed(self, number: int) -> None:
        """The ``number``-th command has gone well. Raises OSError when that cannot be kept."""
        if number < self.done or any(job.status not in _OVER for job in self._engine.jobs()):
            return
        drives, nodes = await self._open_now()
        mark = Mark(number + 1, digest(self._script[: number + 1]), drives, nodes)
        self.done = number + 1
        _write(self._path, msgspec.json.encode(mark))

    def _read(self) -> Mark | None:
        try:
            with open(self._path, "rb") as file:
                return msgspec.json.decode(file.read(), type=Mark)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CannotResume(self._path, error.strerror or str(error)) from error
        except msgspec.MsgspecError as error:
            raise CannotResume(self._path, "it is no checkpoint") from error

    async def _open_now(self) -> tuple[dict[str, str], dict[str, str]]:
        """Drives and named nodes, each with the image that it shows."""
        drives = {
            drive.device: "" if drive.inserted is UNSET else drive.inserted.file
            for drive in await self._engine.execute(QueryBlock())
        }
        nodes = {
            str(node.node_name): node.file
            for node in await self._engine.execute(QueryNamedBlockNodes(flat=True))
            if not str(node.node_name).startswith("#")
        }
        return drives, nodes

    def _compare(self, what: str, then: dict[str, str], now: dict[str, str]) -> None:
        for name, image in then.items():
            if name not in now:
                raise CannotResume(self._path, f"{what} '{name}' ({image}) was open then")
            if now[name] != image:
                reason = f"{what} '{name}' showed '{image}' then, and shows '{now[name]}'"
                raise CannotResume(self._path, reason)


def digest(script: Sequence[Invocation]) -> str:
    """SHA-256 of commands as they read, with the files that they run; comments and blank lines do
    not count."""
    sha = hashlib.sha256()
    for invocation in script:
        sha.update(f"{invocation.mark}{invocation.text}\0".encode("utf-8", "surrogateescape"))
        if invocation.name == "source":
            with contextlib.suppress(MonitorError):
                text = read_script(str(invocation.arguments["file"]))
                sha.update(text.encode("utf-8", "surrogateescape"))
    return sha.hexdigest()


def _write(path: str, data: bytes) -> None:
    """At once or not at all."""
    new = f"{path}.new"
    with open(new, "wb") as file:
        file.write(data)
    os.replace(new, path)
