"""Random conversations: whatever is asked, in whatever order, ours answers as the daemon does.

Requests are drawn over a few names and images, so that they meet each other: most make sense, some
do not. After each, the graph, the nodes and the jobs are compared too. What fails, made shorter,
belongs into tests/support/qmp_cases.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from tests.support import tools
from tests.support.qmp_cases.words import IMAGES, Requests, add, do, file, wait
from tests.support.side_by_side import TheyDied, compare

NODES = ("n0", "n0", "n0", "n1", "n1", "n2", "no")
QCOW2 = ("base.qcow2", "mid.qcow2", "top.qcow2", "empty.qcow2")
FILES = (*QCOW2, "a.img", "gone.img")
SIZES = (0, 512, 65536, 1 << 20, 16 << 20, 1000, -1, (1 << 63) - 1)

nodes = st.sampled_from(NODES)
switch = st.booleans()


def some(**options: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of the options, or none, by their names in QMP."""
    spelt = {name.replace("_", "-"): value for name, value in options.items()}
    return st.fixed_dictionaries({}, optional=spelt)


MODES = some(
    read_only=switch,
    auto_read_only=switch,
    discard=st.sampled_from(("ignore", "unmap")),
    detect_zeroes=st.sampled_from(("off", "on", "unmap")),
    cache=st.fixed_dictionaries({"no-flush": switch}),
)

own_files = st.builds(file, st.sampled_from(FILES))
protocols = st.one_of(
    nodes,
    own_files,
    st.builds(lambda more: {"driver": "null-co", **more}, some(size=st.sampled_from(SIZES[:4]))),
)
backings = st.one_of(st.none(), nodes)


@st.composite
def options(draw: st.DrawFn, *, again: bool = False) -> dict[str, Any]:
    """Options of one node; ``again`` for one that is open already. (A qcow2 image whose file was
    exchanged below it is nothing to compare: its tables are not in that file.)"""
    driver = draw(st.sampled_from(("qcow2", "qcow2", "qcow2", "raw", "null-co", "file")))
    drawn: dict[str, Any] = {"driver": driver, "node-name": draw(nodes), **draw(MODES)}
    if driver == "file":
        return {**drawn, "filename": draw(st.sampled_from(FILES))}
    if driver == "null-co":
        return {**drawn, **draw(some(size=st.sampled_from(SIZES[:4]), read_zeroes=switch))}
    drawn["file"] = draw(own_files if again and driver == "qcow2" else protocols)
    if driver == "raw":
        return {**drawn, **draw(some(offset=st.sampled_from(SIZES[:4])))}
    return {**drawn, **draw(some(backing=backings))}


def request(command: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Requests]:
    return st.builds(lambda **drawn: [do(command, **drawn)], **arguments)


@st.composite
def streams(draw: st.DrawFn) -> Requests:
    """A stream, and its end."""
    more = draw(some(base_node=nodes, base=st.sampled_from(QCOW2)))
    begin = do("block-stream", job_id="j", device=draw(nodes), **more)
    return [begin, wait("j", "null") | {"unless-refused": True}]


def action(command: str, **data: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda **drawn: {"type": command, "data": arguments(command, drawn)}, **data)


def arguments(command: str, drawn: dict[str, Any]) -> Any:
    return do(command, **drawn)["arguments"]


bitmaps = st.sampled_from(("b0", "b1"))
snapshots = st.sampled_from(("s0", "s1"))
OVERLAY = {
    "node_name": nodes,
    "snapshot_node_name": nodes,
    "snapshot_file": st.sampled_from(("s0.qcow2", "s1.qcow2")),
}
ACTIONS = st.one_of(
    action("abort"),
    action("blockdev-snapshot", node=nodes, overlay=nodes),
    action("blockdev-snapshot-sync", **OVERLAY),
    action("blockdev-snapshot-internal-sync", device=nodes, name=snapshots),
    action("block-dirty-bitmap-add", node=nodes, name=bitmaps),
    action("block-dirty-bitmap-clear", node=nodes, name=bitmaps),
    action("block-dirty-bitmap-remove", node=nodes, name=bitmaps),
)

