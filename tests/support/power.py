"""A host whose power fails: the files of several images, and what is done to any, in one order.

Each file is a driver that records. A cut keeps, of each file, what came before its last flush, and
of the rest as much as chance lets through, be it nothing: the disk of a job that forgets to flush.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from tests.support.children import Event, MemoryChild, RecordingChild, power_cut
from tests.support.qcow2 import open_qcow2, read
from tests.support.recording import RecordingDriver


class Host:
    """``files`` by name; ``log`` is what was done to which of them."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Event]] = []
        self._begin: dict[str, bytes] = {}

    def file(self, name: str, content: bytes) -> RecordingDriver:
        self._begin[name] = content
        driver = RecordingDriver()
        driver.child = _Child(content, lambda event: self.log.append((name, event)))
        return driver

    def cut(self, done: int, chance: random.Random, kept: float) -> dict[str, bytes]:
        """The files after a power cut when ``done`` things had been done: ``kept`` is how likely a
        sector is on the disk that nobody has flushed."""
        left = {}
        for name, begin in self._begin.items():
            events = [event for file, event in self.log[:done] if file == name]
            left[name] = power_cut(begin, events, len(events), chance, kept)
        return left


class _Child(RecordingChild):
    def __init__(self, content: bytes, note: Callable[[Event], None]) -> None:
        super().__init__(content)
        self._note = note

    def write(self, buffer: memoryview, offset: int) -> None:
        super().write(buffer, offset)
        self._note(self.events[-1])

    def flush(self) -> None:
        super().flush()
        self._note(self.events[-1])

    def truncate(self, size: int) -> None:
        super().truncate(size)
        self._note(self.events[-1])


def shown(files: Mapping[str, bytes], name: str) -> bytes:
    """What an image shows to who follows the backing links in its header and below."""
    if not files[name].startswith(b"QFI\xfb"):
        return files[name]
    link = open_qcow2(MemoryChild(files[name]), read_only=True).backing_filename
    below = MemoryChild(shown(files, link)) if link else None
    return read(open_qcow2(MemoryChild(files[name]), below, read_only=True))


def is_marked(files: Mapping[str, bytes], name: str) -> bool:
    """Whether an image says that a job has not filled it."""
    return open_qcow2(MemoryChild(files[name]), read_only=True).unfinished() is not None
