"""The NBD server and its exports, as far as no client is needed."""

from __future__ import annotations

from typing import Any

from tests.support.qmp_cases.words import Requests, add, do

START = do("nbd-server-start", addr={"type": "unix", "data": {"path": "nbd.sock"}})


def export(identity: str, node: str, **options: Any) -> dict[str, Any]:
    return do("block-export-add", type="nbd", id=identity, node_name=node, **options)


def fuse(identity: str, node: str, mountpoint: str, **options: Any) -> dict[str, Any]:
    return do(
        "block-export-add",
        type="fuse", id=identity, node_name=node, mountpoint=mountpoint, **options,
    )  # fmt: skip


def nbd(node: str, path: str, **options: Any) -> dict[str, Any]:
    server = {"type": "unix", "path": path}
    return do("blockdev-add", driver="nbd", node_name=node, server=server, **options)


CASES: dict[str, Requests] = {
    "exports without a server": [
        add("n", "a.img", "raw"),
        do("nbd-server-stop"),
        do("nbd-server-add", device="n"),
        do("nbd-server-add", device="nowhere"),
        do("nbd-server-remove", name="n"),
        export("e", "n"),
        export("e", "nowhere"),
        export("0e", "n"),
        do("block-export-del", id="e"),
        do("query-block-exports"),
    ],
    "the server begins and ends": [
        START,
        START,
        do("nbd-server-stop"),
        do("nbd-server-stop"),
        do("nbd-server-start", addr={"type": "unix", "data": {"path": "nowhere/s"}}),
        do("nbd-server-start", addr={"type": "unix", "data": {"path": "s" * 109}}),
        do("nbd-server-start", addr={"type": "unix"}),
        do("nbd-server-start", addr={"type": "weird"}),
        START,
        do("nbd-server-stop"),
    ],
    "exports come and go": [
        add("n", "a.img", "raw"),
        add("q", "empty.qcow2"),
        START,
        export("e", "n", writable=True, description="hello", **{"allocation-depth": True}),
        export("e", "q"),
        export("e2", "q", name="n"),
        export("e2", "nowhere"),
        export("e3", "q", name="x" * 4097),
        export("e3", "q", description="x" * 4097),
        do("nbd-server-add", device="n"),
        do("nbd-server-add", device="q", name="other", writable=True),
        do("query-block-exports"),
        do("block_resize", node_name="n", size=4096),
        do("blockdev-del", node_name="n"),
        do("block-export-del", id="e", mode="weird"),
        do("block-export-del", id="e", mode="safe"),
        do("block-export-del", id="e"),
        do("nbd-server-remove", name="other"),
        do("nbd-server-remove", name="other"),
        export("e", "n"),
        do("nbd-server-stop"),
        do("query-block-exports"),
    ],
    "read-only nodes are exported read-only": [
        add("ro", "a.img", "raw", **{"read-only": True}),
        START,
        export("e", "ro", writable=True),
        do("nbd-server-add", device="ro", writable=True),
        do("query-block-exports"),
        do("nbd-server-stop"),
    ],
    "exports with bitmaps": [
        add("n", "empty.qcow2"),
        do("block-dirty-bitmap-add", node="n", name="b"),
        do("block-dirty-bitmap-add", node="n", name="off", disabled=True),
        START,
        export("e", "n", bitmaps=["nothing"]),
        export("e", "n", bitmaps=["b"]),
        export("e", "n", bitmaps=[{"node": "n", "name": "nothing"}]),
        export("e", "n", bitmaps=[{"node": "nowhere", "name": "b"}]),
        export("e", "n", bitmaps=["off"]),
        export("f", "n", name="f", writable=True, bitmaps=["b"]),
        export("g", "n", name="g", writable=True, bitmaps=["b"]),
        do("block-dirty-bitmap-remove", node="n", name="off"),
        do("block-export-del", id="e"),
        do("block-dirty-bitmap-remove", node="n", name="off"),
        do("nbd-server-add", device="n", name="h", bitmap="nothing"),
        do("nbd-server-stop"),
        do("block-dirty-bitmap-remove", node="n", name="b"),
    ],
    "files that show nodes": [
        add("n", "a.img", "raw"),
        fuse("e", "n", "nowhere"),
        fuse("e", "n", "."),
        fuse("e", "n", "shown", **{"allow-other": "weird"}),
        fuse("e", "n", "shown", bitmaps=[]),
        do("block-export-add", type="fuse", id="e", node_name="n"),
        fuse("e", "nowhere", "shown"),
        do("query-block-exports"),
    ],
    "a client, and nobody there": [
        nbd("c", "nowhere.sock"),
        do("blockdev-add", driver="nbd", node_name="c"),
        do("blockdev-add", driver="nbd", node_name="c", server={"type": "inet", "host": "h"}),
        nbd("c", "nbd.sock", **{"tls-creds": "t"}),
        nbd("c", "nbd.sock", **{"reconnect-delay": -1}),
    ],
}

SUCCEEDS = {
    "nbd-server-start": "the server begins and ends",
    "nbd-server-stop": "the server begins and ends",
    "nbd-server-add": "exports come and go",
    "nbd-server-remove": "exports come and go",
    "block-export-add": "exports come and go",
    "block-export-del": "exports come and go",
    "query-block-exports": "exports come and go",
}
