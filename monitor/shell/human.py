"""Lines of the human monitor for another front end: QMP's ``human-monitor-command``."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

from monitor.engine.api import Engine, Event
from monitor.engine.errors import MonitorError
from monitor.shell.dialogue import Dialogue
from monitor.shell.failures import heading, told

if TYPE_CHECKING:
    from monitor.language.parser import Invocation


_speaking: ContextVar[HumanLines | None] = ContextVar("_speaking", default=None)
"""Whose line it is that runs: other clients' lines run at the same time."""


class HumanLines(Dialogue):
    """Runs one line at a time; what it prints, errors included, is its answer.

    Lines of the answer end as QEMU's monitor ends them, in CR LF. ``quit`` is called when a line
    asks for the end of the process.
    """

    plain = True

    def __init__(self, engine: Engine, quit: Callable[[], None]) -> None:
        super().__init__(engine)
        self._said: list[str] = []
        self._quit = quit

    def request_quit(self) -> None:
        super().request_quit()
        self._quit()

    async def __call__(self, line: str) -> str:
        self._said.clear()
        unsubscribe = self.engine.subscribe(self._note)
        token = _speaking.set(self)
        try:
            await self.enter(line)
        finally:
            _speaking.reset(token)
            unsubscribe()
        return "".join(text.replace("\n", "\r\n") + "\r\n" for text in self._said)

    def _note(self, event: Event) -> None:
        """QEMU's monitor prints warnings of what its commands do among their answers."""
        if event.name != "X_BLKMON_NOTE" or _speaking.get() is not self:
            return
        text = str(event.data["text"])
        if text.startswith("warning: "):
            self._said.append(text)

    def history(self) -> list[str]:
        """None, as QEMU's monitor without a terminal has none."""
        return []

    def scope(self) -> None:
        """QEMU's language: ``$``, ``|`` and ``>`` are letters."""

    def show(self, text: str) -> None:
        self._said.append(text)

    async def explain(self, error: MonitorError, invocation: Invocation) -> None:
        """Nothing: a program reads this, and QEMU says no more than its error."""

    def print_error(self, error: MonitorError) -> None:
        # QEMU's words, without a caret that points at nothing.
        self._said.append(getattr(error, "hmp_text", "") or told_plainly(error))


def told_plainly(error: MonitorError) -> str:
    """An error in HMP's form, without the caret and hint that are ours."""
    ours = hasattr(error, "caret") or not error.hint_is_qemus
    return f"{heading(error)}{error.text}" if ours else told(error)
