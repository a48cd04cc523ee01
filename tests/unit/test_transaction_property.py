"""Any transaction, failing at any action, leaves everything as it was; a whole one is its actions
done singly."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.engine.bitmapwords import sha256
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.schema.base import request_type
from monitor.engine.schema.decode import decode
from monitor.engine.schema.extra import CreateImage, IoRequest
from monitor.engine.schema.graph import BlockdevAdd
from monitor.engine.schema.transaction import Transaction
from tests.support.graphs import run, shape

Action = tuple[str, dict[str, Any]]


SIZE = 1 << 20
NODES = ("n0", "n1")
OVERLAYS = ("o0", "o1")
NAMES = ("a", "b")

used = st.sampled_from([*NODES, *NODES, "s0"])
there, free = st.sampled_from(["a", "b"]), st.sampled_from(["c", "d", "e"])


def doing(kind: str, **data: st.SearchStrategy[Any]) -> st.SearchStrategy[Action]:
    members = {name.replace("_", "-"): value for name, value in data.items()}
    return st.tuples(st.just(kind), st.fixed_dictionaries(members))


source = st.one_of(there, st.fixed_dictionaries({"node": st.sampled_from(NODES), "name": there}))
actions = st.one_of(
    doing("block-dirty-bitmap-add", node=used, name=free),
    *(
        doing(
            f"block-dirty-bitmap-{verb}", node=st.sampled_from(NODES), name=st.one_of(there, free)
        )
        for verb in ("clear", "enable", "disable", "remove")
    ),
    doing(
        "block-dirty-bitmap-merge",
        node=st.sampled_from(NODES),
        target=there,
        bitmaps=st.lists(source, min_size=1, max_size=2),
    ),
    st.sampled_from(["s0", "s1"]).flatmap(
        lambda name: doing(
            "blockdev-snapshot-sync",
            node_name=used,
            snapshot_node_name=st.just(name),
            snapshot_file=st.just(f"{name}.qcow2"),
        )
    ),
    doing("blockdev-snapshot", node=used, overlay=st.sampled_from(OVERLAYS)),
    doing(
        "blockdev-snapshot-internal-sync",
        device=st.sampled_from([*OVERLAYS, *OVERLAYS, "n0"]),
        name=free,
    ),
)
"""Such as mostly succeed, and sometimes not."""

job = doing(
    "blockdev-backup",
    job_id=st.just("j"),
    device=st.sampled_from(NODES),
    target=st.sampled_from(OVERLAYS),
    sync=st.just("full"),
)
"""Comes last, as what is done singly after it would find it running or not."""


async def begin(folder: Path) -> EmbeddedEngine:
    """Two used nodes with data and bitmaps, and two overlays that nobody uses yet."""
    engine = EmbeddedEngine()
    for name in (*NODES, *OVERLAYS):
        path = str(folder / f"{name}.qcow2")
        await engine.execute(CreateImage(filename=path, format="qcow2", size=SIZE))
        options: dict[str, Any] = {"driver": "qcow2", "node-name": name}
        options["file"] = {"driver": "file", "filename": path}
        await engine.execute(decode(BlockdevAdd, options))
    for number, node in enumerate(NODES):
        above = {"driver": "raw", "node-name": f"user{number}", "file": node}
        await engine.execute(decode(BlockdevAdd, above))
        for name in NAMES:
            await single(engine, folder, ("block-dirty-bitmap-add", {"node": node, "name": name}))
        await fill(engine, f"user{number}", number * 200_000, number + 1)
    await single(engine, folder, ("block-dirty-bitmap-clear", {"node": "n0", "name": "b"}))
    return engine


async def fill(engine: EmbeddedEngine, device: str, offset: int, pattern: int) -> None:
    await engine.execute(
        IoRequest(device=device, operation="write", offset=offset, length=70_000, pattern=pattern)
    )


def placed(folder: Path, action: Action) -> Action:
    kind, data = action
    name = data.get("snapshot-file")
    return kind, data | ({"snapshot-file": str(folder / name)} if name else {})


async def single(engine: EmbeddedEngine, folder: Path, action: Action) -> None:
    kind, data = placed(folder, action)
    request = request_type(kind)
    assert request is not None
    await engine.execute(decode(request, data))


async def together(engine: EmbeddedEngine, folder: Path, chosen: list[Action]) -> None:
    listed = [{"type": kind, "data": data} for kind, data in (placed(folder, a) for a in chosen)]
    await engine.execute(decode(Transaction, {"actions": listed}))


async def state(engine: EmbeddedEngine) -> dict[str, Any]:
    """Edges and permissions, modes, bitmaps bit for bit, snapshots, what disks read as, jobs."""
    graph = engine.graph
    edges = [tuple(re.sub("#block[0-9]+", "#", str(part)) for part in e) for e in shape(graph)]
    found: dict[str, Any] = {"edges": sorted(edges), "jobs": engine.jobs()}
    for name, node in graph.nodes.items():
        if node.driver.name != "qcow2":
            continue
        buffer = bytearray(node.length())
        await graph.in_worker(node.driver.read, memoryview(buffer), 0)
        found[name] = (
            node.read_only,
            [(info["id"], info["name"]) for info in node.driver.snapshots()],
            hash(bytes(buffer)),
            {
                bitmap.name: (bitmap.granularity, bitmap.recording, bitmap.count, sha256(bitmap))
                for bitmap in node.bitmaps.named()
            },
        )
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(actions, min_size=1, max_size=6), st.lists(job, max_size=1))
def test_all_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, others: list[Action], jobs: list[Action]
) -> None:
    async def main() -> None:
        folder, other = (tmp_path_factory.mktemp(name) for name in ("together", "singly"))
        chosen = [*others, *jobs]
        engine, reference = await begin(folder), await begin(other)
        before = await state(engine)
        assert str(before).replace(str(folder), "") == str(await state(reference)).replace(
            str(other), ""
        )
        text = None
        for count in itertools.count():
            with pytest.raises(RequestError) as failure:
                await together(engine, folder, [*chosen[:count], ("abort", {})])
            assert await state(engine) == before
            if failure.value.failed_action != count:
                text, good = failure.value.text, count - 1
                break
            if count == len(chosen):
                await together(engine, folder, chosen)
                good = count
                break
        for action in chosen[:good]:
            await single(reference, other, action)
        for each in (engine, reference):
            if each.jobs():
                await each.job_ended("j")
        if text is None:
            assert await state(engine) == await state(reference)
        elif not any(kind == "block-dirty-bitmap-remove" for kind, _ in chosen[:good]):
            # (What is to be removed keeps its name until the commit, as in QEMU.)
            with pytest.raises(RequestError) as failure:
                await single(reference, other, chosen[good])
            assert failure.value.text.replace(str(other), "") == text.replace(str(folder), "")
        for used in (engine, reference):
            await fill(used, "user0", 100_000, 9)  # and it can be written afterwards
            await used.shut_down()

    run(main())
