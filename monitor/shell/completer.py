"""``monitor.completion`` behind prompt_toolkit's menu.

The catalogue is asked at each key, so a name that the line before created, or a job that another
client started, is there at once. Only files need more than memory (``shell.files``).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from itertools import islice
from typing import TYPE_CHECKING

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from monitor.engine.api import Engine
from monitor.shell.files import File, Lister
from monitor.shell.texts import printable

if TYPE_CHECKING:
    from monitor.completion import Candidate, FileSlot

MOST = 1000
"""Candidates that the menu holds; the best come first."""


class CatalogueCompleter(Completer):
    """Candidates for the text before the cursor, from what exists in ``engine`` now."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._files = Lister()

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Without files, which have to be waited for."""
        from monitor.completion import Candidate

        for found in self._suggestions(document, complete_event):
            if isinstance(found, Candidate):
                yield _completion(found)

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        from monitor.completion import Candidate

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
        from monitor.completion import suggest

        text = document.text_before_cursor
        # The menu that comes by itself says nothing before anything is typed; Tab does.
        if event.text_inserted and not text.strip():
            return []
        return islice(suggest(text, self._engine), MOST)


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
