"""What a command would lose: the question that is asked before, by effect and not by name.

A command asks when data that is there now would be gone: a file that holds something would be
overwritten by a new image, a disk would lose its end or go back to a snapshot, a snapshot would be
replaced. What deletes the one thing that it names (``delvm``, ``block-dirty-bitmap-remove``) says
so itself and does not ask. ``-y`` and ``set confirm off`` answer yes; where nobody can be asked the
command is refused. QMP and ``human-monitor-command`` are never asked.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from monitor.commands.render import size_text
from monitor.engine.api import Engine, texts_of
from monitor.engine.errors import RequestError
from monitor.engine.schema.graph import BlockResize

if TYPE_CHECKING:
    from monitor.language.parser import Invocation


class NotDone(RequestError):
    """A person said no, or nobody could be asked."""

    template = "Not done: {loss}"
    loss: str


_NEW_FILES = {
    "create": "file",
    "snapshot_blkdev": "snapshot_file",
    "drive_mirror": "target",
    "drive_backup": "target",
    "blockdev-snapshot-sync": "snapshot_file",
    "drive-mirror": "target",
    "drive-backup": "target",
    "x-blkmon-create-image": "filename",
}
"""Commands and requests that make an image, and what says where."""

_MAKE_FILES = frozenset({"transaction", "blockdev-create"})
"""Requests that may make images too, in their actions or options. A rehearsal overwrites none."""

_USES_WHAT_IS_THERE = {"reuse": True, "mode": "existing"}


def new_files(invocation: Invocation) -> list[str]:
    """The files that a command makes, or makes anew."""
    actions = getattr(invocation.request, "actions", None)
    made = [
        _new_file(action.__struct_config__.tag, getattr(action, "data", action))
        for action in actions or ()
    ]
    options = getattr(invocation.request, "options", None)
    if invocation.name == "blockdev-create":
        made.append(getattr(options, "filename", None))
    given = invocation.request if invocation.request is not None else invocation.arguments
    made.append(_new_file(invocation.name, given))
    return [path for path in made if isinstance(path, str)]


def _new_file(name: object, given: Any) -> Any:
    """What command or action ``name`` makes of its arguments; None for nothing."""

    def value(argument: str) -> Any:
        return given.get(argument) if isinstance(given, dict) else getattr(given, argument, None)

    if any(value(argument) == used for argument, used in _USES_WHAT_IS_THERE.items()):
        return None
    return value(_NEW_FILES[name]) if isinstance(name, str) and name in _NEW_FILES else None


async def loss_of(invocation: Invocation, engine: Engine) -> str | None:
    """What would be lost, as a sentence without its end; None for nothing."""
    name = invocation.name
    if (name in _NEW_FILES or name in _MAKE_FILES) and not _is_a_question(invocation):
        losses = [await _overwritten(path) for path in dict.fromkeys(new_files(invocation))]
        return "; ".join(filter(None, losses)) or None
    if name == "block_resize":
        return await _cut_off(invocation, engine)
    if name in ("loadvm", "x-blkmon-loadvm"):
        tag = _given(invocation, "name")
        there = tag in texts_of(engine.names("snapshot"))
        return f"what the disks hold now would be replaced by snapshot '{tag}'" if there else None
    if name in ("savevm", "x-blkmon-savevm"):
        return await _replaced(_given(invocation, "name"), engine)
    return None


def _is_a_question(invocation: Invocation) -> bool:
    """``create -o help`` makes nothing."""
    command = invocation.command
    return command is not None and command.asks is not None and command.asks(invocation.arguments)


async def _replaced(tag: Any, engine: Engine) -> str | None:
    """A snapshot of that name that an image has already."""
    if not isinstance(tag, str) or tag not in texts_of(engine.names("snapshot")):
        return None
    return f"the snapshot '{tag}' that is there would be replaced"


def _given(invocation: Invocation, argument: str) -> Any:
    if invocation.request is not None:
        return getattr(invocation.request, argument, None)
    return invocation.arguments.get(argument)


async def _overwritten(path: str) -> str | None:
    size = await asyncio.to_thread(_size_of_file, path)
    return f"'{path}' holds {size_text(size)} and would be overwritten" if size else None


def _size_of_file(path: str) -> int:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


async def _cut_off(invocation: Invocation, engine: Engine) -> str | None:
    size = _given(invocation, "size")
    names = {_given(invocation, "device"), _given(invocation, "node_name")}
    for name, now in await _sizes(engine, invocation.request):
        if name in names and isinstance(size, int) and size < now:
            return (
                f"'{name}' has {size_text(now)} and would keep {size_text(size)} ({size} of {now} "
                "bytes)"
            )
    return None


async def _sizes(engine: Engine, request: object) -> Iterator[tuple[str, int]]:
    from monitor.engine.schema.query import QueryBlock, QueryNamedBlockNodes

    drives = await engine.execute(QueryBlock())
    found = [(drive.device, getattr(drive.inserted, "image", None)) for drive in drives]
    if isinstance(request, BlockResize):
        nodes = await engine.execute(QueryNamedBlockNodes(flat=True))
        found += [(node.node_name, node.image) for node in nodes]
    return ((name, image.virtual_size) for name, image in found if image is not None)
