"""A session whose lines are typed one by one, each answered before the next: the prompt, and the
replay of a transcript."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitor.engine.errors import MonitorError
from monitor.shell.failures import told
from monitor.shell.session import Session

if TYPE_CHECKING:
    from monitor.language.parser import Invocation


class Dialogue(Session):
    """A session whose lines are typed one by one, each answered before the next."""

    async def enter(self, text: str) -> bool:
        """Runs what was typed (one line, or several while a bracket was open).

        Prints the result or the error; whether all of it went as its marks say. Never raises for
        anything that the text or the engine can do wrong.
        """
        return await self.recorded(text, self._enter(text))

    async def _enter(self, text: str) -> bool:
        from monitor.language.parser import ScriptErrors

        good = True
        try:
            for invocation in self.parse(text, ""):
                if self.quitting:
                    break
                good &= await self._run_of_line(invocation)
        except ScriptErrors as errors:
            # Sourced files have a name, which their mistakes are told with; a line has none.
            mistakes = errors.errors
            for mistake in mistakes if not mistakes[0].source else [errors]:
                self.print_error(mistake)
            return False
        except MonitorError as error:
            self.print_error(error)
            return False
        return good

    async def _run_of_line(self, invocation: Invocation) -> bool:
        """Raises what the command raised, unless the rest of its line runs all the same."""
        try:
            await self.run(invocation)
        except MonitorError as error:
            if not self.settings.keeps_going:
                raise
            self.print_error(error)
            return False
        return True

    def excused(self, invocation: Invocation, error: MonitorError) -> None:
        # Whoever types wants to read it all the same.
        self.print_error(error)

    def file_failed(self, path: str, invocation: Invocation, error: MonitorError) -> None:
        if not self.settings.keeps_going:
            super().file_failed(path, invocation, error)
        self.print_error(error)

    def print_error(self, error: MonitorError) -> None:
        self.record_error(error)
        self.show(told(error))
