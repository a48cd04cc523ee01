"""Results, errors and notes as text."""

from __future__ import annotations

import pytest

from monitor.commands.errors import Verbatim
from monitor.commands.render import error_text, note_line, render_result, size_text
from monitor.engine.api import Event
from monitor.engine.errors import Refused
from monitor.engine.schema.extra import IoResult
from monitor.engine.schema.job import JobInfo, QueryJobs
from monitor.engine.schema.monitor import Quit


def test_a_result_is_json_with_qmps_names() -> None:
    jobs = [JobInfo(id="é", type="stream", status="running", current_progress=1, total_progress=2)]
    assert render_result(QueryJobs(), jobs) == (
        '[\n  {\n    "id": "é",\n    "type": "stream",\n    "status": "running",\n'
        '    "current-progress": 1,\n    "total-progress": 2\n  }\n]'
    )


def test_an_empty_answer_is_no_text_but_an_empty_list_is() -> None:
    assert render_result(Quit(), None) == ""
    assert render_result(Quit(), {}) == ""
    assert render_result(QueryJobs(), []) == "[]"


def test_bytes_and_names_that_are_no_utf8() -> None:
    assert '"data": "AAE="' in render_result(QueryJobs(), IoResult(data=b"\0\1"))
    assert render_result(QueryJobs(), ["\udcff"]) == '[\n  "\udcff"\n]'


def test_errors_as_hmp_prints_them() -> None:
    assert error_text(Refused("no")) == "Error: no"
    assert error_text(Refused("no").with_hint("why")) == "Error: no\nwhy"
    assert error_text(Verbatim("no").with_hint("why")) == "no\nwhy"


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        (
            "X_BLKMON_NODE_DROPPED",
            {"node-name": "ov"},
            "Node 'ov' was dropped: nothing uses it",
        ),
        ("X_BLKMON_NOTE", {"text": "warning: raw was guessed"}, "warning: raw was guessed"),
        (
            "X_BLKMON_CLOSE_FAILED",
            {
                "node-name": "n0",
                "file": "a.qcow2",
                "error": "No space left on device",
                "lost": "writes",
            },
            "Closing 'a.qcow2' failed: No space left on device; what was written since the last "
            "flush may be missing",
        ),
        ("JOB_STATUS_CHANGE", {"id": "j", "status": "null"}, None),
    ],
)
def test_notes_of_the_engine(name: str, data: dict[str, str], line: str | None) -> None:
    assert note_line(Event(name, data, (0, 0))) == line


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (1536, "1.5 KiB"),
        (200704, "196 KiB"),
        (1 << 20, "1 MiB"),
        (1023 << 20, "0.999 GiB"),
        (1 << 62, "4 EiB"),
    ],
)
def test_sizes_have_three_digits(size: int, text: str) -> None:
    assert size_text(size) == text
