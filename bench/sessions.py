"""QMP sessions to time: one process, requests in, replies and events out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

QSD = ("qemu-storage-daemon", "--chardev", "stdio,id=c", "--monitor", "chardev=c")
# Users have byte code: pip compiles what it installs. Without it a start takes twice as long.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

OURS = (sys.executable, "-m", "monitor", "--qmp", "stdio")


class Session:
    """A running monitor. ``started`` is the time (seconds) to its greeting and first reply."""

    def __init__(self, command: tuple[str, ...], folder: Path) -> None:
        began = time.perf_counter()
        self._process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()
        self.do("qmp_capabilities")
        self.started = time.perf_counter() - began

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.do("quit")
        self._process.communicate(timeout=60)

    def do(self, command: str, **arguments: Any) -> Any:
        """One request; its result. Raises RuntimeError when it is refused."""
        self.send(command, **arguments)
        while True:
            message = self._read()
            if "error" in message:
                raise RuntimeError(f"{command}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]

    def send(self, command: str, **arguments: Any) -> None:
        assert self._process.stdin
        renamed = {name.replace("_", "-"): value for name, value in arguments.items()}
        request = {"execute": command, "arguments": renamed}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def batch(self, requests: list[tuple[str, dict[str, Any]]]) -> None:
        """Many requests at once, and all their replies."""
        assert self._process.stdin
        lines = [json.dumps({"execute": c, "arguments": a}) for c, a in requests]
        self._process.stdin.write("\n".join(lines) + "\n")
        self._process.stdin.flush()
        left = len(requests)
        while left:
            left -= "event" not in self._read()

    def memory(self) -> int:
        """Bytes of memory in use by the process (resident)."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) << 10

    def until(self, event: str) -> None:
        while self._read().get("event") != event:
            continue

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        while True:
            line = self._process.stdout.readline()
            if not line:
                raise RuntimeError("the session ended")
            if line.startswith("{"):
                message: dict[str, Any] = json.loads(line)
                return message


def qcow2(filename: str, *, direct: bool = False, **options: Any) -> dict[str, Any]:
    """Arguments of blockdev-add for a qcow2 image in a file; ``direct``: past the page cache."""
    cache = {"cache": {"direct": True}} if direct else {}
    file = {"driver": "file", "filename": filename, **cache}
    return {"driver": "qcow2", "file": file, **cache, **options}


def run(*command: str, folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
