"""Requests answered as qemu-storage-daemon answers them, refusals and state afterwards included.

The conversations are those of tests/support/qmp_cases, whose docstring says how to add some.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import tools
from tests.support.qmp_cases import gathered, matches
from tests.support.qmp_cases.words import IMAGES
from tests.support.side_by_side import STATE, Session, compare


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, made once and copied for each side of each case."""
    tools.need("qemu-img", "qemu-io")
    return tools.made(tmp_path_factory.mktemp("images"), IMAGES)


@pytest.mark.parametrize("case", gathered().cases)
def test_as_qemu_storage_daemon(tmp_path: Path, images: Path, case: str) -> None:
    """Beside that: the requests that a case was named for succeed, and its refusals are met."""
    requests = gathered().cases[case]
    session = compare(tmp_path, images, requests, () if case in gathered().unlooked else STATE)
    succeeded = {request["execute"] for request, reply in session.exchanges if "return" in reply}
    assert set(gathered().requests_of(case)) <= succeeded
    said = _refusals(session)
    for text in gathered().texts_of(case):
        assert any(matches(text, message) for message in said), text


def _refusals(session: Session) -> list[str]:
    replies: list[Any] = [reply for _, reply in session.exchanges]
    return [reply["error"]["desc"] for reply in replies if "error" in reply]
