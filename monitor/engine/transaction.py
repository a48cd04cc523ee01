"""Transactions of requests: prepare all, then commit all; or undo what was prepared.

An *action* is what a request does, written so that it can be undone, and is declared beside its
request's handler::

    @acts(BlockDirtyBitmapAdd)
    async def add(engine, request, actions):
        bitmap = …                                  # done now, the next action sees it
        actions.add(abort=lambda: …)                # how it is undone
        actions.says(f"bitmap '{…}' begins")        # what a dry run tells

The decorator makes it the request's handler too: a request alone is a transaction of one action,
so there is one piece of code for both.

    the turn is taken; the nodes that the actions name are drained, all of them, until the end
    prepare      each action in order, each in sight of those before it; the only part that fails
    then either  commits, in order; last the jobs that the actions made begin
    or           aborts, the last action's first
    clean        after either, the last action's first

A prepare that raises has undone its own part, or has put it on the list before. Steps must not
fail; those that need a disk are coroutine functions. A request that is given up (Ctrl-C) is
undone like one that failed, and its undoing is not given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from monitor.engine.errors import RequestError, host_failure
from monitor.engine.graph.transaction import Transaction as Edits
from monitor.engine.handlers import handler_of, handles
from monitor.engine.jobs.group import JobGroup
from monitor.engine.schema.base import Request, fields_of
from monitor.engine.schema.transaction import Abort

if TYPE_CHECKING:
    from monitor.engine.embedded import EmbeddedEngine
    from monitor.engine.graph.node import Node
    from monitor.engine.jobs.job import Job
    from monitor.engine.schema.transaction import ActionCompletionMode

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Request)
Step = Callable[[], Awaitable[None] | None]
Prepare = Callable[["EmbeddedEngine", Any, "Actions"], Awaitable[None]]


class CompletionModeUnsupported(RequestError):
    template = (
        "Action '{action}' does not support Transaction property completion-mode = {completion}"
    )
    action: str
    completion: str


class AbortedByAction(RequestError):
    template = "Transaction aborted using Abort action"


class Action(msgspec.Struct, frozen=True):
    """What a request does within a transaction. ``groups``: a grouped one may have it too."""

    prepare: Prepare
    groups: bool = False


async def _abort(engine: EmbeddedEngine, request: Abort, actions: Actions) -> None:
    raise AbortedByAction()


Data = Request | Abort
"""What an action is made of: the request that does the same alone; ``abort`` has none."""

_ACTIONS: dict[type[Data], Action] = {Abort: Action(_abort, groups=True)}


def acts(
    request: type[R], *, groups: bool = False
) -> Callable[
    [Callable[[EmbeddedEngine, R, Actions], Awaitable[None]]],
    Callable[[EmbeddedEngine, R, Actions], Awaitable[None]],
]:
    """Declares the decorated function as what ``request`` does, alone and in a transaction.
    ``groups`` when it begins a job, which may have to end together with others."""

    def declare(
        prepare: Callable[[EmbeddedEngine, R, Actions], Awaitable[None]],
    ) -> Callable[[EmbeddedEngine, R, Actions], Awaitable[None]]:
        _ACTIONS[request] = Action(prepare, groups)
        handles(request)(_alone)
        return prepare

    return declare


async def _alone(engine: EmbeddedEngine, request: Request) -> None:
    await carry_out(engine, [request])


def _action_of(kind: type[Data]) -> Action:
    """The request's action; imports its topic's handlers on first use."""
    if issubclass(kind, Request):
        handler_of(kind)
    return _ACTIONS[kind]


class Actions:
    """The undo list of one transaction, as its actions see it."""

    def __init__(
        self,
        engine: EmbeddedEngine,
        completion: ActionCompletionMode = "individual",
        *,
        dry_run: bool = False,
    ) -> None:
        self.engine = engine
        self.completion: ActionCompletionMode = completion
        self.dry_run = dry_run
        """Whether all is undone in any case. What cannot be undone must then not be done: a file
        is created under another name."""
        self.group = JobGroup(engine.job_table) if completion == "grouped" else None
        self.words: list[str] = []
        """What the actions did so far, in words."""
        self._steps: list[tuple[Step | None, Step | None, Step | None]] = []
        self.jobs: list[Job] = []
        """Those that the actions have made."""
        self.half_made: set[Job] = set()
        """Those of the action that failed."""
        self._stack = AsyncExitStack()

    def add(
        self, *, commit: Step | None = None, abort: Step | None = None, clean: Step | None = None
    ) -> None:
        """Leaves behind how what was just done is made final, undone, and cleaned up after."""
        self._steps.append((commit, abort, clean))

    def says(self, words: str) -> None:
        """Tells, for a dry run, what the action changes."""
        self.words.append(words)

    def new_file(self, filename: str) -> str:
        """The name under which to create a file: ``filename``, or for a dry run another beside it,
        which goes in the end."""
        if not self.dry_run:
            return filename
        path = filename.removeprefix("file:")
        folder, name = os.path.split(path)
        trial = os.path.join(folder, f".{name}.dry-run-{os.getpid()}-{len(self._steps)}")

        def remove() -> None:
            with contextlib.suppress(OSError):
                os.unlink(trial)

        self.add(clean=remove)
        return trial

    def edits(self) -> Edits:
        """A list for edits of the graph (``graph.edit``), which ends with the transaction. After
        the edits ``graph.rewire`` makes them seen by requests."""
        edits = Edits()

        def undo() -> None:
            edits.abort()
            self.engine.graph.rewire(edits)

        self.add(commit=edits.commit, abort=undo)
        return edits

    def add_job(self, job: Job) -> None:
        """Takes in a job (its id is checked by now): it begins when all is committed, ends
        together with those of a grouped transaction, and is gone where anything fails."""
        self.engine.job_table.add(job, self.group)
        self.jobs.append(job)
        self.add(abort=lambda: self._undo(job))

    async def _undo(self, job: Job) -> None:
        """A job whose own action failed was never quite there; any other is cancelled. Each has
        QEMU's events."""
        if job in self.half_made and not job.cancel_requested:
            job.group.jobs.remove(job)
            await self.engine.job_table.discard(job)
        else:
            await job.group.withdraw(job)

    async def drain(self, *nodes: Node) -> None:
        """Keeps further nodes drained until the transaction has ended."""
        await self._stack.enter_async_context(self.engine.graph.drained(*nodes))

    # -- the end -----------------------------------------------------------------------------

    async def commit(self) -> None:
        for commit, _, _ in self._steps:
            await _take(commit)
        for job in self.jobs:
            if not job.cancel_requested:  # by a user who was quick: its end is under way
                job.start()
        await self._clean()

    async def abort(self) -> None:
        for _, abort, _ in reversed(self._steps):
            await _take(abort)
        await self._clean()

    async def _clean(self) -> None:
        for _, _, clean in reversed(self._steps):
            await _take(clean)
        await self._stack.aclose()


