"""Short runs of data that are planned as one piece."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.drivers.base import ExtentKind
from monitor.engine.graph.allocation import Run, merged
from monitor.engine.jobs.gathering import gather

UNIT = 65536
MIB = 1 << 20
DATA, ZERO, NOTHING = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.UNALLOCATED


def runs(*kinds: tuple[ExtentKind, int]) -> deque[Run]:
    """Runs one behind the other, of so many units."""
    found: deque[Run] = deque()
    offset = 0
    for kind, units in kinds:
        found.append(Run(kind, offset, units * UNIT))
        offset += units * UNIT
    return found


def test_gaps_in_which_nothing_is_to_do_are_part_of_the_piece() -> None:
    ahead = runs((DATA, 1), (NOTHING, 99), (DATA, 2), (NOTHING, 7), (ZERO, 1), (DATA, 1))
    piece = gather(ahead, MIB)
    assert piece is not None
    assert (piece.offset, piece.length, piece.size) == (0, 102 * UNIT, 3 * UNIT)
    assert piece.parts == [(0, UNIT), (100 * UNIT, 2 * UNIT)]
    assert ahead[0].kind is NOTHING  # what follows the last part is left
    assert ahead[0].offset == 102 * UNIT


@pytest.mark.parametrize(
    "kinds",
    [
        [(DATA, 1)],
        [(DATA, 1), (NOTHING, 5)],
        [(DATA, 1), (ZERO, 1), (DATA, 1)],
        [(NOTHING, 1), (DATA, 1), (NOTHING, 1), (DATA, 1)],
        [(DATA, 4), (NOTHING, 1), (DATA, 1)],  # a long one: perhaps the host copies it
        [(DATA, 1), (NOTHING, 1), (DATA, 4)],
    ],
)
def test_fewer_than_two_are_left_as_they_are(kinds: list[tuple[ExtentKind, int]]) -> None:
    ahead = runs(*kinds)
    before = list(ahead)
    assert gather(ahead, MIB) is None
    assert list(ahead) == before


def test_parts_of_clusters_are_left_to_themselves() -> None:
    ahead = deque([Run(DATA, 0, UNIT), Run(NOTHING, UNIT, UNIT), Run(DATA, 2 * UNIT, 512)])
    assert gather(ahead, MIB, UNIT) is None
    assert gather(ahead, MIB) is not None


def test_the_rest_of_a_long_run_is_not_put_before_what_lies_below_it() -> None:
    """A mirror's long runs come first; the end of one, cut to pieces, is short."""
    ahead = deque([Run(DATA, 9 * MIB, UNIT), Run(DATA, 0, UNIT), Run(DATA, 3 * UNIT, UNIT)])
    assert gather(ahead, MIB) is None
    rest = ahead.popleft()
    assert rest.offset == 9 * MIB
    piece = gather(ahead, MIB)
    assert piece is not None
    assert piece.parts == [(0, UNIT), (3 * UNIT, UNIT)]


@given(
    kinds=st.lists(
        st.tuples(st.sampled_from([DATA, ZERO, NOTHING]), st.integers(1, 6)), max_size=40
    ),
    most=st.integers(1, 20),
)
def test_nothing_is_lost_and_nothing_is_too_much(
    kinds: list[tuple[ExtentKind, int]], most: int
) -> None:
    ahead = deque(merged(runs(*kinds)))
    whole = list(ahead)
    pieces: list[tuple[int, int]] = []
    while ahead:
        piece = gather(ahead, most * UNIT)
        if piece is None:
            run = ahead.popleft()
            pieces.append((run.offset, run.length))
            continue
        assert 2 * UNIT <= piece.size <= most * UNIT
        assert set(piece.parts) <= {(run.offset, run.length) for run in whole if run.kind is DATA}
        pieces.append((piece.offset, piece.length))
    ends = [offset + length for offset, length in pieces]
    assert [offset for offset, _ in pieces] == [0, *ends][: len(pieces)]  # without a gap
    assert ends[-1:] == [run.offset + run.length for run in whole][-1:]
