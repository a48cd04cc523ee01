"""The graph transaction: an undo list.

Everything that changes the graph (attaching and replacing children, permissions, read-only
switching, host locks) goes through one of these. Each step is made visible at once, so that the
next step's checks see it, and leaves behind how to undo it. Steps are synchronous; ``commit`` and
``abort`` callables must not fail. Where one does, by a bug, all others are called nevertheless, so
that nothing is done by halves, and its error is raised in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitor.engine.graph.node import Node

Step = Callable[[], None]


class Transaction:
    """Collects steps; ends in exactly one of ``commit`` and ``abort``.

    Commits run in the order the steps were made, aborts in reverse, cleans last of all. As a
    context manager it aborts when the body raises; the body calls ``commit`` itself.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[Step | None, Step | None, Step | None]] = []
        self._ended = False
        self.touched: set[Node] = set()
        """Nodes whose edges or flags changed: what ``Graph.rewire`` looks at."""

    def add(
        self, *, commit: Step | None = None, abort: Step | None = None, clean: Step | None = None
    ) -> None:
        assert not self._ended
        self._steps.append((commit, abort, clean))

    def commit(self) -> None:
        self._end(commit for commit, _, _ in self._steps)

    def abort(self) -> None:
        self._end(abort for _, abort, _ in reversed(self._steps))

    def _end(self, steps: Iterable[Step | None]) -> None:
        assert not self._ended
        self._ended = True
        first: Exception | None = None
        for step in [*steps, *(clean for _, _, clean in reversed(self._steps))]:
            try:
                if step is not None:
                    step()
            except Exception as error:
                first = first or error
        if first is not None:
            raise first

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, *reason: object) -> None:
        if not self._ended:
            self.abort()
