"""Dirty bitmaps beside qemu-storage-daemon: every message, every listing, equal contents."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.embedded import EmbeddedEngine
from tests.support import tools
from tests.support.bitmaps import (
    ABORT,
    bitmap,
    command,
    leave_in_use,
    merge,
    sha256,
    transaction,
)
from tests.support.bitmaps import run as ask
from tests.support.graphs import run
from tests.support.qcow2 import qemu_check
from tests.support.side_by_side import QSD, compare, converse, fill

NAMED = ({"execute": "query-named-block-nodes", "arguments": {"flat": True}},)

IMAGES: list[list[str]] = [
    ["qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "1M"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "b.qcow2", "2M"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", "large.qcow2", "64M"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=512", "small.qcow2", "1M"],
    ["qemu-io", "-f", "qcow2", "-c", "write 64k 100k", "-c", "write 1M 512", "b.qcow2"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "b.qcow2", "-F", "qcow2", "top.qcow2", "2M"],
    ["truncate", "-s", "1M", "r.raw"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", "old.qcow2", "1M"],
    *(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "b.qcow2", "-F", "qcow2", name, "2M"]
        for name in ("kept.qcow2", "left.qcow2")
    ),
    *(
        ["qemu-img", "bitmap", "--add", *how, image, name]
        for image in ("kept.qcow2", "left.qcow2")
        for name, how in (("b0", ()), ("fine", ("-g", "4k")), ("off", ("--disable",)))
    ),
    ["qemu-io", "-f", "qcow2", "-c", "write 0 100k", "-c", "write 1M 512", "kept.qcow2"],
    *(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", name, "2M"]
        for name, below in (("mid.qcow2", "kept.qcow2"), ("above.qcow2", "mid.qcow2"))
    ),
    ["qemu-io", "-f", "qcow2", "-c", "write 300k 100k", "-c", "write 1800k 512", "mid.qcow2"],
]


def opened(name: str, image: str, driver: str = "qcow2", **more: Any) -> dict[str, Any]:
    file = {"driver": "file", "filename": image, "node-name": f"{name}-file"}
    return command("blockdev-add", driver=driver, node_name=name, file=file, **more)


def null(name: str, size: int) -> dict[str, Any]:
    return command("blockdev-add", driver="null-co", node_name=name, size=size)


N0 = opened("n0", "a.qcow2")
LONG = "ü" * 511 + "x"  # 1,023 bytes

RW = {"driver": "file", "filename": "kept.qcow2", "node-name": "n0-file"}


def reopened(read_only: bool) -> dict[str, Any]:
    """kept.qcow2 for reading, or for writing too."""
    node = {"driver": "qcow2", "node-name": "n0", "file": "n0-file", "backing": None}
    both = [RW | {"read-only": read_only}, node | {"read-only": read_only}]
    return command("blockdev-reopen", options=both)


CASES: dict[str, list[dict[str, Any]]] = {
    "adding": [
        N0,
        bitmap("add", name=""),
        bitmap("add", "no"),
        bitmap("add", "no", ""),
        *(bitmap("add", granularity=size) for size in (0, 511, 1000, 256, -1, 1 << 32)),
        bitmap("add", granularity=512),
        bitmap("add"),
        bitmap("add", granularity=3),
        bitmap("add", name="b1", granularity=1 << 31),
        bitmap("add", name="off", disabled=True),
        bitmap("add", name=LONG),
        bitmap("add", name=LONG + "y"),
        bitmap("add", name="a b,c='\"\\ü\n"),
        command("block-dirty-bitmap-add", name="b0"),
        command("block-dirty-bitmap-add", node="n0"),
        bitmap("add", name="b2", granularity="64k"),
        bitmap("add", name="b2", bogus=1),
    ],
    "default granularity": [
        opened("large", "large.qcow2"),
        opened("small", "small.qcow2"),
        opened("raw", "r.raw", "raw"),
        null("null", 1 << 20),
        *(bitmap("add", node) for node in ("large", "small", "raw", "raw-file", "null")),
        *(sha256(node) for node in ("large", "small", "raw", "null")),
    ],
    "not kept by the image": [
        opened("raw", "r.raw", "raw"),
        null("null", 1 << 20),
        *(bitmap("add", node, persistent=True) for node in ("raw", "raw-file", "null")),
        bitmap("add", "null", "", persistent=True),
        bitmap("add", "null", persistent=True, granularity=1),
    ],
    "names that are not there": [
        N0,
        *(bitmap(verb, "no") for verb in ("remove", "clear", "enable", "disable")),
        *(bitmap(verb) for verb in ("remove", "clear", "enable", "disable")),
        *(command(f"block-dirty-bitmap-{v}", name="b0") for v in ("remove", "clear", "enable")),
        *(command(f"block-dirty-bitmap-{v}", node="n0") for v in ("disable", "clear", "remove")),
        sha256("no"),
        sha256(),
        merge("no", "b0"),
        merge("n0", "b0"),
    ],
    "switching": [
        N0,
        bitmap("add"),
        bitmap("disable"),
        bitmap("disable"),
        bitmap("enable"),
        bitmap("enable"),
        bitmap("clear"),
        bitmap("remove"),
        bitmap("remove"),
        bitmap("add", disabled=True),
        bitmap("enable"),
    ],
    "merging": [
        N0,
        opened("n1", "b.qcow2"),
        *(bitmap("add", name=name, granularity=512) for name in ("b0", "b1")),
        bitmap("add", "n1", "b0"),
        merge("n0", "b0", "b1"),
        merge("n0", "b0", "b0"),
        merge("n0", "b0", "b1", "b0", {"node": "n0", "name": "b1"}),
        merge("n0", "b0", "no"),
        merge("n0", "no", "no"),
        merge("n0", "b0", "b1", "no"),
        merge("n0", "b0", {"node": "n1", "name": "b0"}),
        merge("n0", "b0", {"node": "n1", "name": "no"}),
        merge("n0", "b0", {"node": "no", "name": "b0"}),
        merge("n0", "b0", {"node": "n1"}),
        merge("n0", "b0", {"node": "n1", "name": "b0", "more": 1}),
        merge("n0", "b0", 3),
        command("block-dirty-bitmap-merge", node="n0", target="b0", bitmaps="b1"),
        command("block-dirty-bitmap-merge", node="n0", bitmaps=["b1"]),
    ],
    "filled by a stream, and merged across granularities": [
        opened("n0", "top.qcow2"),
        *(bitmap("add", name=f"g{g}", granularity=g) for g in (512, 4096, 65536, 1 << 20)),
        bitmap("add", "n0-file", "below"),
        bitmap("add", name="off", disabled=True),
        command("block-stream", device="n0", job_id="s0"),
        {"wait": "s0", "until": "null"},
        *(sha256("n0", f"g{g}") for g in (512, 4096, 65536, 1 << 20)),
        sha256("n0", "off"),
        *(bitmap("add", name=f"to{g}", granularity=g) for g in (512, 4096, 65536, 1 << 20)),
        *(merge("n0", f"to{g}", "g4096") for g in (512, 4096, 65536, 1 << 20)),
        *(sha256("n0", f"to{g}") for g in (512, 4096, 65536, 1 << 20)),
        merge("n0", "to512", "g1048576"),
        sha256("n0", "to512"),
        bitmap("clear", "n0", "to4096"),
        sha256("n0", "to4096"),
    ],
    "resizing": [
        opened("n0", "top.qcow2"),
        bitmap("add", granularity=4096),
        bitmap("add", name="b1", granularity=1 << 20),
        command("block-stream", device="n0", job_id="s0"),
        {"wait": "s0", "until": "null"},
        *(
            step
            for size in (1 << 20, 70_144, 3 << 20, 512)
            for step in (
                command("block_resize", node_name="n0", size=size),
                sha256(),
                sha256("n0", "b1"),
            )
        ),
    ],
    "snapshots leave them at their node": [
        N0,
        command("blockdev-add", driver="raw", node_name="user", file="n0"),
        bitmap("add"),
        command(
            "blockdev-snapshot-sync",
            node_name="n0",
            snapshot_file="ov.qcow2",
            snapshot_node_name="ov",
        ),
        bitmap("add", "ov"),
        sha256("ov"),
    ],
    "kept by the image": [
        opened("n0", "kept.qcow2"),
        *(sha256("n0", name) for name in ("b0", "fine", "off")),
        bitmap("disable"),
        bitmap("enable", name="off"),
        bitmap("clear", name="fine"),
        merge("n0", "fine", "b0"),
        bitmap("add", name="new", persistent=True, granularity=512),
        bitmap("add", name="new", persistent=True),
        bitmap("remove", name="off"),
        command("blockdev-del", node_name="n0"),
        opened("n0", "kept.qcow2"),
        *(sha256("n0", name) for name in ("b0", "fine", "new")),
        command("block_resize", node_name="n0", size=3 << 20),
        sha256("n0", "fine"),
        command("blockdev-del", node_name="n0"),
        opened("n0", "kept.qcow2", read_only=True),
        sha256("n0", "fine"),
    ],
    "what an image cannot keep": [
        opened("old", "old.qcow2"),
        N0,
        bitmap("add", "old", persistent=True),
        bitmap("add", name=LONG, persistent=True, disabled=True),
        bitmap("add", name=LONG + "y", persistent=True),
        bitmap("add", name="", persistent=True),
        bitmap("add", persistent=True, granularity=3),
        bitmap("add", persistent=True, granularity=1 << 31),
        bitmap("add", persistent=True),
        command("blockdev-del", node_name="n0"),
        N0,
        null("huge", 1 << 50),
        bitmap("add", "huge", granularity=1 << 31),
    ],
    "read-only": [
        opened("n0", "kept.qcow2", read_only=True, backing=None),
        *(bitmap(verb) for verb in ("remove", "clear", "disable", "enable")),
        merge("n0", "b0", "off"),
        bitmap("add", name="free"),
        merge("n0", "free", "b0"),
        sha256("n0", "free"),
        bitmap("add", name="later", persistent=True),
        transaction(bitmap("clear", name="free"), bitmap("clear")),
        reopened(read_only=False),
        bitmap("clear"),
        bitmap("remove", name="off"),
        reopened(read_only=True),
        bitmap("clear"),
        sha256("n0", "fine"),
        reopened(read_only=False),
        bitmap("remove", name="fine"),
    ],
    "left by a crash": [
        opened("n0", "left.qcow2"),
        *(bitmap(verb) for verb in ("clear", "disable", "enable")),
        bitmap("add", name="whole"),
        merge("n0", "whole", "b0"),
        merge("n0", "b0", "whole"),
        merge("n0", "b0", "off"),
        merge("n0", "b0", "no"),
        bitmap("add"),
        sha256(),
        command("block_resize", node_name="n0", size=3 << 20),
        transaction(bitmap("clear", name="whole"), bitmap("clear")),
        transaction(bitmap("remove"), bitmap("clear", name="off")),
        bitmap("remove", name="fine"),
        command("blockdev-del", node_name="n0"),
        opened("n0", "left.qcow2"),
        bitmap("remove", name="off"),
        bitmap("add", name="off", persistent=True),
        command("blockdev-del", node_name="n0"),
        opened("n0", "left.qcow2"),
    ],
    "snapshots take the image below read-only": [
        opened("n0", "kept.qcow2", backing=None),
        command("blockdev-add", driver="raw", node_name="user", file="n0"),
        command(
            "blockdev-snapshot-sync",
            node_name="n0",
            snapshot_file="ov.qcow2",
            snapshot_node_name="ov",
        ),
        bitmap("clear"),
        bitmap("add", "ov", persistent=True),
        merge("ov", "b0", {"node": "n0", "name": "fine"}),
        sha256("ov"),
        command("blockdev-del", node_name="user"),
    ],
    "a commit is recorded in the image below": [
        opened(
            "top",
            "above.qcow2",
            backing={
                "driver": "qcow2",
                "node-name": "mid",
                "file": {"driver": "file", "filename": "mid.qcow2", "node-name": "mid-file"},
                "backing": {"driver": "qcow2", "node-name": "n0", "file": RW, "backing": None},
            },
        ),
        bitmap("clear"),
        *(sha256("n0", name) for name in ("b0", "fine", "off")),
        command("block-commit", job_id="c", device="top", top_node="mid", base_node="n0"),
        {"wait": "c", "until": "null"},
        *(sha256("n0", name) for name in ("b0", "fine", "off")),
        bitmap("clear"),
        command("blockdev-del", node_name="top"),
        opened("n0", "kept.qcow2", backing=None),
        *(sha256("n0", name) for name in ("b0", "fine", "off")),
    ],
    "transactions": [
        N0,
        opened("n1", "b.qcow2"),
        transaction(bitmap("add"), bitmap("add", "n1"), bitmap("add", name="b1", disabled=True)),
        transaction(bitmap("add", name="new"), ABORT),
        transaction(bitmap("add", name="new"), bitmap("add", name="new")),
        transaction(bitmap("clear"), bitmap("clear", name="no")),
        transaction(bitmap("enable", name="b1"), ABORT),
        transaction(bitmap("disable"), ABORT),
        transaction(bitmap("disable"), bitmap("enable"), bitmap("disable")),
        transaction(bitmap("disable", name="no")),
        transaction(merge("n0", "b1", "b0"), ABORT),
        transaction(merge("n0", "b1", "b0", "no")),
        transaction(merge("n0", "b1", {"node": "n1", "name": "b0"})),
        transaction(bitmap("remove"), ABORT),
        transaction(bitmap("remove"), bitmap("clear")),
        transaction(bitmap("remove"), bitmap("add")),
        transaction(bitmap("remove", name="no")),
        transaction(bitmap("remove"), bitmap("remove", "n1")),
        transaction(bitmap("add", "no")),
        transaction(bitmap("add", name="")),
        transaction(bitmap("add", name="new", granularity=5)),
        *(
            transaction(one, completion_mode="grouped")
            for one in (
                bitmap("add", name="new"),
                *(bitmap(v, name="b1") for v in ("clear", "disable", "remove")),
                merge("n0", "b1", "b1"),
            )
        ),
    ],
}
"""Requests by what they are about; qemu-storage-daemon 7.2 itself crashes where an enabling fails
in a transaction, and for an empty list to merge: those are ours alone."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tools.need("qemu-img", "qemu-io", "qemu-storage-daemon")
    folder = fill(tmp_path_factory.mktemp("bitmaps") / "images", IMAGES)
    leave_in_use(folder / "left.qcow2")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_as_qemu_storage_daemon(tmp_path: Path, images: Path, case: str) -> None:
    compare(tmp_path, images, CASES[case], NAMED)
    for image in sorted((tmp_path / "theirs").glob("*.qcow2")):
        before = images / image.name
        if not before.exists() or before.read_bytes() == image.read_bytes():
            continue
        if image.name == "above.qcow2":
            continue  # its backing link has become relative to where the two ran
        ours, theirs = (_facts(tmp_path / side / image.name) for side in ("ours", "theirs"))
        assert ours == theirs
        assert ours[1] == (0, 0)


