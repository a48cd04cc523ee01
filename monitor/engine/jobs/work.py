"""What a kind of job states about its work; all else about a job is the same for all (``job``).

``run``, ``while_pending``, ``prepare`` and ``take_back`` are called in the job's thread and may
block; the others on the control loop:

    run            the work; passes a pause point between two pieces, does I/O in lanes only
    while_pending  what is done while the job waits to be finalized
    before_end     opens and reopens nodes for what follows
    change_graph   the result's steps in the graph, undone if anything fails after them
    prepare        the last disk work, which may fail too; inside the drained section: no lanes
    take_back      ``prepare`` has failed, or that of another job of the group, after this one's
    commit         what follows the change of the graph; cannot fail
    abort          the job has failed or was cancelled
    clean          after either

``run``, ``before_end``, ``change_graph`` and ``prepare`` fail by raising OSError or RequestError.
"""

# ruff: noqa: B027  (what does nothing by default is no mistake)

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from monitor.engine.graph.node import Node
from monitor.engine.graph.transaction import Transaction


class Work(ABC):
    """The methods that do nothing, do so by default."""

    can_complete: ClassVar[bool] = False
    """Becomes ready and then waits for ``job-complete``."""

    @abstractmethod
    def run(self) -> None:
        """The work, in the job's thread. What it raises is the job's error."""

    def while_pending(self, over: threading.Event) -> None:
        """Nothing by default. Returns soon after ``over`` is set. Does I/O in lanes only, knows no
        pause points, and raises nothing: ``before_end`` is to fail."""

    async def before_end(self) -> None:
        """Nothing by default. May open and reopen nodes; the turn is held, nothing is drained.
        Fails as ``change_graph`` does."""

    def change_graph(self, transaction: Transaction) -> None:
        """Nothing by default. The nodes of ``drains_for_end`` are drained."""

    def prepare(self) -> None:
        """Nothing by default."""

    def take_back(self) -> None:
        """Nothing by default. Drained still; cannot fail."""

    def commit(self) -> None:
        """Nothing by default."""

    def abort(self) -> None:
        """Nothing by default."""

    async def clean(self) -> None:
        """Nothing by default. May wait for workers; the turn is held."""

    def drains_for_end(self) -> Iterable[Node]:
        """The nodes that ``prepare`` and ``commit`` want drained."""
        return ()

    def soft_cancel(self) -> bool:
        """A cancel without force came; whether the job ends by itself and well (a ready mirror).
        By default it is as good as force."""
        return False

    def complete(self) -> None:
        """``job-complete`` came, in state ready or standby."""

    def user_resumed(self) -> None:
        """Hook: a pause by the user, or by an error, has ended."""

    def report_ready(self) -> None:
        """Hook: the job waits for ``job-complete``."""

    def report_pending(self) -> None:
        """Hook: the job waits for ``job-finalize``."""

    def given_up(self) -> None:
        """Hook: cancelled by force."""

    def released(self) -> None:
        """Hook: the job's edges are gone."""

    def report_end(self) -> None:
        """Hook: the last change is made, the status is about to become concluded."""
