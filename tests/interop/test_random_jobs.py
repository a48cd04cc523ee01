"""Jobs begun, led on and ended at random, and what is asked for beside them: ours answers, tells
and leaves the graph as the daemon does.

The next request waits until every job stands still, so that nothing depends on time. What fails,
made shorter, belongs into tests/support/qmp_cases. ``BLKMON_RANDOM=500`` draws so many.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support import tools
from tests.support.qmp_cases.words import IMAGES, Requests, add, do
from tests.support.settling import Conversation, talking_to
from tests.support.side_by_side import OURS, QSD, STATE, Ended, comparable, difference, fill

EXAMPLES = int(os.environ.get("BLKMON_RANDOM", "15"))

nodes = st.sampled_from(("n0", "n0", "middle", "low", "t0", "t0", "r", "user", "new"))
jobs = st.sampled_from(("j", "k"))
links = st.sampled_from(("base.qcow2", "x.qcow2", ""))
switch = st.booleans()


def some(**options: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of the options, or none."""
    return st.fixed_dictionaries({}, optional=options)


NOTHING = some()


def request(
    command: str, more: st.SearchStrategy[dict[str, Any]] = NOTHING, **arguments: Any
) -> st.SearchStrategy[dict[str, Any]]:
    strategies = {
        name: value if isinstance(value, st.SearchStrategy) else st.just(value)
        for name, value in arguments.items()
    }
    return st.builds(
        lambda drawn, others: do(command, **drawn, **others),
        st.fixed_dictionaries(strategies),
        more,
    )


KEPT = {"auto_finalize": switch, "auto_dismiss": switch}
FILTER = {"filter_node_name": st.sampled_from(("f", "n0"))}
BITMAP = {
    "bitmap": st.sampled_from(("b0", "no")),
    "bitmap_mode": st.sampled_from(("on-success", "never", "always")),
}
FILES = {
    "target": st.sampled_from(("w1.qcow2", "w2.qcow2", "empty.qcow2")),
    "job_id": jobs,
    "device": nodes,
}
FORMATS = {
    "mode": st.sampled_from(("existing", "absolute-paths")),
    "format": st.sampled_from(("qcow2", "raw")),
}
SYNC = st.sampled_from(("full", "full", "top", "none", "bitmap", "incremental"))
MIRRORED = st.sampled_from(("full", "none"))
"""sync=top without a backing image is different (docs/differences.md)."""

BEGIN = st.one_of(
    request(
        "block-stream",
        some(base_node=nodes, bottom=nodes, backing_file=links, **KEPT),
        job_id=jobs,
        device=nodes,
    ),
    request(
        "block-commit",
        some(top_node=nodes, base_node=nodes, backing_file=links, **KEPT, **FILTER),
        job_id=jobs,
        device=nodes,
    ),
    request(
        "block-commit", some(**KEPT), job_id=jobs, device="n0", top_node="middle", base_node="low"
    ),
    request(
        "blockdev-backup",
        some(**KEPT, **FILTER, **BITMAP),
        job_id=jobs,
        device=nodes,
        target=nodes,
        sync=SYNC,
    ),
    request("blockdev-backup", some(**KEPT), job_id=jobs, device="n0", target="t0", sync="full"),
    request("drive-backup", some(**KEPT, **FORMATS), sync=SYNC, **FILES),
    request("drive-mirror", some(**KEPT, **FORMATS), sync=MIRRORED, **FILES),
    request(
        "blockdev-mirror",
        some(replaces=nodes, **KEPT, **FILTER),
        job_id=jobs,
        device=nodes,
        target=nodes,
        sync=MIRRORED,
    ),
)

LEAD_ON = st.one_of(
    *(
        request(f"job-{verb}", id=jobs)
        for verb in ("complete", "complete", "cancel", "finalize", "dismiss", "pause", "resume")
    ),
    request("block-job-cancel", some(force=switch), device=jobs),
    request("block-job-finalize", id=jobs),
    request("block-job-set-speed", device=jobs, speed=st.sampled_from((0, -1, 1 << 40))),
)

BESIDE = st.one_of(
    request("blockdev-del", node_name=nodes),
    request("block_resize", node_name=nodes, size=st.sampled_from((1 << 20, 8 << 20, 16 << 20))),
    request(
        "blockdev-snapshot-sync",
        node_name=nodes,
        snapshot_node_name="new",
        snapshot_file=st.sampled_from(("s0", "s1")),
    ),
    request("blockdev-snapshot", node=nodes, overlay=nodes),
    request("change-backing-file", device=nodes, image_node_name=nodes, backing_file=links),
    request("block-dirty-bitmap-add", some(persistent=switch), node=nodes, name="b0"),
    request("block-dirty-bitmap-remove", node=nodes, name="b0"),
    request("blockdev-snapshot-internal-sync", device=nodes, name="i0"),
    request("blockdev-add", driver="raw", node_name="user", file=nodes),
)


@st.composite
def chains(draw: st.DrawFn) -> Requests:
    """A chain of three, a target and a raw image; some of them read-only."""
    modes = [{"read_only": True} if draw(st.integers(0, 6)) == 0 else {} for _ in range(3)]
    target = {"backing": None} if draw(switch) else {}
    return [
        add("low", "base.qcow2", **modes[0]),
        add("middle", "mid.qcow2", backing="low", **modes[1]),
        add("n0", "top.qcow2", backing="middle", **modes[2]),
        add("t0", "empty.qcow2", **target),
        add("r", "a.img", "raw"),
    ]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tools.need("qemu-storage-daemon", "qemu-img", "qemu-io")
    return tools.made(tmp_path_factory.mktemp("images"), IMAGES)


@settings(
    derandomize=True,
    max_examples=EXAMPLES,
    phases=[Phase.generate],  # two processes an example: shrinking takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    begin=chains(),
    drawn=st.lists(BEGIN | BEGIN | LEAD_ON | LEAD_ON | BESIDE, min_size=3, max_size=10),
)
def test_whatever_jobs_are_asked(images: Path, begin: Requests, drawn: Requests) -> None:
    with tempfile.TemporaryDirectory() as name:
        theirs, ours = (fill(Path(name) / side, images) for side in ("theirs", "ours"))
        with talking_to(QSD, theirs) as them, talking_to(OURS, ours) as us:
            for step in [*begin, *drawn]:
                try:
                    their = them.ask_and_settle(step)
                except Ended:
                    return  # the daemon died: there is nothing to compare with
                our = us.ask_and_settle(step)
                assert comparable(our) == comparable(their), difference(step, our, their)
                assert us.take_events() == them.take_events(), step
                _compare_state(them, us, step)


def _compare_state(them: Conversation, us: Conversation, step: dict[str, Any]) -> None:
    """What a query shows of a job that was stopped half-way is a matter of time. A stream has no
    filter here, and one that waits to be finalized is not paused (docs/differences.md)."""
    types = {job["type"] for job in us.ask({"execute": "query-jobs"})["return"]}
    for query in STATE[:2] if "stream" not in types else ():
        their, our = them.ask(query), us.ask(query)
        assert comparable(our) == comparable(their), difference([step, query], our, their)
    their, our = (_lives(side) for side in (them, us))
    assert our == their, step


def _lives(side: Conversation) -> list[tuple[Any, ...]]:
    members = ("device", "type", "status", "speed", "io-status", "error", "auto-dismiss")
    listed = side.ask({"execute": "query-block-jobs"})["return"]
    return [tuple(job.get(member) for member in members) for job in listed]
