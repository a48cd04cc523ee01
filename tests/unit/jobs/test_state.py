"""The two tables, against QEMU's matrices, and the machine that obeys them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.jobs.state import (
    TRANSITIONS,
    VERBS,
    IllegalMove,
    StateMachine,
    Status,
    Verb,
    VerbRefused,
)

ORDER = "UCRPYSWDXEN"  # the statuses in QMP's order
LETTER = dict(zip(ORDER, Status, strict=True))

NEXT = {  # QEMU's job.c, rows by letter
    "U": "C",
    "C": "RXN",
    "R": "PYWX",
    "P": "R",
    "Y": "SWX",
    "S": "Y",
    "W": "DX",
    "D": "XE",
    "X": "XE",
    "E": "N",
    "N": "",
}
ACCEPTED = {  # since QEMU 6.1 a job that stands by can be completed
    "cancel": "CRPYSWD",
    "pause": "CRPYS",
    "resume": "CRPYS",
    "set-speed": "CRPYS",
    "complete": "YS",
    "finalize": "D",
    "dismiss": "E",
}

ways_there = {
    Status.UNDEFINED: [],
    Status.CREATED: "C",
    Status.RUNNING: "CR",
    Status.PAUSED: "CRP",
    Status.READY: "CRY",
    Status.STANDBY: "CRYS",
    Status.WAITING: "CRW",
    Status.PENDING: "CRWD",
    Status.ABORTING: "CRX",
    Status.CONCLUDED: "CRXE",
    Status.NULL: "CRXEN",
}


def machine_in(status: Status) -> tuple[StateMachine, list[Status]]:
    told: list[Status] = []
    machine = StateMachine("job0", told.append)
    for letter in ways_there[status]:
        machine.move(LETTER[letter])
    told.clear()
    return machine, told


def test_eleven_states_in_qmps_order() -> None:
    assert [status.value for status in Status] == [
        "undefined", "created", "running", "paused", "ready", "standby",
        "waiting", "pending", "aborting", "concluded", "null",
    ]  # fmt: skip


@pytest.mark.parametrize("letter", ORDER)
def test_transitions_are_qemus(letter: str) -> None:
    assert {LETTER[to] for to in NEXT[letter]} == TRANSITIONS[LETTER[letter]]


@pytest.mark.parametrize("verb", Verb)
def test_verbs_are_qemus(verb: Verb) -> None:
    assert {LETTER[letter] for letter in ACCEPTED[verb.value]} == VERBS[verb]


@pytest.mark.parametrize("to", Status)
@pytest.mark.parametrize("status", Status)
def test_every_move(status: Status, to: Status) -> None:
    machine, told = machine_in(status)
    if to in TRANSITIONS[status]:
        machine.move(to)
        assert machine.status is to
        assert told == ([to] if to is not status else [])
    else:
        with pytest.raises(IllegalMove):
            machine.move(to)
        assert machine.status is status
        assert told == []


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("status", Status)
def test_every_verb_in_every_state(status: Status, verb: Verb) -> None:
    machine, _ = machine_in(status)
    assert machine.accepts(verb) == (status in VERBS[verb])
    if status in VERBS[verb]:
        machine.check(verb)
        return
    with pytest.raises(VerbRefused) as refused:
        machine.check(verb)
    text = f"Job 'job0' in state '{status.value}' cannot accept command verb '{verb.value}'"
    assert refused.value.text == text
    assert machine.status is status


@given(st.lists(st.sampled_from(list(Status))))
def test_any_walk_stays_inside_the_table(moves: list[Status]) -> None:
    told: list[Status] = []
    machine = StateMachine("job0", told.append)
    for to in moves:
        before = machine.status
        try:
            machine.move(to)
        except IllegalMove:
            assert machine.status is before
    walk = [Status.UNDEFINED, *told]
    assert all(b in TRANSITIONS[a] for a, b in itertools.pairwise(walk))
    assert machine.status is walk[-1]
