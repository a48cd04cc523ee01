"""What README and docs/ show somebody type runs, and answers that."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.shell.documents import DocumentedSession, run_session, sessions_in

ROOT = Path(__file__).parent.parent
SESSIONS = [
    pytest.param(session, id=f"{path.name}-{number}")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for number, session in enumerate(sessions_in(str(path)), 1)
]


@pytest.mark.parametrize("session", SESSIONS)
def test_session(session: DocumentedSession) -> None:
    try:
        different = run_session(session)
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    if different is not None:
        pytest.fail(different.diff(), pytrace=False)


def test_readme_shows_what_qemus_tools_say_afterwards() -> None:
    (session,) = sessions_in(str(ROOT / "README.md"))
    shown = session.lines[session.start : session.end]
    assert {"No errors were found on the image.", "Images are identical."} <= set(shown)
