"""Dirty bitmaps as requests: who may do what, and undoing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.graph.drive import Drive
from monitor.engine.schema.query import QueryNamedBlockNodes
from tests.support.bitmaps import ABORT, bitmap, merge, run, sha256, state, transaction
from tests.support.graphs import LayerDriver, add
from tests.support.graphs import run as run_main

MIB = 1 << 20


async def refused(engine: EmbeddedEngine, asked: dict[str, Any]) -> str:
    """The refusal of a command, which has changed nothing."""
    before = state(engine)
    with pytest.raises(RequestError) as caught:
        await run(engine, asked)
    assert state(engine) == before
    return caught.value.text


def engine_with_bitmaps() -> EmbeddedEngine:
    engine = EmbeddedEngine()
    add(engine.graph, "n0")
    add(engine.graph, "n1")
    add(engine.graph, "big", LayerDriver(2 * MIB))
    return engine


def test_busy_read_only_and_inconsistent_ones_are_refused() -> None:
    async def work() -> None:
        engine = engine_with_bitmaps()
        await run(engine, bitmap("add"))
        await run(engine, bitmap("add", name="b1"))
        one = engine.graph.nodes["n0"].bitmaps.get("b0")
        assert one is not None
        verbs = [bitmap(verb) for verb in ("remove", "clear", "enable", "disable")]
        verbs += [merge("n0", "b0", "b1"), merge("n0", "b1", "b0"), merge("n0", "b1", "b1", "b0")]
        all_of_them = {*range(len(verbs))}
        for flag, text, allowed in (
            ("busy", "Bitmap 'b0' is currently in use by another operation and cannot be used", {}),
            ("readonly", "Bitmap 'b0' is readonly and cannot be modified", {2, 3, 5, 6}),
            ("inconsistent", "Bitmap 'b0' is inconsistent and cannot be used", {0}),
        ):
            setattr(one, flag, True)
            for number in all_of_them - {*allowed}:
                assert await refused(engine, verbs[number]) == text
                both = transaction(bitmap("clear", name="b1"), verbs[number])
                assert await refused(engine, both) == text
            setattr(one, flag, False)
        await run(engine, verbs[0])

    run_main(work())


def test_an_inconsistent_one_comes_with_the_way_out() -> None:
    async def work() -> None:
        engine = engine_with_bitmaps()
        await run(engine, bitmap("add"))
        one = engine.graph.nodes["n0"].bitmaps.get("b0")
        assert one is not None
        one.inconsistent = True
        with pytest.raises(RequestError) as caught:
            await run(engine, bitmap("clear"))
        assert caught.value.hint
        assert "block-dirty-bitmap-remove" in caught.value.hint

    run_main(work())


def test_merging_is_all_or_nothing() -> None:
    async def work() -> None:
        engine = engine_with_bitmaps()
        nodes = engine.graph.nodes
        for node, name in (("n0", "b0"), ("n0", "b1"), ("n1", "b1"), ("big", "b0")):
            await run(engine, bitmap("add", node, name, granularity=4096 if node == "n1" else 512))
        nodes["n0"].write(memoryview(b"x" * 512), 512)
        nodes["n1"].write(memoryview(b"x" * 512), 65536)
        there = {"node": "n1", "name": "b1"}
        differ = "Bitmaps are of different sizes (destination size is 1048576, source size is 2097152) and can't be merged"  # noqa: E501
        assert await refused(engine, merge("n0", "b0", there, {"node": "big", "name": "b0"})) == (
            differ
        )
        assert (
            await refused(engine, merge("n0", "b0", there, "b9")) == "Dirty bitmap 'b9' not found"
        )
        target = nodes["n0"].bitmaps.get("b0")
        assert target is not None
        await run(engine, merge("n0", "b0", there, "b0"))
        assert list(target.areas()) == [(512, 512), (65536, 4096)]
        await run(engine, merge("n0", "b0"))
        assert list(target.areas()) == [(512, 512), (65536, 4096)]

    run_main(work())


def test_a_removed_one_is_busy_until_the_transaction_ends() -> None:
    async def work() -> None:
        engine = engine_with_bitmaps()
        await run(engine, bitmap("add"))
        again = transaction(bitmap("remove"), bitmap("add"))
        assert await refused(engine, again) == "Bitmap already exists: b0"
        twice = transaction(bitmap("remove"), bitmap("clear"))
        assert "in use by another operation" in await refused(engine, twice)
        await run(engine, transaction(bitmap("disable"), bitmap("remove")))
        assert state(engine) == []

    run_main(work())


def test_writes_are_recorded_from_the_transaction_on() -> None:
    async def work() -> None:
        engine = engine_with_bitmaps()
        await run(engine, transaction(bitmap("add"), bitmap("add", name="off", disabled=True)))
        engine.graph.nodes["n0"].write(memoryview(b"x"), 0)
        (told,) = [
            node for node in await engine.execute(QueryNamedBlockNodes()) if node.node_name == "n0"
        ]
        off, on = told.dirty_bitmaps
        assert (off.name, off.count, off.recording) == ("off", 0, False)
        assert (on.name, on.count, on.recording, on.busy, on.persistent) == (
            "b0", 65536, True, False, False,
        )  # fmt: skip
        assert off.granularity == 65536

    run_main(work())


def test_a_job_s_and_successors_are_shown_without_a_name() -> None:
    async def work() -> None:
        engine = engine_with_bitmaps()
        await run(engine, bitmap("add"))
        one = engine.graph.nodes["n0"].bitmaps.get("b0")
        assert one is not None
        one.create_successor()
        told = (await engine.execute(QueryNamedBlockNodes()))[-1]
        successor, frozen = told.dirty_bitmaps
        assert successor.name is not frozen.name
        assert (frozen.name, frozen.busy, frozen.recording) == ("b0", True, True)

    run_main(work())


def test_names_that_fit_the_verb_are_offered() -> None:
    async def work() -> None:
        engine = engine_with_bitmaps()
        drive = Drive("d0")
        engine.graph.add_client(drive, engine.graph.nodes["n0"], 0, 0xF)
        engine.graph.drives["d0"] = drive
        for name in ("on", "off", "busy", "broken"):
            await run(engine, bitmap("add", name=name, disabled=name != "on"))
        await run(engine, bitmap("add", "n1", "other"))
        bitmaps = engine.graph.nodes["n0"].bitmaps
        for name, flag in (("busy", "busy"), ("broken", "inconsistent")):
            setattr(bitmaps.get(name), flag, True)

        def offered(verb: str, of: str = "n0") -> set[str]:
            return {name.text for name in engine.names("bitmap", verb, of)}

        assert offered("enable") == {"off"}
        assert offered("disable", "d0") == {"on"}
        assert offered("clear") == offered("merge") == offered("source") == {"on", "off"}
        assert offered("remove") == {"on", "off", "broken"}
        assert offered("") == {"on", "off", "busy", "broken"}
        assert offered("", "") == offered("") | {"other"}
        assert offered("", "n9") == set()
        (meta,) = [name.meta for name in engine.names("bitmap", "disable", "n0")]
        assert meta == "64K recording"

    run_main(work())


NAMES = st.sampled_from(["b0", "b1", "b2"])
NODES = st.sampled_from(["n0", "n1"])
ADD = st.builds(
    lambda node, name, granularity, disabled: bitmap(
        "add", node, name, granularity=granularity, disabled=disabled
    ),
    NODES,
    NAMES,
    st.sampled_from([512, 4096, 65536]),
    st.booleans(),
)
SWITCH = st.builds(bitmap, st.sampled_from(["remove", "clear", "enable", "disable"]), NODES, NAMES)
MERGE = st.builds(
    lambda node, name, source, other: merge(node, name, source, {"node": other, "name": name}),
    NODES,
    NAMES,
    NAMES,
    NODES,
)
ACTIONS = st.one_of(ADD, SWITCH, MERGE)
WRITES = st.lists(
    st.tuples(NODES, st.integers(0, MIB - 70_000), st.integers(1, 70_000)), max_size=3
)


def write(engine: EmbeddedEngine, writes: list[tuple[str, int, int]]) -> None:
    for node, offset, length in writes:
        engine.graph.nodes[node].write(memoryview(bytes(length)), offset)


async def carried_out(engine: EmbeddedEngine, actions: list[dict[str, Any]]) -> bool:
    try:
        await run(engine, transaction(*actions))
    except RequestError:
        return False
    return True


@given(st.lists(ACTIONS, max_size=6), WRITES, st.lists(ACTIONS, min_size=1, max_size=6), WRITES)
def test_a_failed_transaction_leaves_all_as_it_was(
    before: list[dict[str, Any]],
    writes: list[tuple[str, int, int]],
    actions: list[dict[str, Any]],
    later: list[tuple[str, int, int]],
) -> None:
    """For every n whose action fails (a last one that always does included): bit for bit. And what
    succeeds equals its actions done singly, where those do (a removed one goes only at the end)."""

    async def work() -> None:
        engine, twin = engine_with_bitmaps(), engine_with_bitmaps()
        for one in before:
            for side in (engine, twin):
                await carried_out(side, [one])
        write(engine, writes)
        write(twin, writes)
        for count in range(len(actions) + 1):
            was = state(engine)
            assert not await carried_out(engine, [*actions[:count], ABORT])
            assert state(engine) == was
        if await carried_out(engine, actions):
            for one in actions:
                assert await carried_out(twin, [one])
        write(engine, later)
        write(twin, later)
        assert state(engine) == state(twin)

    run_main(work())


def test_the_digest_is_of_whole_words() -> None:
    async def work() -> None:
        engine = engine_with_bitmaps()
        await run(engine, bitmap("add", granularity=65536))
        digest = await run(engine, sha256())
        # of 64 clean bits, as qemu-storage-daemon answers (interop/test_bitmaps.py)
        assert digest.sha256 == "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"

    run_main(work())
