"""block-commit of the middle of a chain when its last step fails."""

from __future__ import annotations

import errno

from monitor.engine.schema.commit import BlockCommit
from tests.support.graphs import run
from tests.support.in_memory import BadPlace
from tests.support.layers import overlay
from tests.support.streams import Bench


def test_a_link_that_cannot_be_written_leaves_the_chain() -> None:
    """The image above goes on from the layer that its header names."""

    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain()
        seen = overlay(top).contents()
        overlay(top).before = BadPlace("set_backing", 0, errno.EIO)
        commit = BlockCommit(job_id="c", device="top", top_node="mid", auto_dismiss=False)
        await bench.engine.execute(commit)
        ended = await bench.engine.job_ended("c")
        assert ended.error == "Could not update backing file link"
        assert top.backing is mid
        assert not any(node.is_filter for node in bench.graph.nodes.values())
        overlay(top).before = None
        assert overlay(top).contents() == seen

    run(main())
