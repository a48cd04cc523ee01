"""``info graph --dot`` and ``--svg``."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from xml.etree import ElementTree

import pytest

from monitor.commands.graphsvg import MOST_PLACES, TooLarge
from monitor.engine.schema.job import JobInfo, QueryJobs
from monitor.engine.schema.query import (
    QueryBlockGraph,
    QueryNamedBlockNodes,
)
from tests.support.answers import DRIVE, JOB, NODE, Edges, Nodes, block_graph, device
from tests.support.commands import typed

SHARED: tuple[Nodes, Edges] = (
    [(DRIVE, "d0"), (JOB, "s0"), (NODE, "top"), (NODE, "mid"), (NODE, "base"), (NODE, "other"),
     (NODE, 'a<b>&"c'), (NODE, "alone")],
    [(0, 2, "root"), (1, 2, "main node"), (1, 3, "intermediate node"), (1, 4, "base"),
     (2, 3, "backing"), (3, 4, "backing"), (5, 4, "backing"), (4, 6, "file")],
)  # fmt: skip
DETAILS = [device("ov.qcow2", "top"), device("long/" * 30 + "a.qcow2", "base", ro=True)]
WORKING = JobInfo(id="s0", type="stream", status="running", current_progress=0, total_progress=0)


def picture(option: str, nodes: Nodes, edges: Edges) -> str:
    answers = {
        QueryBlockGraph: block_graph(nodes, edges),
        QueryNamedBlockNodes: DETAILS,
        QueryJobs: [WORKING],
    }
    return typed(f"info graph {option}", answers)[0]


def test_dot_has_every_node_and_every_edge() -> None:
    text = picture("--dot", *SHARED)
    assert r'n3 [label="top\nqcow2 64 MiB rw\nov.qcow2"];' in text
    assert r'n7 [label="a<b>&\"c"];' in text
    assert 'n2 -> n4 [label="intermediate node"];' in text
    assert text.count(" -> ") == len(SHARED[1])
    if shutil.which("dot"):
        subprocess.run(["dot", "-Tsvg"], input=text.encode(), stdout=subprocess.DEVNULL, check=True)


Box = tuple[float, float, float, float]


def boxes(svg: str) -> tuple[list[Box], list[Box], list[str], tuple[float, float]]:
    """Boxes of nodes, of lines' names, all texts, and the size of the picture."""
    root = ElementTree.fromstring(svg)
    rects = [e.attrib for e in root.iter() if e.tag.endswith("rect") and "x" in e.attrib]
    places = [(tuple(float(r[k]) for k in ("x", "y", "width", "height")), "rx" in r) for r in rects]
    texts = [e.text or "" for e in root.iter() if e.tag.endswith("text")]
    size = float(root.attrib["width"]), float(root.attrib["height"])
    return (
        [p for p, is_node in places if is_node],  # type: ignore[misc]
        [p for p, is_node in places if not is_node],  # type: ignore[misc]
        texts,
        size,
    )


def apart(one: Box, other: Box) -> bool:
    return (
        one[0] + one[2] <= other[0] or other[0] + other[2] <= one[0]
        or one[1] + one[3] <= other[1] or other[1] + other[3] <= one[1]
    )  # fmt: skip


def test_svg_shows_everything_once_and_nothing_over_anything() -> None:
    nodes, names, texts, (width, height) = boxes(picture("--svg", *SHARED))
    assert len(nodes) == len(SHARED[0])
    assert sorted(t for t in texts if t in {"root", "backing", "base", "intermediate node"}) == [
        "backing", "backing", "backing", "base", "base", "intermediate node", "root"
    ]  # fmt: skip
    assert 'a<b>&"c' in texts
    for one, other in itertools.combinations(nodes, 2):
        assert apart(one, other)
    for one, other in itertools.combinations(names, 2):
        assert apart(one, other)
    for x, y, wide, tall in nodes:
        assert x >= 0
        assert y >= 0
        assert x + wide <= width
        assert y + tall <= height


def test_svg_of_a_long_chain_and_of_none() -> None:
    chain = [(NODE, f"n{i}") for i in range(400)]
    below = [(i, i + 1, "backing") for i in range(399)]
    nodes, *_ = boxes(picture("--svg", chain, below))
    assert [box[1] for box in nodes] == sorted(box[1] for box in nodes)
    assert boxes(picture("--svg", [], []))[0] == []


def test_what_nobody_can_look_at_is_refused() -> None:
    count = 2000
    chain = [(NODE, f"n{i}") for i in range(count)]
    users = [(0, i, "intermediate node") for i in range(2, count)]
    assert sum(range(count)) > MOST_PLACES
    with pytest.raises(TooLarge):
        picture("--svg", chain, [(i, i + 1, "backing") for i in range(count - 1)] + users)