def _facts(image: Path) -> tuple[Any, tuple[int, int]]:
    """What qemu-img says of an image's bitmaps, and of what is wrong."""
    info = json.loads(tools.run("qemu-img", "info", "-U", "--output=json", image))
    found = qemu_check(image)
    return info["format-specific"]["data"].get("bitmaps"), (found["leaks"], found["corruptions"])


# -- back and forth --------------------------------------------------------------------------


GRANULARITIES = (512, 4096, 65536, 1 << 20)


@pytest.mark.parametrize("cluster_size", [512, 4096, 65536])
def test_back_and_forth(tmp_path: Path, cluster_size: int) -> None:
    """What is recorded here goes on under qemu-storage-daemon, and what is changed there here."""
    tools.need("qemu-storage-daemon", "qemu-img")
    chance = random.Random(cluster_size)
    path = tmp_path / "a.qcow2"
    size = (9 << 20) + 512
    tools.run(
        "qemu-img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster_size}",
        path, str(size),
    )  # fmt: skip
    here = run(_recorded(path, size, chance))
    assert (tmp_path / "a.qcow2").stat().st_size < 40 << 20
    names = [f"g{granularity}" for granularity in GRANULARITIES]
    add = opened("n0", str(path))
    there = converse(QSD, tmp_path, [add, *(sha256("n0", name) for name in names)])
    assert [reply["return"]["sha256"] for reply in there.replies[1:-1]] == here
    changed = converse(
        QSD,
        tmp_path,
        [
            add,
            bitmap("clear", name="g512"),
            merge("n0", "g512", "g1048576"),
            bitmap("disable", name="g4096"),
            bitmap("remove", name="g65536"),
            bitmap("add", name="new", persistent=True, granularity=65536),
            merge("n0", "new", "g4096"),
            *(sha256("n0", name) for name in ("g512", "g4096", "g1048576", "new")),
        ],
    )
    expected = [reply["return"]["sha256"] for reply in changed.replies[7:-1]]
    assert run(_read_back(path, ("g512", "g4096", "g1048576", "new"))) == expected
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}


