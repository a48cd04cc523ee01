"""Any bytes into the parsers of both protocols: the targets of tests/fuzz, a little of each."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_what_makes_sense(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_mutations_of_it(name: str, data: st.DataObject) -> None:
    """Bytes changed, cut out, doubled; ends cut off; two things one behind the other."""
    seed = bytearray(b"".join(data.draw(st.lists(st.sampled_from(SEEDS[name]), max_size=2))))
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(seed)))
        length = data.draw(st.integers(0, 12))
        match data.draw(st.sampled_from(["change", "cut", "double", "end", "insert"])):
            case "change":
                seed[at : at + length] = data.draw(st.binary(min_size=length, max_size=length))
            case "cut":
                del seed[at : at + length]
            case "double":
                seed[at:at] = seed[at : at + length]
            case "end":
                del seed[at:]
            case "insert":
                seed[at:at] = data.draw(st.sampled_from([b"\xff" * 4, b"\0" * 8, b"\x7f" * 8]))
    TARGETS[name](bytes(seed))
