"""The graph as a picture: ``info graph --svg``.

Boxes stand in layers, a user above all that it uses; boxes of a layer are ordered by the middle of
their neighbours, back and forth, so that few lines cross. A line that passes layers goes through a
free place of each (Sugiyama, Tagawa and Toda, 1981). Nothing but text is needed to draw it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from monitor.commands.graphtext import DRIVE, JOB, labels
from monitor.engine.errors import RequestError
from monitor.engine.schema.job import JobInfo
from monitor.engine.schema.query import BlockDeviceInfo, BlockGraph

CHARACTER, LINE = 7.3, 16.0
"""What a character of the font takes, in pixels: its width (13 px monospace) and a line."""

_PADDING, _GAP, _BETWEEN = 10.0, 28.0, 64.0
_SWEEPS = 8
_COLOURS = {DRIVE: ("#dbeafe", "#1d4ed8"), JOB: ("#fef3c7", "#b45309")}
_NODE = ("#f1f5f9", "#475569")


MOST_PLACES = 50_000
"""Boxes and places that lines pass; nobody can look at more."""


class TooLarge(RequestError):
    template = "The graph is too large for a picture: info graph --dot describes it"


class _Box(msgspec.Struct):
    """What stands in a place of a layer: a node with its lines, or (no lines) a passing line."""

    lines: list[str]
    kind: str
    layer: int
    up: list[int] = msgspec.field(default_factory=list)
    down: list[int] = msgspec.field(default_factory=list)
    x: float = 0.0
    y: float = 0.0
    tall: float = 0.0
    """How far down it reaches: a passing line, as far as the boxes beside it."""

    @property
    def width(self) -> float:
        longest = max(map(len, self.lines), default=0)
        return longest * CHARACTER + 2 * _PADDING if self.lines else 12.0

    @property
    def height(self) -> float:
        return len(self.lines) * LINE + 2 * _PADDING if self.lines else 0.0

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


def svg(graph: BlockGraph, nodes: Sequence[BlockDeviceInfo], jobs: Sequence[JobInfo]) -> str:
    """The picture, as a file of its own. Raises TooLarge."""
    layout = _Layout(graph, labels(graph, nodes, jobs))
    layout.order()
    layout.place()
    return layout.draw()


class _Layout:
    def __init__(self, graph: BlockGraph, texts: Sequence[list[str]]) -> None:
        index = {node.id: number for number, node in enumerate(graph.nodes)}
        edges = [(index[edge.parent], index[edge.child], edge.name) for edge in graph.edges]
        depth = _layers(len(index), [(a, b) for a, b, _ in edges])
        self.boxes = [
            _Box([_shortened(line) for line in text], node.type, layer)
            for node, text, layer in zip(graph.nodes, texts, depth, strict=True)
        ]
        self.paths: list[tuple[list[int], str]] = []
        """Each edge's way from box to box, and its name."""
        for parent, child, name in edges:
            self.paths.append((self._way(parent, child), name))
        self.rows: list[list[int]] = [[] for _ in range(max(depth, default=-1) + 1)]
        for number, box in enumerate(self.boxes):
            self.rows[box.layer].append(number)

    def _way(self, parent: int, child: int) -> list[int]:
        way = [parent]
        if len(self.boxes) + self.boxes[child].layer > MOST_PLACES:
            raise TooLarge
        for layer in range(self.boxes[parent].layer + 1, self.boxes[child].layer):
            self.boxes.append(_Box([], "", layer))
            way.append(len(self.boxes) - 1)
        way.append(child)
        for above, below in pairwise(way):
            self.boxes[above].down.append(below)
            self.boxes[below].up.append(above)
        return way

    # -- where everything stands -------------------------------------------------------------

    def order(self) -> None:
        """Puts each row in the order of its neighbours' middles, downwards and upwards in turn."""
        places = {number: at for row in self.rows for at, number in enumerate(row)}
        for sweep in range(_SWEEPS):
            downwards = sweep % 2 == 0
            for row in self.rows[1:] if downwards else self.rows[-2::-1]:
                row.sort(key=lambda number: self._wish(number, downwards, places))
                places.update((number, at) for at, number in enumerate(row))

    def _wish(self, number: int, downwards: bool, places: dict[int, int]) -> float:
        box = self.boxes[number]
        near = box.up if downwards else box.down
        return sum(places[n] for n in near) / len(near) if near else float(places[number])

    def place(self) -> None:
        """Gives every box its place: rows below each other, boxes below what uses them."""
        y = _GAP
        for row in self.rows:
            tall = max((self.boxes[n].height for n in row), default=0.0)
            for number in row:
                box = self.boxes[number]
                box.y = y
                box.tall = box.height if box.lines else tall
            self._spread(row, row)
            y += tall + _BETWEEN
        for sweep in range(_SWEEPS):
            for row in self.rows if sweep % 2 else self.rows[::-1]:
                self._spread(row, [n for n in row if self.boxes[n].up or self.boxes[n].down])
        left = min((box.x for box in self.boxes), default=0.0) - _GAP
        for box in self.boxes:
            box.x -= left

    def _spread(self, row: list[int], pulled: list[int]) -> None:
        """Moves the boxes of a row to the middle of their neighbours, as far as those beside them
        leave room: first all pushed right, then back as far left as they want to be."""
        wishes = {number: self._pull(number) for number in pulled}
        x = float("-inf")
        for number in row:
            box = self.boxes[number]
            wish = wishes.get(number, box.middle) - box.width / 2
            box.x = max(wish, x)
            x = box.x + box.width + _GAP
        x = float("inf")
        for number in reversed(row):
            box = self.boxes[number]
            wish = wishes.get(number, box.middle) - box.width / 2
            box.x = min(x - box.width, (box.x + wish) / 2 if box.x > wish else box.x)
            x = box.x - _GAP

    def _pull(self, number: int) -> float:
        box = self.boxes[number]
        near = [*box.up, *box.down]
        return sum(self.boxes[n].middle for n in near) / len(near) if near else box.middle

    # -- drawing -----------------------------------------------------------------------------

    def draw(self) -> str:
        width = max((box.x + box.width for box in self.boxes), default=0.0) + _GAP
        height = max((box.y + box.height for box in self.boxes), default=0.0) + _GAP
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="monospace" font-size="12">',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
            'markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="#64748b"/></marker>'
            "</defs>",
            f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>',
        ]
        parts += [self._line(way) for way, _ in self.paths]
        taken: list[tuple[float, float, float]] = []
        parts += [self._name(way, name, taken) for way, name in self.paths]
        parts += [_drawn(box) for box in self.boxes if box.lines]
        return "\n".join([*parts, "</svg>"])

    def _line(self, way: list[int]) -> str:
        path: list[str] = []
        for above, below in pairwise(self.boxes[number] for number in way):
            x, y = above.middle, above.y + above.tall
            half = (y + below.y) / 2
            path.append(f"{'L' if path else 'M'}{x:.1f} {y:.1f}")
            to_x = below.middle
            path.append(f"C{x:.1f} {half:.1f} {to_x:.1f} {half:.1f} {to_x:.1f} {below.y:.1f}")
        return (
            f'<path d="{" ".join(path)}" fill="none" stroke="#64748b" stroke-width="1.3" '
            'marker-end="url(#tip)"/>'
        )

    def _name(self, way: list[int], name: str, taken: list[tuple[float, float, float]]) -> str:
        """A line's name on its last piece, where no other stands: ``taken`` has their middles and
        widths."""
        above, below = self.boxes[way[-2]], self.boxes[way[-1]]
        wide = len(name) * CHARACTER
        for t in (0.6, 0.5, 0.7, 0.4, 0.3, 0.8, 0.2):
            x, y = _on_curve(above, below, t)
            if all(abs(y - v) > 15 or abs(x - u) > (wide + w) / 2 + 3 for u, v, w in taken):
                break
        taken.append((x, y, wide))
        return (
            f'<rect x="{x - wide / 2:.1f}" y="{y - 8:.1f}" width="{wide:.1f}" height="15" '
            f'fill="white"/><text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" '
            f'fill="#334155">{_escaped(name)}</text>'
        )


