"""A QMP conversation that goes on when every job stands still: until a verb comes, or for good."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.side_by_side import PATIENCE, Ended, comparable
from tests.support.spin import until

AT_REST = ("ready", "paused", "standby", "concluded")
_LEFT_BY = {
    "pause": ("running", "ready"),
    "resume": ("paused", "standby"),
    "complete": ("ready",),
    "cancel": ("running", "ready", "paused", "standby"),
}
"""Statuses that a job does not keep when it has taken a verb."""
_PAUSES = (["paused", "running"], ["standby", "ready"])


class Conversation:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._events: list[tuple[str, dict[str, Any]]] = []
        self._statuses: dict[str, str] = {}
        self._endless: set[str] = set()
        assert "QMP" in self._message()
        self.ask({"execute": "qmp_capabilities"})

    def ask(self, request: dict[str, Any]) -> Any:
        """The reply."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        while "event" in (message := self._message()):
            self._take(message["event"], message.get("data") or {})
        return message

    def ask_and_settle(self, request: dict[str, Any]) -> Any:
        """The reply, after what it has begun has come to rest."""
        reply = self.ask(request)
        if "error" not in reply:
            self._note(request)
        named = request["arguments"].get("id") or request["arguments"].get("device")
        _, is_verb, verb = request["execute"].rpartition("job-")
        left = _LEFT_BY.get(verb, ()) if is_verb and "error" not in reply else ()
        until(lambda: self._at_rest() and self._statuses.get(named) not in left, PATIENCE)
        return reply

    def _note(self, begun: dict[str, Any]) -> None:
        """A backup of nothing but what is written runs on while nobody writes."""
        arguments = begun["arguments"]
        self._endless.discard(arguments.get("job-id"))
        if begun["execute"].endswith("-backup") and arguments["sync"] == "none":
            self._endless.add(arguments["job-id"])

    def take_events(self) -> list[str]:
        """What was told since the last time, job by job. How far a job was when it was cancelled,
        and that one stood still for a moment while the graph changed, is a matter of time."""
        told, self._events = self._events, []
        shown: list[tuple[str, str, str | None, str]] = []
        for name, data in sorted(told, key=lambda event: str(_job(event[1]))):
            if name == "BLOCK_JOB_CANCELLED":
                data = {key: data[key] for key in data if key not in ("offset", "len")}
            job, status = str(_job(data)), data.get("status")
            shown.append((job, name, status, str(comparable(data))))
            pair = shown[-2:]
            if len({each[0] for each in pair}) == 1 and [each[2] for each in pair] in _PAUSES:
                del shown[-2:]
        return [f"{name} {data}" for _, name, _, data in shown]

    def _at_rest(self) -> bool:
        jobs = self.ask({"execute": "query-block-jobs"})["return"]
        waits = any(job["status"] == "pending" and not job["auto-finalize"] for job in jobs)
        statuses = {job["device"]: job["status"] for job in jobs}
        return all(
            status in AT_REST
            or (status == "pending" and waits)
            or (status == "running" and job in self._endless)
            for job, status in statuses.items()
        )

    def _take(self, name: str, data: dict[str, Any]) -> None:
        self._events.append((name, data))
        if name == "JOB_STATUS_CHANGE":
            self._statuses[data["id"]] = data["status"]

    def _message(self) -> dict[str, Any]:
        assert self._process.stdout
        while line := self._process.stdout.readline():
            if line.startswith("{"):  # qemu-storage-daemon prints "Formatting …" between
                message: dict[str, Any] = json.loads(line)
                return message
        raise Ended("the session ended")


def _job(data: dict[str, Any]) -> Any:
    return data.get("id", data.get("device"))


@contextmanager
def talking_to(command: tuple[str, ...], folder: Path) -> Iterator[Conversation]:
    """A process with QMP on its standard input and output; gone afterwards."""
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    process = subprocess.Popen(
        command, cwd=folder, stdin=pipe, stdout=pipe, stderr=nothing, text=True
    )
    watchdog = threading.Timer(3 * PATIENCE, process.kill)
    watchdog.start()
    try:
        yield Conversation(process)
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()
