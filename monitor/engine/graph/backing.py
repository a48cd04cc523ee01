"""Layers of a chain by the names that people give their files."""

from __future__ import annotations

import os
from collections.abc import Sequence

from monitor.engine.errors import RequestError
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node, skip_filters

MOST_NAMED = 5
"""Layers that a hint names."""


class NotInBackingChain(RequestError):
    template = "Can't find '{file}' in the backing chain"
    file: str


async def find_backing_image(graph: Graph, top: Node, name: str) -> Node:
    """The layer below ``top`` that an image file calls ``name``: by the name in the overlay's
    header, or by the same path on the host (relative to the overlay). The caller has the turn.
    Raises NotInBackingChain."""
    layers: list[Node] = []
    paths: list[tuple[str, str] | None] = []
    overlay = skip_filters(top)
    while overlay is not None and (layer := skip_filters(overlay.backing)) is not None:
        layers.append(layer)
        is_called = name in (layer.filename, overlay.driver.backing_filename)
        named = os.path.join(os.path.dirname(overlay.filename), name)
        paths.append(None if is_called else (named, layer.filename))
        overlay = layer
    found = await graph.in_worker(_first_same, paths)
    if found is None:
        raise NotInBackingChain(name).with_own_hint(_those_there([top, *layers]))
    return layers[found]


def _those_there(chain: Sequence[Node]) -> str:
    if len(chain) == 1:
        return f"'{chain[0].filename}' has no backing image"
    names = [f"'{layer.filename}'" for layer in chain[1 : MOST_NAMED + 1]]
    names += [f"{len(chain) - 1 - MOST_NAMED} more"] if len(chain) - 1 > MOST_NAMED else []
    return f"below '{chain[0].filename}' there is {', '.join(names)}"


def _first_same(pairs: Sequence[tuple[str, str] | None]) -> int | None:
    """The first of the pairs that lead to one file; None stands for one that does."""
    for number, pair in enumerate(pairs):
        if pair is None:
            return number
        named, path = pair
        if path and os.path.realpath(named) == os.path.realpath(path):
            return number
    return None
