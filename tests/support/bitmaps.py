"""Requests on dirty bitmaps, short, and what engines say of them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from monitor.engine.bitmap import DirtyBitmap
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.schema.base import request_types
from monitor.engine.schema.decode import decode
from monitor.engine.schema.transaction import Transaction


def command(name: str, /, **arguments: Any) -> dict[str, Any]:
    """A QMP command; ``node_name`` is node-name."""
    return {"execute": name, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}


def bitmap(verb: str, node: str = "n0", name: str = "b0", **more: Any) -> dict[str, Any]:
    """block-dirty-bitmap-VERB."""
    return command(f"block-dirty-bitmap-{verb}", node=node, name=name, **more)


def merge(node: str, target: str, *sources: Any) -> dict[str, Any]:
    return command("block-dirty-bitmap-merge", node=node, target=target, bitmaps=list(sources))


def sha256(node: str = "n0", name: str = "b0") -> dict[str, Any]:
    return command("x-debug-block-dirty-bitmap-sha256", node=node, name=name)


def transaction(*commands: dict[str, Any], **properties: Any) -> dict[str, Any]:
    """The commands as one."""
    actions = [{"type": c["execute"], "data": c.get("arguments", {})} for c in commands]
    more = {"properties": {k.replace("_", "-"): v for k, v in properties.items()}}
    return command("transaction", actions=actions, **(more if properties else {}))


ABORT: dict[str, Any] = {"execute": "abort"}


def directory_of(image: bytes) -> tuple[int, int]:
    """Host offset and bytes of a qcow2 image's bitmap directory; (0, 0) without one."""
    at = int.from_bytes(image[100:104], "big")
    while True:
        magic, length = struct.unpack_from(">II", image, at)
        if not magic:
            return 0, 0
        if magic == 0x23852875:
            size, offset = struct.unpack_from(">QQ", image, at + 16)
            return offset, size
        at += 8 + (length + 7 & ~7)


def leave_in_use(path: Path) -> None:
    """Makes every bitmap of an image what a crash leaves of it."""
    image = bytearray(path.read_bytes())
    at, size = directory_of(image)
    end = at + size
    while at < end:
        _, _, _, _, _, name, extra = struct.unpack_from(">QIIBBHI", image, at)
        image[at + 15] |= 1
        at += 24 + name + extra + 7 & ~7
    path.write_bytes(image)


async def run(engine: EmbeddedEngine, asked: dict[str, Any]) -> Any:
    """Has an engine carry out a QMP command."""
    kind = Transaction if asked["execute"] == "transaction" else request_types()[asked["execute"]]
    return await engine.execute(decode(kind, asked.get("arguments", {})))


def state(engine: EmbeddedEngine) -> list[tuple[Any, ...]]:
    """Everything about every bitmap of every node: what a failed change leaves as it was."""
    return [
        (node.name, *_all_of(bitmap))
        for node in sorted(engine.graph.nodes.values(), key=lambda node: node.name)
        for bitmap in node.bitmaps
    ]


def _all_of(bitmap: DirtyBitmap) -> tuple[Any, ...]:
    flags = (bitmap.enabled, bitmap.busy, bitmap.persistent, bitmap.readonly, bitmap.inconsistent)
    return bitmap.name, bitmap.size, bitmap.granularity, flags, list(bitmap.areas())
