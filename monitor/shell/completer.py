"""``monitor.language.completion`` behind prompt_toolkit's menu.

The catalogue is asked at each key, so a name that the line before created, or a job that another
client started, is there at once. Only files need more than memory (``shell.files``).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from monitor.engine.api import Engine, Name
from monitor.shell.files import File, Lister
from monitor.shell.texts import printable

if TYPE_CHECKING:
    from monitor.language.completion import Candidate, FileSlot
    from monitor.language.parser import Language
    from monitor.shell.session import Session

MOST = 1000
"""Candidates that the menu holds; the best come first."""


class CatalogueCompleter(Completer):
    """Candidates for the text before the cursor, from what exists in ``engine`` now, and in
    ``session`` once there is one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._files = Lister()
        self.session: Session | None = None
        self.active: Callable[[], bool] = lambda: True
        """Whether a line is being edited. What was asked for just before Enter comes too late."""

    def names(self, kind: str, verb: str = "", of: str = "") -> Iterable[Name]:
        """Names that exist now, as an engine tells them; variables and named commands too."""
        session = self.session
        if kind == "variable":
            found = session.variables if session is not None else {}
            return [Name(name, value) for name, value in found.items()]
        if kind == "macro":
            macros = session.macros.values() if session is not None else ()
            return [Name(macro.name, macro.body) for macro in macros]
        return self._engine.names(kind, verb, of)

    def serve(self, session: Session) -> None:
        """Completes variables and named commands of ``session`` too."""
        self.session = session

    def _language(self) -> Language | None:
        """The language with the session's named commands; None where there are none."""
        macros = self.session.macros if self.session is not None else {}
        if not macros:
            return None
        from monitor.language.completion import whole_language
        from monitor.language.parser import Language

        known = whole_language()
        return Language(
            {**known.human, **{name: macro.command for name, macro in macros.items()}},
            known.requests,
        )

    def only_one(self, document: Document) -> Completion | None:
        """The candidate, where there is one and it takes no look at a disk to know that."""
        from monitor.language.completion import Candidate

        event = CompleteEvent(completion_requested=True)
        found = list(islice(self._suggestions(document, event), 2))
        if len(found) == 1 and isinstance(found[0], Candidate):
            return _completion(found[0])
        return None

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Without files, which have to be waited for."""
        from monitor.language.completion import Candidate

        for found in self._suggestions(document, complete_event):
            if isinstance(found, Candidate):
                yield _completion(found)

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        from monitor.language.completion import Candidate

        for found in self._suggestions(document, complete_event):
            if isinstance(found, Candidate):
                yield _completion(found)
                continue
            for file in await self._files.matching(found.prefix):
                yield _file_completion(found, file)

    def _suggestions(
        self, document: Document, event: CompleteEvent
    ) -> Iterable[Candidate | FileSlot]:
        # Imported here: the grammar is not needed to draw the first prompt.
        from monitor.language.completion import suggest

        text = document.text_before_cursor
        if not self.active():
            return []
        # The menu that comes by itself says nothing before anything is typed; Tab does.
        if event.text_inserted and not text.strip():
            return []
        return islice(suggest(text, self, self._language()), MOST)


def _completion(candidate: Candidate) -> Completion:
    return Completion(
        candidate.text,
        start_position=candidate.start_position,
        display_meta=candidate.meta,
    )


def _file_completion(slot: FileSlot, file: File) -> Completion:
    """The whole path is typed; the menu shows its last part."""
    folder = file.path.endswith("/")
    name = file.path.rstrip("/").rpartition("/")[2] + ("/" if folder else "")
    return Completion(
        slot.spell(file.path),
        start_position=slot.start_position,
        display=printable(name),
        display_meta=file.meta,
    )