SOUND = (
    add("n0", "top.qcow2"),
    add("n0", "empty.qcow2"),
    add("n1", "base.qcow2", read_only=True),
    add("n1", "a.img", "raw"),
    add("n2", "mid.qcow2", backing="n1"),
    add("n2", "mid.qcow2"),
    do("blockdev-add", driver="raw", node_name="n2", file="n0"),
    do("blockdev-add", driver="null-co", node_name="n1", size=1 << 20),
)
"""What conversations begin with, so that there is something to talk about."""

REQUESTS = st.one_of(
    st.builds(lambda given: [{"execute": "blockdev-add", "arguments": given}], options()),
    st.builds(lambda given: [{"execute": "blockdev-add", "arguments": given}], options()),
    request("blockdev-reopen", options=st.lists(options(again=True), min_size=1, max_size=2)),
    request("blockdev-del", node_name=nodes),
    request("block_resize", node_name=nodes, size=st.sampled_from(SIZES)),
    request("blockdev-snapshot", node=nodes, overlay=nodes),
    request("blockdev-snapshot-sync", **OVERLAY),
    request("blockdev-snapshot-internal-sync", device=nodes, name=snapshots),
    request("blockdev-snapshot-delete-internal-sync", device=nodes, name=snapshots),
    request("block-dirty-bitmap-add", node=nodes, name=bitmaps, disabled=switch),
    request("block-dirty-bitmap-remove", node=nodes, name=bitmaps),
    request("block-dirty-bitmap-disable", node=nodes, name=bitmaps),
    request("transaction", actions=st.lists(ACTIONS, max_size=3)),
    request(
        "change-backing-file",
        device=nodes,
        image_node_name=nodes,
        backing_file=st.sampled_from(("base.qcow2", "a.img", "")),
    ),
    request(
        "block-set-write-threshold", node_name=nodes, write_threshold=st.sampled_from((0, 4096))
    ),
    request("x-blockdev-change", parent=nodes, node=nodes),
    request("x-blockdev-change", parent=nodes, child=st.sampled_from(("file", "backing"))),
    streams(),
)


WRONG = st.one_of(st.none(), st.booleans(), st.just(5), st.just("x"), st.just([]), st.just({}))


@st.composite
def broken(draw: st.DrawFn) -> Requests:
    """A request with one argument made wrong, left out, or put in, at any depth."""
    steps = copy.deepcopy(draw(REQUESTS))
    place: Any = steps[0]["arguments"]
    while True:
        inner = [value for value in _values(place) if isinstance(value, (dict, list)) and value]
        if not inner or draw(st.booleans()):
            break
        place = draw(st.sampled_from(inner))
    if isinstance(place, list):
        place[0] = draw(WRONG)
        return steps
    name = draw(st.sampled_from((*place, "more")))
    if name != "more" and draw(st.booleans()):
        del place[name]
    else:
        place[name] = draw(WRONG)
    return steps


def _values(place: Any) -> list[Any]:
    return list(place.values()) if isinstance(place, dict) else list(place)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tools.need("qemu-storage-daemon", "qemu-img", "qemu-io")
    return tools.made(tmp_path_factory.mktemp("images"), IMAGES)


@settings(
    derandomize=True,
    max_examples=15,
    phases=[Phase.generate],  # two processes an example: shrinking takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    begin=st.lists(st.sampled_from(SOUND), min_size=1, max_size=3, unique_by=str),
    drawn=st.lists(REQUESTS | REQUESTS | broken(), min_size=2, max_size=9),
)
def test_whatever_is_asked(images: Path, begin: Requests, drawn: list[Requests]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            compare(Path(folder), images, [*begin, *(step for steps in drawn for step in steps)])
        except TheyDied:
            assume(False)
