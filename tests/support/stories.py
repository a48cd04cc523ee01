"""What a guest may read of a qcow2 disk after a crash at any moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tests.support.children import MemoryChild, RecordingChild
from tests.support.qcow2 import Disk, open_qcow2, qemu_check, read


class Story(Disk):
    """A disk that remembers, for every event recorded so far, what the guest may read."""

    def __init__(self, child: RecordingChild, backing: MemoryChild | None = None) -> None:
        self.states: list[tuple[int, bytes]] = []  # (events when it was reached, content)
        self.flushed: list[tuple[int, int]] = []  # (events at the end of a flush, state it covers)
        self.child = child
        super().__init__(child, backing)
        self.states.append((len(child.events), bytes(self.model)))
        self.flushed.append((0, 0))

    @contextmanager
    def changing(self) -> Iterator[None]:
        """The change made meanwhile may be read from its first event on."""
        begun = len(self.child.events)
        yield
        self.states.append((begun, bytes(self.model)))

    def durable(self) -> None:
        """What is read now is read after a crash as well."""
        self.flushed.append((len(self.child.events), len(self.states) - 1))

    def write(self, offset: int, data: bytes) -> None:
        with self.changing():
            super().write(offset, data)

    def write_ranges(self, data: bytes, ranges: Sequence[tuple[int, int]]) -> None:
        with self.changing():
            super().write_ranges(data, ranges)

    def write_compressed(self, offset: int, data: bytes) -> None:
        with self.changing():
            super().write_compressed(offset, data)

    def copy_into(self, offset: int, data: bytes, *, commit: bool = True) -> None:
        with self.changing():
            super().copy_into(offset, data, commit=commit)

    def write_zeroes(self, offset: int, length: int, may_unmap: bool = False) -> None:
        with self.changing():
            super().write_zeroes(offset, length, may_unmap)

    def discard(self, offset: int, length: int) -> None:
        with self.changing():
            super().discard(offset, length)

    def make_empty(self) -> None:
        """What is below shows everywhere."""
        with self.changing():
            self.driver.make_empty()
            below = bytes(self.backing.content) if self.backing else b""
            self.model[:] = below[: self.size].ljust(self.size, b"\0")
        self.durable()

    def truncate(self, size: int) -> None:
        with self.changing():
            super().truncate(size)
        self.durable()

    def grow(self, size: int, mode: str) -> None:
        with self.changing():
            super().grow(size, mode)
        self.durable()

    def flush(self) -> None:
        self.driver.flush()
        self.durable()

    def allowed(self, done: int) -> list[bytes]:
        """What may be read after a crash when ``done`` events had been recorded."""
        covered = max(state for end, state in self.flushed if end <= done)
        return [content for begun, content in self.states[covered:] if begun <= done]


def verify(story: Story, done: int, content: bytes, path: Path, *, ask_qemu: bool) -> None:
    """After ``done`` events, the disk reads as the story allows; QEMU finds no corruption."""
    if ask_qemu:
        path.write_bytes(content)
        assert qemu_check(path)["corruptions"] == 0, f"after {done} events"
    driver = open_qcow2(MemoryChild(content), story.backing, read_only=True)
    found = np.frombuffer(read(driver), np.uint8)
    states = [state for state in story.allowed(done) if len(state) == len(found)]
    assert states, f"size {len(found)} after {done} events"
    right = np.zeros(len(found), bool)
    for state in story.allowed(done):
        padded = np.frombuffer(state[: len(found)].ljust(len(found), b"\0"), np.uint8)
        right |= padded == found
    wrong = np.flatnonzero(~right)
    assert not len(wrong), f"byte {wrong[0]} after {done} events"
