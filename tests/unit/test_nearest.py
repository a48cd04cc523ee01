"""Did you mean: near names are found, absurd ones never offered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.nearest import damerau, nearest


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("jbos", ["duckdb_constraints", "jobs"], "jobs"),
        ("jbos", ["duckdb_constraints"], None),
        ("block_stream", ["block-stream", "block-streak"], "block-stream"),
        ("block_strea", ["block-stream", "block_stream"], "block_stream"),
        ("block-strea", ["block_stream", "block-stream"], "block-stream"),
        ("qcow", ["qcow2", "raw"], "qcow2"),
        ("N0", ["n0", "n1"], "n0"),
        ("n9", ["n0", "n1"], None),
        ("n", ["m"], None),
        ("disk0", ["disk1", "drive"], "disk1"),
        ("blok", ["block_resize", "block"], "block"),
        ("snapshot", ["snapshot_blkdev"], "snapshot_blkdev"),
        ("xyz", ["abc"], None),
        ("", ["a"], None),
        ("abc", [], None),
        ("job0", ["job0"], None),
    ],
)
def test_nearest(name: str, known: list[str], found: str | None) -> None:
    assert nearest(name, known) == found


names = st.text("abcd", min_size=1, max_size=8)


@given(names, names)
def test_the_distance_is_one_of_both_directions(one: str, other: str) -> None:
    distance = damerau(one, other, 99)
    assert distance == damerau(other, one, 99)
    assert distance is not None
    assert (distance == 0) == (one == other)
    assert abs(len(one) - len(other)) <= distance <= max(len(one), len(other))


@given(names, names, st.integers(0, 8))
def test_the_cut_off_only_cuts(one: str, other: str, most: int) -> None:
    whole = damerau(one, other, 99)
    assert whole is not None
    assert damerau(one, other, most) == (whole if whole <= most else None)


def test_swapped_neighbours_are_one_slip() -> None:
    assert damerau("jbo", "job", 9) == 1
