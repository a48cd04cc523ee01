"""Did you mean: near names are found, absurd ones never offered."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.api import Name
from monitor.engine.errors import DeviceNotFound, JobNotActive, MonitorError, Refused
from monitor.nearest import damerau, hint_for, nearest


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("jbos", ["duckdb_constraints", "jobs"], "jobs"),
        ("jbos", ["duckdb_constraints"], None),
        ("block_stream", ["block-stream", "block-streak"], "block-stream"),
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


class Exists:
    """A catalogue of one name a kind."""

    def names(self, kind: str, verb: str = "") -> Iterable[Name]:
        return [Name({"node": "node0", "device": "drive0", "job": "stream0"}[kind], "")]


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (Refused("Failed to find node with node-name='node1'"), "did you mean 'node0'?"),
        (Refused("Cannot find device='drive1' nor node-name=''"), "did you mean 'drive0'?"),
        (Refused("Cannot find device='' nor node-name='nod0'"), "did you mean 'node0'?"),
        (DeviceNotFound("drvie0"), "did you mean 'drive0'?"),
        (JobNotActive("steam0"), "did you mean 'stream0'?"),
        (JobNotActive("backup"), None),
        (Refused("Node 'node1' is busy: x"), None),
    ],
)
def test_hints_for_what_is_not_there(error: MonitorError, hint: str | None) -> None:
    assert hint_for(error, Exists()) == hint


def test_an_errors_own_hint_stays() -> None:
    assert hint_for(JobNotActive("steam0").with_hint("mine"), Exists()) == "mine"