async def _take(step: Step | None) -> None:
    """One step of the end. A step that fails is our bug; the others are taken all the same."""
    if step is None:
        return
    try:
        result = step()
        if result is not None and inspect.isawaitable(result):
            await result
    except Exception:
        log.exception("a step of a transaction's end failed")


async def carry_out(
    engine: EmbeddedEngine,
    requests: Sequence[Data],
    completion: ActionCompletionMode = "individual",
) -> None:
    """Carries out all requests, or none. Raises RequestError with its ``failed_action``."""
    async with undoing(engine, completion) as actions:
        await _prepare_all(actions, requests)


async def rehearse(
    engine: EmbeddedEngine,
    requests: Sequence[Data],
    completion: ActionCompletionMode = "individual",
) -> list[str]:
    """Prepares all requests and undoes them; what they would change, in words. Raises what
    ``carry_out`` would."""
    async with undoing(engine, completion, dry_run=True) as actions:
        await _prepare_all(actions, requests)
    return actions.words


@asynccontextmanager
async def undoing(
    engine: EmbeddedEngine,
    completion: ActionCompletionMode = "individual",
    *,
    dry_run: bool = False,
) -> AsyncIterator[Actions]:
    """A transaction, with the turn: what the body does is committed, or undone when it raises."""
    async with engine.graph.turn:
        actions = Actions(engine, completion, dry_run=dry_run)
        try:
            yield actions
        except BaseException:
            await _uninterrupted(actions.abort())
            raise
        await _uninterrupted(actions.abort() if dry_run else actions.commit())


async def _prepare_all(actions: Actions, requests: Sequence[Data]) -> None:
    await actions.drain(*_named_nodes(actions.engine, requests))
    for number, request in enumerate(requests):
        await _prepare(actions, number, request)


async def _prepare(actions: Actions, number: int, request: Data) -> None:
    """One action; what it raises knows its number."""
    name = request.qmp_name() if isinstance(request, Request) else "abort"
    try:
        await _act(actions, name, request)
    except RequestError as error:
        error.failed_action = number
        raise
    except OSError as error:
        failure = host_failure(name, error)
        failure.failed_action = number
        raise failure from error


async def _act(actions: Actions, name: str, request: Data) -> None:
    action = _action_of(type(request))
    if actions.completion != "individual" and not action.groups:
        raise CompletionModeUnsupported(name, actions.completion)
    said, made = len(actions.words), len(actions.jobs)
    try:
        await action.prepare(actions.engine, request, actions)
    except BaseException:
        actions.half_made.update(actions.jobs[made:])
        raise
    if len(actions.words) == said:
        actions.says(name)


async def _uninterrupted(ending: Coroutine[Any, Any, None]) -> None:
    """Waits for the end of a transaction, also when the request is given up meanwhile."""
    task = asyncio.ensure_future(ending)
    given_up: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            given_up = error
    task.result()
    if given_up is not None:
        raise given_up


def _named_nodes(engine: EmbeddedEngine, requests: Sequence[Data]) -> list[Node]:
    """The nodes that the requests name and that exist now."""
    graph = engine.graph
    nodes: dict[Node, None] = {}
    for name in dict.fromkeys(name for request in requests for name in _names_in(request)):
        drive = graph.drives.get(name)
        node = graph.nodes.get(name) if drive is None else drive.node
        if node is not None:
            nodes[node] = None
    return list(nodes)


def _names_in(value: Any) -> Iterator[str]:
    """The names of nodes and drives in a request, at any depth."""
    if isinstance(value, list):
        for item in value:
            yield from _names_in(item)
    elif isinstance(value, msgspec.Struct):
        for attribute, names in _places_of_names(type(value)):
            member = getattr(value, attribute)
            if not isinstance(member, str):
                yield from _names_in(member)
            elif names:
                yield member


@functools.cache
def _places_of_names(struct: type[msgspec.Struct]) -> list[tuple[str, bool]]:
    """The members that may be a node's or drive's name, or hold one further in; and which of them
    are names where they are text."""
    places = []
    for field in fields_of(struct):
        names = field.names is not None and field.names.kind in ("node", "drive", "device")
        if names or field.type not in (str, int, bool):
            places.append((field.attribute, names))
    return places


__all__ = ["AbortedByAction", "Action", "Actions", "acts", "carry_out", "rehearse", "undoing"]
