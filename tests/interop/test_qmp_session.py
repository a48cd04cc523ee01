"""Our QMP session and decoder against qemu-storage-daemon's: same bytes in, same lines out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from monitor.engine.errors import CommandNotFound
from monitor.wire.qmp import Command, QmpSession, Reply, Version
from tests.support.mistakes import BLOCKDEV_ADD, KEYVAL, OPTION_STRINGS, OTHER_DRIVERS
from tests.support.qmp_corpus import JSON, NEGOTIATION, NESTED, OUT_OF_BAND
from tests.support.side_by_side import OURS
from tests.support.tools import need

QSD = ["qemu-storage-daemon", "--chardev", "stdio,id=c", "--monitor", "chardev=c"]
RESET = b"\xff"
NEGOTIATE = b"{'execute':'qmp_capabilities'}"
QUIT = b"{'execute':'quit','id':'the end'}"


def qemu(data: bytes) -> list[bytes]:
    """What the daemon answers, line by line, without its greeting."""
    run = subprocess.run(QSD, input=data, capture_output=True, timeout=60)
    return run.stdout.splitlines(keepends=True)[1:]


def ours(data: bytes, step: int | None = None) -> list[bytes]:
    """What our session answers, on an engine that has no command but ``quit``."""
    session = QmpSession(Version(7, 2, 0, "blkmon"))
    pieces = [data] if step is None else [data[i : i + step] for i in range(0, len(data), step)]
    return [_answer(session, action) for piece in pieces for action in session.feed(piece)]


def _answer(session: QmpSession, action: Command | Reply) -> bytes:
    if isinstance(action, Reply):
        return action.data
    if action.name == "quit":
        return session.reply(action.id)
    missing = CommandNotFound(action.name)
    return session.error(action.id, missing.qmp_class, missing.text)


def mark(index: int) -> bytes:
    return b"%s{'execute':'x','id':'=%d='}" % (RESET, index)


def by_case(lines: list[bytes]) -> list[list[bytes]]:
    """The answers to each case of a batch, which end in that to its mark."""
    cases: list[list[bytes]] = [[]]
    for line in lines:
        if line.startswith(b'{"id": "=%d="' % (len(cases) - 1)):
            cases.append([])
        else:
            cases[-1].append(line)
    return cases[:-1]


@pytest.fixture(scope="module")
def answers() -> list[list[bytes]]:
    """The daemon's answers to each of JSON and NESTED, all asked of one daemon."""
    need("qemu-storage-daemon")
    batch = b"".join(case + mark(index) for index, case in enumerate(JSON + NESTED))
    return by_case(qemu(NEGOTIATE + batch + QUIT)[1:])


@pytest.mark.parametrize("step", [None, 1, 7])
@pytest.mark.parametrize("index", range(len(JSON + NESTED)))
def test_json(answers: list[list[bytes]], index: int, step: int | None) -> None:
    case = (JSON + NESTED)[index]
    lines = ours(NEGOTIATE + case + mark(0), step)[1:]
    assert by_case(lines) == [answers[index]]


def test_the_program(answers: list[list[bytes]]) -> None:
    """All of it into the whole program: it recovers from each mistake, and says the same."""
    batch = b"".join(case + mark(index) for index, case in enumerate(JSON + NESTED))
    run = subprocess.run(OURS, input=NEGOTIATE + batch + QUIT, capture_output=True, timeout=60)
    assert by_case(run.stdout.splitlines(keepends=True)[2:]) == answers


@pytest.mark.parametrize("data", NEGOTIATION)
def test_negotiation(data: bytes, need: Callable[..., None]) -> None:
    need("qemu-storage-daemon")
    data += RESET + b"{'execute':'x','id':'then'}" + RESET
    assert ours(data) == qemu(data + NEGOTIATE + QUIT)[: len(ours(data))]


@pytest.mark.parametrize("data", OUT_OF_BAND)
def test_out_of_band(data: bytes, need: Callable[..., None]) -> None:
    """With ``oob`` on, QEMU 7.2's daemon never ends by itself: it is ended when it has answered."""
    need("qemu-storage-daemon")
    enable = b"{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}"
    with subprocess.Popen(QSD, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdin is not None
        assert daemon.stdout is not None
        daemon.stdin.write(enable + data)
        daemon.stdin.flush()
        theirs = [daemon.stdout.readline() for _ in range(3)][1:]
        daemon.kill()
    session = QmpSession(Version(7, 2, 0, "blkmon"))
    enabled, answer = session.feed(enable + data)
    assert isinstance(enabled, Reply)
    if isinstance(answer, Command):
        assert answer.oob
        known = answer.name in ("query-version", "qmp_capabilities")
        text = f"The command {answer.name} does not support OOB"
        answer = Reply(
            session.error(answer.id, "GenericError", text) if known else _answer(session, answer)
        )
    assert [enabled.data, answer.data] == theirs


def test_whole_session_line_by_line(need: Callable[..., None]) -> None:
    """One object a line, a carriage return before each newline, ids echoed, events in between."""
    need("qemu-storage-daemon")
    add = "{'execute':'blockdev-add','arguments':{'driver':'null-co','node-name':'n0'}}"
    job = (
        "{'execute':'blockdev-create','arguments':"
        "{'job-id':'c0','options':{'driver':'file','filename':'/nonexistent/x','size':0}}}"
    )
    lines = qemu(NEGOTIATE + f"{add}{job}".encode() + QUIT)
    session = QmpSession(Version(7, 2, 0, "blkmon"))
    session.feed(NEGOTIATE)
    for line in lines:
        value = json.loads(line)
        if "event" in value:
            time = value["timestamp"]
            stamp = (time["seconds"], time["microseconds"])
            assert session.event(value["event"], value["data"], stamp) == line
        else:
            identity = json.dumps(value["id"]) if "id" in value else None
            assert session.reply(identity, value["return"]) == line
    assert b"JOB_STATUS_CHANGE" in b"".join(lines)


@pytest.fixture(scope="module")
def refusals() -> list[str]:
    """What the daemon says of each mistaken blockdev-add."""
    need("qemu-storage-daemon")
    requests = [
        json.dumps({"execute": "blockdev-add", "arguments": arguments})
        for arguments, _ in BLOCKDEV_ADD + OTHER_DRIVERS
    ]
    lines = qemu(NEGOTIATE + "".join(requests).encode() + QUIT)[1:]
    return [json.loads(line).get("error", {}).get("desc", "accepted") for line in lines]


@pytest.mark.parametrize("index", range(len(BLOCKDEV_ADD + OTHER_DRIVERS)))
def test_mistaken_arguments(refusals: list[str], index: int) -> None:
    """What tests/unit/schema/test_decode.py expects of us is what QEMU says."""
    assert (BLOCKDEV_ADD + OTHER_DRIVERS)[index][1] == refusals[index]


@pytest.mark.parametrize(
    ("text", "message"), OPTION_STRINGS + [(text, message) for text, message, _ in KEYVAL]
)
def test_mistaken_option_strings(text: str, message: str, need: Callable[..., None]) -> None:
    need("qemu-storage-daemon")
    run: Any = subprocess.run(
        ["qemu-storage-daemon", "--blockdev", text], capture_output=True, text=True, timeout=60
    )
    assert run.stderr == f"qemu-storage-daemon: --blockdev {text}: {message}\n"
