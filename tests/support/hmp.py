"""The same lines into QEMU's human monitor and into ours, through ``human-monitor-command``."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

QEMU = ("qemu-system-x86_64", "-M", "none", "-display", "none", "-nodefaults", "-S")
OURS = (sys.executable, "-m", "monitor", "--qmp", "stdio")
ROOT = Path(__file__).parents[2]

Exchange = list[tuple[str, str]]
"""Lines, each with the text that the monitor answered."""


class HumanMonitor:
    """A QMP connection that is used for the human monitor."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._in = incoming
        self._out = outgoing
        self._events: list[dict[str, Any]] = []
        self._message()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        self._out.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self._out.flush()
        while True:
            message = self._message()
            if "return" in message:
                return message["return"]
            assert "error" not in message, message

    def type(self, line: str) -> str:
        """The answer to one line."""
        text = self.execute("human-monitor-command", **{"command-line": line})
        assert isinstance(text, str)
        return text

    def wait_for(self, job: str, status: str) -> None:
        """Reads on until the job has come to ``status`` (null: until it is gone)."""
        wanted = {"id": job, "status": status}
        while not any(event.get("data") == wanted for event in self._events):
            self._message()
        self._events.clear()

    def take_events(self, name: str) -> list[dict[str, Any]]:
        """What the events of this name told so far, each once."""
        taken = [event["data"] for event in self._events if event["event"] == name]
        self._events = [event for event in self._events if event["event"] != name]
        return taken

    def _message(self) -> dict[str, Any]:
        line = self._in.readline()
        assert line, "the monitor has ended"
        message: dict[str, Any] = json.loads(line)
        if "event" in message:
            self._events.append(message)
        return message


@contextmanager
def qemu(folder: Path) -> Iterator[HumanMonitor]:
    """QEMU's monitor. QMP has a socket: QEMU's standard output has lines of its own."""
    ours, theirs = socket.socketpair()
    channel = ("-chardev", f"socket,id=q,fd={theirs.fileno()}", "-mon", "chardev=q,mode=control")
    process = subprocess.Popen(
        [*QEMU, *channel],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    with _talking(process, ours) as monitor:
        yield monitor


@contextmanager
def blkmon(folder: Path) -> Iterator[HumanMonitor]:
    """Our monitor, as a program of its own."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        OURS,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        stdin=theirs,
        stdout=theirs,
    )
    theirs.close()
    with _talking(process, ours) as monitor:
        yield monitor


@contextmanager
def _talking(process: subprocess.Popen[bytes], channel: socket.socket) -> Iterator[HumanMonitor]:
    """A monitor whose answers come within seconds; the process is gone afterwards."""
    try:
        channel.settimeout(20)
        with channel, channel.makefile("rb") as incoming, channel.makefile("wb") as outgoing:
            yield HumanMonitor(incoming, outgoing)
    finally:
        process.kill()
        process.wait()


def converse(monitor: HumanMonitor, script: Iterable[str]) -> Exchange:
    """Types each line; ``@wait JOB STATUS`` waits until the job is there."""
    exchange = []
    for line in script:
        if line.startswith("@wait "):
            monitor.wait_for(*line.split()[1:])
        else:
            exchange.append((line, comparable(monitor.type(line))))
    return exchange


def side_by_side(
    tmp_path: Path, images: Sequence[Sequence[str]], script: Sequence[str]
) -> tuple[Exchange, Exchange]:
    """What QEMU answers, and what we do, each in a folder where ``images`` (commands) has run."""
    exchanges = []
    for name, start in (("qemu", qemu), ("blkmon", blkmon)):
        folder = tmp_path / name
        folder.mkdir()
        for command in images:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=20)
        with start(folder) as monitor:
            exchanges.append(converse(monitor, script))
    return exchanges[0], exchanges[1]


_GENERATED = re.compile(r"#block\d+")
_ALLOCATED = re.compile(r"(?m)^disk size: .*$")
_TIME = re.compile(r"(_time_ns)=[1-9]\d*")
_PROGRESS = re.compile(r"Completed \d+ of")


def comparable(text: str) -> str:
    """Without what the two need not agree on: names they made up, blocks that the host gave, and
    how far a job is at the moment."""
    text = _PROGRESS.sub("Completed … of", _GENERATED.sub("#block", text))
    text = _TIME.sub(r"\1=…", text)
    return _ALLOCATED.sub("disk size: …", text)
