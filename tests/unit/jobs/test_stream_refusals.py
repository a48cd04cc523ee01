"""Who is refused by a stream, what refuses one, and how it ends with the engine."""

from __future__ import annotations

from typing import Any

import pytest

from monitor.engine import permissions
from monitor.engine.errors import RequestError
from monitor.engine.graph.drive import Drive
from monitor.engine.graph.edit import FrozenLink, point
from monitor.engine.graph.transaction import Transaction
from monitor.engine.schema.graph import BlockdevDel
from monitor.engine.schema.stream import BlockStream
from tests.support.graphs import run
from tests.support.in_memory import MIB
from tests.support.layers import overlay, put
from tests.support.streams import Bench


def test_what_is_busy_says_so() -> None:
    async def main() -> None:
        bench = Bench()
        bench.chain()
        await bench.stream(speed=1)
        for device in ("top", "mid", "base"):
            text = await bench.refused(device=device, job_id="s1")
            assert text == f"Node '{device}' is busy: block device is in use by block job: stream"
            with pytest.raises(RequestError) as refusal:
                await bench.engine.execute(BlockdevDel(node_name=device))
            assert refusal.value.text == text
        await bench.engine.job_table.cancel_all()

    run(main())


def test_a_chain_above_a_streaming_one_is_refused_and_a_disjoint_one_is_not() -> None:
    async def main() -> None:
        bench = Bench()
        nodes = [bench.layer("n0")]
        for number in range(1, 5):
            nodes.append(bench.layer(f"n{number}", MIB, nodes[-1]))
        put(nodes[0], 0, b"0" * MIB)
        first = await bench.stream("n2", speed=1, base_node="n0")
        for base in ({}, {"base_node": "n2"}):  # the first one's filter lies above n2
            refusal = await bench.refused(device="n4", job_id="s1", **base)
            assert "Node '#block001' is busy" in refusal
        await bench.engine.execute(
            BlockStream(job_id="s1", device="n4", bottom="n3", auto_dismiss=False)
        )
        assert (await bench.engine.job_ended("s1")).error is None
        assert nodes[4].backing is not None
        assert nodes[4].backing.skip_implicit() is nodes[2]
        await first.settled()
        assert nodes[2].backing is nodes[0]
        assert nodes[4].backing is nodes[2]

    run(main())


def test_mistakes_in_qemus_words() -> None:
    async def main() -> None:
        bench = Bench()
        bench.chain()
        bench.layer("other")
        cases: list[tuple[dict[str, Any], str]] = [
            ({"device": "nope"}, "Cannot find device='nope' nor node-name='nope'"),
            (
                {"base": "base", "base_node": "base"},
                "'base' and 'base-node' cannot be specified at the same time",
            ),
            (
                {"base": "base", "bottom": "mid"},
                "'base' and 'bottom' cannot be specified at the same time",
            ),
            (
                {"bottom": "mid", "base_node": "base"},
                "'bottom' and 'base-node' cannot be specified at the same time",
            ),
            ({"base": "nope"}, "Can't find 'nope' in the backing chain"),
            ({"base_node": "other"}, "Node 'other' is not a backing image of 'top'"),
            ({"base_node": "top"}, "Node 'top' is not a backing image of 'top'"),
            ({"base_node": "nope"}, "Cannot find device='' nor node-name='nope'"),
            ({"bottom": "other"}, "Node 'other' is not in a chain starting from 'top'"),
            ({"backing_file": "x"}, "backing file specified, but streaming the entire chain"),
            ({"job_id": "0"}, "Invalid job ID '0'"),
            ({"speed": -1}, "Parameter 'speed' expects a non-negative value"),
        ]
        for options, text in cases:
            assert await bench.refused(**options) == text
        assert bench.engine.jobs() == []

    run(main())


def test_the_drive_names_the_job() -> None:
    async def main() -> None:
        bench = Bench()
        _base, _mid, top = bench.chain()
        with pytest.raises(RequestError, match="Invalid job ID ''"):
            await bench.engine.execute(BlockStream(device="top"))
        drive = Drive("d0")
        bench.graph.drives["d0"] = drive
        bench.graph.add_client(drive, top, permissions.CONSISTENT_READ, permissions.ALL)
        await bench.engine.execute(BlockStream(device="d0", auto_dismiss=False))
        assert [job.id for job in bench.engine.jobs()] == ["d0"]
        await bench.engine.job_ended("d0")

    run(main())


def test_a_permission_conflict_leaves_no_job() -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain()
        jealous = Drive("jealous")
        bench.graph.add_client(jealous, top, 0, permissions.ALL & ~permissions.WRITE_UNCHANGED)
        text = await bench.refused()
        assert text == (
            "Could not create node: Permission conflict on node 'top': permissions 'write "
            "unchanged' are both required by node '#block001' (uses node 'top' as 'file' child) "
            "and unshared by block device 'jealous' (uses node 'top' as 'root' child)."
        )
        assert bench.statuses() == []
        assert not top.blockers + mid.blockers
        assert not top.children["backing"].frozen
        assert top.overlap is None

    run(main())


def test_nobody_leads_the_chain_elsewhere() -> None:
    async def main() -> None:
        bench = Bench()
        base, _mid, top = bench.chain()
        await bench.stream(speed=1)
        with pytest.raises(FrozenLink) as refusal, Transaction() as transaction:
            point(transaction, top.children["backing"], base)
        assert refusal.value.text == "Cannot change frozen 'backing' link from 'top' to 'mid'"
        await bench.engine.job_table.cancel_all()
        with Transaction() as transaction:
            point(transaction, top.children["backing"], base)

    run(main())


def test_shutting_down_ends_it_and_keeps_the_chain_valid() -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain(8 * MIB)
        seen = overlay(top).contents()
        await bench.stream()
        await bench.engine.shut_down()
        assert bench.graph.nodes == {}
        assert overlay(top).closed
        assert overlay(mid).closed
        if overlay(top).links[-1] == (None, None):  # it may have been quicker
            overlay(top).attach_backing(None)
        assert overlay(top).contents() == seen

    run(main())
