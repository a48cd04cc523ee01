"""A monitor of ours that serves something, steered by QMP on its standard streams."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

PATIENCE = 60.0
"""Seconds until it is ended, so that a hang is a failure."""


class Served:
    """``options`` are those of the command line, in pairs; it runs in ``folder``."""

    def __init__(self, folder: Path, *options: tuple[str, str]) -> None:
        self.folder = folder
        words = [word for option in options for word in option]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "monitor", "--qmp", "stdio", *words],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._watchdog = threading.Timer(PATIENCE, self._process.kill)
        self._watchdog.start()
        self.events: list[dict[str, Any]] = []
        self._read()
        self.do("qmp_capabilities")

    @property
    def pid(self) -> int:
        return self._process.pid

    def do(self, command: str, **arguments: Any) -> Any:
        """What is returned, or the whole reply where there is an error."""
        assert self._process.stdin
        request = {"execute": command, "arguments": arguments}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        while "event" in (message := self._read()):
            self.events.append(message)
        return message.get("return", message)

    def wait(self, event: str, **data: Any) -> dict[str, Any]:
        """Reads on until an event that has ``data`` among what it tells; it is taken away."""
        while True:
            for seen in self.events:
                if seen["event"] == event and data.items() <= seen["data"].items():
                    self.events.remove(seen)
                    return seen
            message = self._read()
            assert "event" in message, message
            self.events.append(message)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the monitor has ended"
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        """It ends well."""
        self.do("quit")
        self._process.communicate(timeout=20)
        self._watchdog.cancel()
        assert self._process.returncode == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._watchdog.cancel()
