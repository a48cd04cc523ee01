"""The same QMP into qemu-storage-daemon and into ours, replies and events made comparable."""

from __future__ import annotations

import difflib
import itertools
import json
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import tools

QSD = ("qemu-storage-daemon", "--chardev", "stdio,id=c", "--monitor", "chardev=c")
OURS = (sys.executable, "-m", "monitor", "--qmp", "stdio")

PATIENCE = 20.0
"""Seconds until a side that says nothing is ended, so that a hang is a failure."""

QUIT = {"execute": "quit"}

COME_AGAIN = ("running", "paused", "ready", "standby")
"""A job's statuses that do not tell that it has been there, but that it is there now."""

_GENERATED = re.compile(r"#block\d+")


class Ended(AssertionError):
    """A side went away in the middle."""


class TheyDied(AssertionError):
    """qemu-storage-daemon went away in the middle: there is nothing to compare with."""


@dataclass
class Session:
    """What one side said: replies in order, events in order for each job or node."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    replies: list[Any] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)

    @property
    def exchanges(self) -> list[tuple[dict[str, Any], Any]]:
        """Each request with its reply."""
        return list(zip(self.requests, self.replies, strict=True))


def converse(command: tuple[str, ...], folder: Path, requests: list[dict[str, Any]]) -> Session:
    """Sends each request after the reply to the one before, then waits for running jobs.

    A request ``{"wait": JOB}`` is ours: reads on until the job is concluded, gone or pending;
    with ``unless-refused`` only where the request before it was not.
    """
    session = Session()
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    try:
        _next(process, "QMP")
        _send(process, {"execute": "qmp_capabilities"})
        _read_reply(process, session)
        session.replies.clear()
        session.requests = [request for request in [*requests, QUIT] if "wait" not in request]
        for request in requests:
            if "wait" in request:
                if not (request.get("unless-refused") and "error" in session.replies[-1]):
                    _wait(process, session, request["wait"], request.get("until"))
                continue
            _send(process, request)
            _read_reply(process, session)
        _send(process, QUIT)
        _read_reply(process, session)
        process.communicate(timeout=20)
        assert process.returncode == 0
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()
    return session


def _send(process: subprocess.Popen[str], request: dict[str, Any]) -> None:
    assert process.stdin
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()


def _message(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout
    while True:
        line = process.stdout.readline()
        if not line:
            assert process.stderr
            raise Ended(f"the session ended: {process.stderr.read()}")
        if line.startswith("{"):  # qemu-storage-daemon prints "Formatting …" between
            message: dict[str, Any] = json.loads(line)
            return message


def _next(process: subprocess.Popen[str], member: str) -> dict[str, Any]:
    message = _message(process)
    assert member in message
    return message


def _read_reply(process: subprocess.Popen[str], session: Session) -> None:
    while True:
        message = _message(process)
        if "event" in message:
            session.events.append({"event": message["event"], "data": message.get("data")})
            continue
        session.replies.append(message)
        return


def _wait(process: subprocess.Popen[str], session: Session, job: str, until: str | None) -> None:
    ends = (until,) if until else ("null", "concluded", "pending", "ready")
    for event in reversed(session.events):
        if _is_end(event, job, ends):
            return
        if until in COME_AGAIN and _is_end(event, job, COME_AGAIN):
            break
        if _is_end(event, job, ("created",)):
            break  # an earlier job of that name is meant no more
    while True:
        message = _message(process)
        assert "event" in message, message
        event = {"event": message["event"], "data": message.get("data")}
        session.events.append(event)
        if _is_end(event, job, ends):
            return


def _is_end(event: dict[str, Any], job: str, ends: tuple[str, ...]) -> bool:
    data = event["data"] or {}
    return event["event"] == "JOB_STATUS_CHANGE" and data["id"] == job and data["status"] in ends


HOSTS = (
    "actual-size", "date-sec", "date-nsec", "vm-clock-sec", "vm-clock-nsec", "package", "micro",
)  # fmt: skip
"""Members that the host and the build decide."""


def comparable(value: Any) -> Any:
    """Without what may differ: the host's sizes and clocks, names made up, the order of lists."""
    if isinstance(value, dict):
        if "nodes" in value and "edges" in value:
            return _graph(value)
        if "auto-finalize" in value:  # a job: whether it works or rests just now is all the same
            value = {name: member for name, member in value.items() if name != "busy"}
        return {
            name: comparable(member)
            for name, member in value.items()
            if name not in HOSTS and not (name == "virtual-size" and value["format"] == "file")
        }
    if isinstance(value, list):
        return sorted(
            (comparable(item) for item in value), key=lambda i: json.dumps(i, sort_keys=True)
        )
    if isinstance(value, str):
        return _GENERATED.sub("#block", value)
    return value