async def _recorded(path: Path, size: int, chance: random.Random) -> list[str]:
    """Bitmaps of each granularity, filled a little, in stripes, and wholly; their digests."""
    engine = EmbeddedEngine()
    await ask(engine, opened("n0", str(path)))
    for granularity in GRANULARITIES:
        wanted = bitmap("add", name=f"g{granularity}", granularity=granularity, persistent=True)
        await ask(engine, wanted)
    node = engine.graph.nodes["n0"]
    for _ in range(20):
        length = chance.randint(1, 9000)
        node.write(memoryview(bytes(length)), chance.randint(0, (1 << 20) - length))
    for at in range(1 << 20, 3 << 20, 8192):
        node.write_zeroes(at, 512, False, False)
    node.write_zeroes(4 << 20, size - (4 << 20), False, False)
    digests = [(await ask(engine, sha256("n0", f"g{g}"))).sha256 for g in GRANULARITIES]
    await engine.shut_down()
    return digests


async def _read_back(path: Path, names: Sequence[str]) -> list[str]:
    engine = EmbeddedEngine()
    await ask(engine, opened("n0", str(path)))
    digests = [(await ask(engine, sha256("n0", name))).sha256 for name in names]
    recording = {b.name: b.enabled for b in engine.graph.nodes["n0"].bitmaps}
    assert recording == {"g512": True, "g4096": False, "g1048576": True, "new": True}
    await engine.shut_down()
    return digests
