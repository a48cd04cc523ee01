"""Every check on every driver."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance import checks
from tests.conformance.subjects import SUBJECTS, Image, Subject, opened

SIZE = 192 * 1024

near_boundaries = st.builds(
    lambda unit, count, delta: max(unit * count + delta, 0),
    st.sampled_from([512, 4096, 65536]),
    st.integers(0, 3),
    st.integers(-2, 2),
)
offsets = st.one_of(near_boundaries, st.integers(0, SIZE))
lengths = st.one_of(near_boundaries, st.integers(0, 3000), st.just(SIZE))
KINDS = ("write", "write", "zero", "discard", "map", "read", "truncate", "reopen", "flush")
operations = st.lists(
    st.builds(
        checks.Operation,
        st.sampled_from(KINDS),
        offsets,
        lengths,
        st.integers(0, 250),
        st.booleans(),
    ),
    max_size=12,
)
every_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)


@every_subject
@given(requests=operations)
def test_random_requests(subject: Subject, requests: list[checks.Operation]) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="blkmon-") as directory,
        opened(subject, Path(directory), bytes(SIZE)) as image,
    ):
        checks.check_requests(image, bytes(SIZE), requests)


@every_subject
@pytest.mark.parametrize("check", checks.SINGLE, ids=lambda check: check.__name__[6:])
def test_promise(subject: Subject, check: Callable[[Image, bytes], None], tmp_path: Path) -> None:
    initial = bytes(64 * 1024) if not subject.keeps else checks.pattern(17, 60 * 1024) + bytes(4096)
    with opened(subject, tmp_path, initial) as image:
        check(image, initial)