def _graph(graph: dict[str, Any]) -> Any:
    names = {node["id"]: comparable(f"{node['type']} {node['name']}") for node in graph["nodes"]}
    edges = [
        (
            names[e["parent"]],
            e["name"],
            names[e["child"]],
            sorted(e["perm"]),
            sorted(e["shared-perm"]),
        )
        for e in graph["edges"]
    ]
    return {"nodes": sorted(names.values()), "edges": sorted(edges)}


STATE = (
    {"execute": "query-named-block-nodes"},
    {"execute": "x-debug-query-block-graph"},
    {"execute": "query-jobs"},
    {"execute": "query-block-jobs"},
)


def fill(folder: Path, images: list[list[str]] | Path) -> Path:
    """A new folder with images in it."""
    if isinstance(images, Path):
        shutil.copytree(images, folder)
        return folder
    folder.mkdir()
    for make in images:
        subprocess.run(make, cwd=folder, check=True, capture_output=True, timeout=20)
    return folder


def compare(
    tmp_path: Path,
    images: list[list[str]] | Path,
    requests: list[dict[str, Any]],
    state: tuple[dict[str, Any], ...] = STATE,
) -> Session:
    """Runs both sides, each in a folder of its own that ``images`` fills: a folder to copy, or
    commands to run there.

    Every reply and the events are equal; so is ``state`` after each request.
    Returns our session.
    """
    tools.need("qemu-storage-daemon", "qemu-img")
    watched: list[dict[str, Any]] = []
    for request, following in itertools.zip_longest(requests, requests[1:], fillvalue=None):
        assert request
        watched.append(request)
        # While a job runs, what a query shows is a matter of time.
        if "wait" not in (following or {}):
            watched.extend(state)
    sessions = []
    for side, command in (("theirs", QSD), ("ours", OURS)):
        folder = fill(tmp_path / side, images)
        try:
            sessions.append(converse(command, folder, watched))
        except Ended as error:
            raise TheyDied(str(error)) if side == "theirs" else error from error
    theirs, ours = sessions
    for (request, our), their in zip(ours.exchanges, theirs.replies, strict=False):
        assert comparable(our) == comparable(their), difference(request, our, their)
    assert len(ours.replies) == len(theirs.replies)
    our_events, their_events = comparable_events(ours), comparable_events(theirs)
    assert our_events == their_events, "\n".join(
        difflib.unified_diff(
            [str(e) for e in their_events], [str(e) for e in our_events], "theirs", "ours", n=2
        )
    )
    return ours


def difference(request: Any, our: Any, their: Any) -> str:
    """A unified diff of one reply, ours against theirs."""
    theirs, ours = (
        json.dumps(comparable(side), indent=1, sort_keys=True).splitlines() for side in (their, our)
    )
    lines = difflib.unified_diff(theirs, ours, "theirs", "ours", lineterm="", n=2)
    return "\n".join([json.dumps(request), *lines])


def comparable_events(session: Session) -> list[Any]:
    """How far a job was when it was cancelled, and had to go as far as it knew, is a matter of
    time, and so is how often it was paused for a moment while the graph changed."""
    shown = []
    for event in session.events:
        data = dict(event["data"] or {})
        if event["event"] == "BLOCK_JOB_CANCELLED":
            del data["offset"], data["len"]
        shown.append((event["event"], comparable(data)))
        _forget_pause(shown)
    return shown


def _forget_pause(shown: list[Any]) -> None:
    """Where a job goes on after a pause in which nothing but other jobs' statuses was told."""
    if _status(*shown[-1]) != "running":
        return
    for number in range(len(shown) - 2, -1, -1):
        event, data = shown[number]
        if event != "JOB_STATUS_CHANGE":
            return
        if data["id"] == shown[-1][1]["id"]:
            if data["status"] == "paused":
                del shown[-1], shown[number]
            return


def _status(event: str, data: Any) -> str | None:
    return data["status"] if event == "JOB_STATUS_CHANGE" else None
