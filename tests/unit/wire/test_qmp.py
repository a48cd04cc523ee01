"""A session's own part: greeting, negotiation, requests looked at, lines written."""

from __future__ import annotations

import json

import pytest

from monitor.wire.qmp import Command, QmpSession, Reply, Version
from tests.support.qmp_corpus import JSON, NESTED


def session() -> QmpSession:
    return QmpSession(Version(7, 2, 0, "blkmon 1"))


def negotiated(enable: str = "") -> QmpSession:
    new = session()
    arguments = f", 'arguments': {{'enable': [{enable}]}}"
    (answer,) = new.feed(f"{{'execute': 'qmp_capabilities'{arguments}}}".encode())
    assert answer == Reply(b'{"return": {}}\r\n')
    return new


def test_greeting_is_spelt_as_qemu_spells_it() -> None:
    assert session().greeting() == (
        b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, '
        b'"package": "blkmon 1"}, "capabilities": ["oob"]}}\r\n'
    )


def test_commands_before_negotiation_are_refused() -> None:
    assert session().feed(b'{"execute": "query-jobs", "id": 1}') == [
        Reply(
            b'{"id": 1, "error": {"class": "CommandNotFound", "desc": '
            b"\"Expecting capabilities negotiation with 'qmp_capabilities'\"}}\r\n"
        )
    ]


def test_negotiation_happens_once() -> None:
    new = negotiated()
    (answer,) = new.feed(b'{"execute": "qmp_capabilities"}')
    assert isinstance(answer, Reply)
    assert b'"CommandNotFound", "desc": "Capabilities negotiation is already' in answer.data


def test_several_requests_at_once() -> None:
    assert negotiated().feed(b"{'execute':'a'}{'execute':'b','arguments':{'x':1},'id':[]}\n{") == [
        Command("a", {}),
        Command("b", {"x": 1}, "[]"),
    ]


def test_out_of_band_needs_its_capability() -> None:
    (refused,) = negotiated().feed(b"{'exec-oob': 'a', 'id': 1}")
    assert isinstance(refused, Reply)
    assert b"QMP input member 'exec-oob' is unexpected" in refused.data
    assert negotiated("'oob'").feed(b"{'exec-oob': 'a', 'id': 1}") == [Command("a", {}, "1", True)]


def test_replies() -> None:
    new = negotiated()
    assert new.reply(None) == b'{"return": {}}\r\n'
    assert new.reply('"x"', [1, "é"]) == b'{"return": [1, "\\u00E9"], "id": "x"}\r\n'
    assert new.reply_json("1", '{"a": "é"}') == b'{"return": {"a": "\\u00E9"}, "id": 1}\r\n'
    assert new.error("1", "GenericError", 'no "x"') == (
        b'{"id": 1, "error": {"class": "GenericError", "desc": "no \\"x\\""}}\r\n'
    )


def test_events_are_held_back_until_negotiation() -> None:
    assert session().event("STOP", {}, (1, 2)) == b""
    assert negotiated().event("STOP", {}, (1, 2)) == (
        b'{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}\r\n'
    )
    assert negotiated().event("JOB_STATUS_CHANGE", {"id": "j", "status": "x"}, (1, 2)) == (
        b'{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "JOB_STATUS_CHANGE", '
        b'"data": {"status": "x", "id": "j"}}\r\n'
    )


@pytest.mark.parametrize("data", JSON + NESTED)
def test_every_line_is_ascii_and_json(data: bytes) -> None:
    for action in session().feed(data + b"\xff"):
        assert isinstance(action, Reply)
        line = action.data
        assert line.isascii()
        assert line.endswith(b"}\r\n")
        assert line.count(b"\n") == 1
        if len(line) < 1000 and b": inf" not in line and b": -inf" not in line:
            json.loads(line)
