"""The graph as a tree in text: ``info graph``.

drive d0
└─ root: #block188 qcow2 64 MiB rw  ov.qcow2
   ├─ file: #block037 file 192 KiB rw  ov.qcow2
   └─ backing: base qcow2 64 MiB ro  a.qcow2
      └─ file: #block221 file 192 KiB ro  a.qcow2
job s0 (stream, running)
└─ main node: #block188 (shown above)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from monitor.commands.render import size_text
from monitor.engine.schema.job import JobInfo
from monitor.engine.schema.query import BlockDeviceInfo, BlockGraph, GraphEdge, GraphNode

DRIVE, JOB = "block-backend", "block-job"


def tree(graph: BlockGraph, nodes: Sequence[BlockDeviceInfo], jobs: Sequence[JobInfo]) -> str:
    """Drives first, then jobs, then nodes without parents. Each node is drawn once."""
    return "\n".join(_Tree(graph, nodes, jobs).lines()) or "The graph is empty"


class _Tree:
    def __init__(
        self, graph: BlockGraph, nodes: Sequence[BlockDeviceInfo], jobs: Sequence[JobInfo]
    ) -> None:
        self._graph = graph
        self._by_id = {node.id: node for node in graph.nodes}
        self._children: dict[int, list[GraphEdge]] = {node.id: [] for node in graph.nodes}
        for edge in graph.edges:
            self._children[edge.parent].append(edge)
        self._details = {node.node_name: node for node in nodes}
        self._jobs = {job.id: job for job in jobs}
        self._shown: set[int] = set()

    def lines(self) -> Iterator[str]:
        used = {edge.child for edge in self._graph.edges}
        order = {DRIVE: 0, JOB: 1}
        roots = [n for n in self._graph.nodes if n.type in order or n.id not in used]
        for root in sorted(roots, key=lambda node: order.get(node.type, 2)):
            yield self._label(root)
            self._shown.add(root.id)
            yield from self._below(root.id, "")

    def _below(self, parent: int, indent: str) -> Iterator[str]:
        """The children of ``parent``; a stack, because chains are longer than Python's."""
        stack = [(indent, iter(self._branches(parent)))]
        while stack:
            indent, branches = stack[-1]
            edge, last = next(branches, (None, True))
            if edge is None:
                stack.pop()
                continue
            child = self._by_id[edge.child]
            lead = f"{indent}{'└─' if last else '├─'} {edge.name}: "
            if child.id in self._shown:
                yield f"{lead}{child.name} (shown above)"
                continue
            self._shown.add(child.id)
            yield f"{lead}{self._label(child)}"
            below = f"{indent}{'   ' if last else '│  '}"
            stack.append((below, iter(self._branches(child.id))))

    def _branches(self, parent: int) -> list[tuple[GraphEdge, bool]]:
        edges = self._children[parent]
        return [(edge, edge is edges[-1]) for edge in edges]

    def _label(self, node: GraphNode) -> str:
        if node.type == DRIVE:
            empty = "" if self._children[node.id] else " [not inserted]"
            return f"drive {node.name}{empty}" if node.name else f"user of a node{empty}"
        if node.type == JOB:
            job = self._jobs.get(node.name)
            return f"job {node.name} ({job.type}, {job.status})" if job else f"job {node.name}"
        details = self._details.get(node.name)
        if details is None:
            return node.name
        size = size_text(details.image.virtual_size)
        mode = "ro" if details.ro else "rw"
        return f"{node.name} {details.drv} {size} {mode}  {details.file}".rstrip()


def labels(
    graph: BlockGraph, nodes: Sequence[BlockDeviceInfo], jobs: Sequence[JobInfo]
) -> list[list[str]]:
    """What a picture says of each node of ``graph``: lines of text, the name first."""
    details = {node.node_name: node for node in nodes}
    known = {job.id: job for job in jobs}
    return [_lines_of(node, details.get(node.name), known.get(node.name)) for node in graph.nodes]


def _lines_of(node: GraphNode, details: BlockDeviceInfo | None, job: JobInfo | None) -> list[str]:
    if node.type == DRIVE:
        return [node.name or "user of a node", "drive"]
    if node.type == JOB:
        return [node.name, f"{job.type}, {job.status}" if job is not None else "job"]
    if details is None:
        return [node.name]
    size, mode = size_text(details.image.virtual_size), "ro" if details.ro else "rw"
    lines = [node.name, f"{details.drv} {size} {mode}"]
    return [*lines, details.file] if details.file else lines
