"""The graph in DOT, for graphviz and for whoever reads it: ``info graph --dot``."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.commands.graphtext import DRIVE, JOB, labels
from monitor.engine.schema.job import JobInfo
from monitor.engine.schema.query import BlockDeviceInfo, BlockGraph

_SHAPES = {DRIVE: "box3d", JOB: "ellipse"}


def dot(graph: BlockGraph, nodes: Sequence[BlockDeviceInfo], jobs: Sequence[JobInfo]) -> str:
    """A digraph with an arrow from each user to the node that it uses, labelled with the role."""
    lines = ["digraph blkmon {", "    node [shape=box, fontname=monospace];"]
    for node, text in zip(graph.nodes, labels(graph, nodes, jobs), strict=True):
        shape = _SHAPES.get(node.type)
        more = f", shape={shape}" if shape else ""
        lines.append(f"    n{node.id} [label={_quoted(chr(10).join(text))}{more}];")
    lines += [
        f"    n{edge.parent} -> n{edge.child} [label={_quoted(edge.name)}];" for edge in graph.edges
    ]
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'
