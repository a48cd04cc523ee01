"""Any verbs of a job at any time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.errors import RequestError
from monitor.engine.jobs.state import TRANSITIONS, VERBS, Status, Verb
from tests.support.graphs import run
from tests.support.toys import Bench, Gate, Toy

MOVES = st.sampled_from(
    ["pause", "resume", "cancel", "set-speed", "complete", "finalize", "dismiss", "step", "look"]
)


@given(st.lists(MOVES, max_size=25), st.booleans(), st.booleans())
def test_any_verbs_at_any_time(moves: list[str], auto_finalize: bool, auto_dismiss: bool) -> None:
    """Each verb is taken exactly when the tables say so, and what happens stays inside them."""

    async def main() -> None:
        bench = Bench()
        gates = [Gate() for _ in range(3)]
        job = bench.toy("j0", *gates, auto_finalize=auto_finalize, auto_dismiss=auto_dismiss)
        job.start()
        closed = list(gates)
        for move in moves:
            if move == "step" and closed:
                closed.pop(0).open.set()
            elif move == "look":
                await as_far_as_it_can(job, closed)
            elif move not in ("step", "look"):
                await try_verb(bench, job, Verb(move))
        for gate in closed:
            gate.open.set()
        await bench.jobs.cancel_all()
        assert job.status is Status.NULL
        walk = [Status(name) for name in bench.told(job) if name.islower()]
        assert walk[0] is Status.CREATED
        assert all(b in TRANSITIONS[a] for a, b in itertools.pairwise(walk))
        assert job.calls.count("clean") == 1
        assert ("commit" in job.calls) != ("abort" in job.calls)

    run(main())


async def as_far_as_it_can(job: Toy, closed: list[Gate]) -> None:
    """Until the job's thread stands: at a gate, at a pause point, or at its end."""
    standing = (Status.PAUSED, Status.STANDBY)
    async with asyncio.timeout(10):
        while not (job.run_is_over or job.status in standing):
            if closed and closed[0].reached.is_set():
                return
            await asyncio.sleep(0)


async def try_verb(bench: Bench, job: Toy, verb: Verb) -> None:
    at_rest = await bench.jobs.find_at_rest("j0")
    if at_rest is None:
        assert job.status is Status.NULL
        return
    status, user_paused = job.status, job.user_paused
    verbs: dict[Verb, Callable[[], Any]] = {
        Verb.PAUSE: job.user_pause,
        Verb.RESUME: job.user_resume,
        Verb.CANCEL: lambda: job.user_cancel(force=True),
        Verb.SET_SPEED: lambda: job.set_speed(5),
        Verb.COMPLETE: job.user_complete,
        Verb.FINALIZE: lambda: job.check(verb),
        Verb.DISMISS: lambda: job.check(verb),
    }
    taken = status in VERBS[verb]
    if verb in (Verb.PAUSE, Verb.RESUME):
        taken = taken and user_paused == (verb is Verb.RESUME)
    try:
        verbs[verb]()
        if verb is Verb.FINALIZE:
            await job.group.finalize()
        elif verb is Verb.DISMISS:
            await bench.jobs.dismiss(job)
    except RequestError:
        assert not taken
        assert job.status is status
        assert job.user_paused == user_paused
    else:
        assert taken