def _on_curve(above: _Box, below: _Box, t: float) -> tuple[float, float]:
    """A point of the line between two boxes; ``t`` from 0 to 1."""
    x, y, to_x, to_y = above.middle, above.y + above.tall, below.middle, below.y
    bend = t * t * (3 - 2 * t)
    fall = 1.5 * t * (1 - t) + t**3
    return x + (to_x - x) * bend, y + (to_y - y) * fall


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The layer of each box: one more than the lowest of those that use it."""
    users = [0] * count
    below: list[list[int]] = [[] for _ in range(count)]
    for parent, child in edges:
        users[child] += 1
        below[parent].append(child)
    layers = [0] * count
    free = [number for number in range(count) if not users[number]]
    while free:
        number = free.pop()
        for child in below[number]:
            layers[child] = max(layers[child], layers[number] + 1)
            users[child] -= 1
            if not users[child]:
                free.append(child)
    return layers


def _drawn(box: _Box) -> str:
    fill, line = _COLOURS.get(box.kind, _NODE)
    round_ = 14 if box.kind == JOB else 5
    texts = "".join(
        f'<text x="{box.middle:.1f}" y="{box.y + _PADDING + 12 + LINE * at:.1f}" '
        f'text-anchor="middle" fill="#0f172a"{_bold(at)}>{_escaped(text)}</text>'
        for at, text in enumerate(box.lines)
    )
    return (
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}" rx="{round_}" fill="{fill}" stroke="{line}"/>{texts}'
    )


def _bold(line: int) -> str:
    return ' font-weight="bold"' if line == 0 else ""


MOST = 48


def _shortened(text: str) -> str:
    """A name with its middle left out: files may have long ones."""
    return text if len(text) <= MOST else f"{text[: MOST // 2 - 1]}…{text[-MOST // 2 :]}"


def _escaped(text: str) -> str:
    """For XML, which has no control characters at all."""
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(plain, entity)
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
