"""The rules of a ``blkdebug`` node: what an event does to the requests that follow it.

A rule waits for its event, and (unless its state is 0) for the node to be in its state, which
begins at 1. The injections of one event take the place of those of an earlier one; they hold for
all requests that they fit until then, or until one fails when they are for once.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable
from typing import Final, Literal, get_args

import msgspec

from monitor.engine.schema.blkdebug import BlkdebugEvent, BlkdebugIOType

EVENTS: Final = frozenset(get_args(BlkdebugEvent))
FIRST_STATE: Final = 1
ALL_BUT_STATUS: Final = frozenset(get_args(BlkdebugIOType)) - {"block-status"}
"""What an injection without an I/O type is for."""

Kind = Literal["read", "write", "write-zeroes", "discard", "flush", "block-status"]


class Injection(msgspec.Struct, frozen=True):
    """``offset`` is a byte that the request must hold, -1 for any request; ``code`` an errno, 0
    for requests that succeed whatever further rules say."""

    event: str
    state: int = 0
    code: int = errno.EIO
    kinds: frozenset[str] = ALL_BUT_STATUS
    offset: int = -1
    once: bool = False

    def fits(self, offset: int, length: int, kind: Kind) -> bool:
        inside = self.offset == -1 or offset <= self.offset < offset + length
        return inside and kind in self.kinds


class StateChange(msgspec.Struct, frozen=True):
    event: str
    state: int
    new_state: int


class _Breakpoint(msgspec.Struct, frozen=True):
    event: str
    tag: str


class _Suspended:
    """A request that stands at a breakpoint."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.go = threading.Event()


class Rules:
    """The rules in force. Events and requests come from any thread.

    ``notice`` is told, in the thread of the request, of each request that begins to stand still.
    """

    def __init__(
        self,
        injections: Iterable[Injection] = (),
        changes: Iterable[StateChange] = (),
        notice: Callable[[str], None] = lambda tag: None,
    ) -> None:
        self.state = FIRST_STATE
        self._lock = threading.Lock()
        self._injections = list(injections)
        self._changes = list(changes)
        self._active: list[Injection] = []
        self._breakpoints: list[_Breakpoint] = []
        self._suspended: list[_Suspended] = []
        self._watchers: list[tuple[str, Callable[[], None]]] = []
        self._notice = notice

    # -- events and requests -----------------------------------------------------------------

    def happen(self, event: str) -> None:
        """A driver is about to do what ``event`` says. Returns when no breakpoint holds it."""
        with self._lock:
            injected = [
                rule
                for rule in self._injections
                if rule.event == event and rule.state in (0, self.state)
            ]
            if injected:
                self._active = injected
            for change in self._changes:
                if change.event == event and change.state in (0, self.state):
                    self.state = change.new_state
                    break
            held = self._suspend(event)
        for request in held:
            self._notice(request.tag)
            self._tell_watchers()
            request.go.wait()

    def check(self, offset: int, length: int, kind: Kind) -> None:
        """Raises OSError where an injection fits the request."""
        if not self._active:
            return
        with self._lock:
            rule = next((rule for rule in self._active if rule.fits(offset, length, kind)), None)
            if rule is None or not rule.code:
                return
            if rule.once:
                self._active.remove(rule)
                self._injections.remove(rule)
        raise OSError(rule.code, os.strerror(rule.code))

    # -- breakpoints -------------------------------------------------------------------------

    def set_breakpoint(self, event: str, tag: str) -> None:
        """The next request that ``event`` is reported for stands still, called ``tag``. Raises
        OSError(ENOENT) for an event that there is not."""
        if event not in EVENTS:
            raise _no_entry()
        with self._lock:
            self._breakpoints.append(_Breakpoint(event, tag))

    def remove_breakpoint(self, tag: str) -> None:
        """Forgets the breakpoints called ``tag`` and lets go what stands at them. Raises
        OSError(ENOENT) when there is neither."""
        with self._lock:
            kept = [point for point in self._breakpoints if point.tag != tag]
            found = len(kept) < len(self._breakpoints)
            self._breakpoints = kept
        while self._let_go(tag):
            found = True
        if not found:
            raise _no_entry()

    def resume(self, tag: str) -> None:
        """Lets one request go on. Raises OSError(ENOENT) when none called ``tag`` stands."""
        if not self._let_go(tag):
            raise _no_entry()

    def release(self) -> None:
        """No breakpoint holds anything any more: the end is near."""
        with self._lock:
            self._breakpoints.clear()
            held, self._suspended = self._suspended, []
        for request in held:
            request.go.set()

    def when_suspended(self, tag: str, callback: Callable[[], None]) -> None:
        """Calls ``callback`` once a request called ``tag`` stands still, perhaps at once, from
        any thread."""
        with self._lock:
            self._watchers.append((tag, callback))
        self._tell_watchers()

    def _suspend(self, event: str) -> list[_Suspended]:
        hit = [point for point in self._breakpoints if point.event == event]
        if not hit:
            return []
        self._breakpoints = [point for point in self._breakpoints if point.event != event]
        held = [_Suspended(point.tag) for point in hit]
        self._suspended += held
        return held

    def _let_go(self, tag: str) -> bool:
        with self._lock:
            request = next((held for held in self._suspended if held.tag == tag), None)
            if request is None:
                return False
            self._suspended.remove(request)
        request.go.set()
        return True

    def _tell_watchers(self) -> None:
        with self._lock:
            standing = {held.tag for held in self._suspended}
            told = [watcher for watcher in self._watchers if watcher[0] in standing]
            self._watchers = [watcher for watcher in self._watchers if watcher not in told]
        for _, callback in told:
            callback()


def _no_entry() -> OSError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
