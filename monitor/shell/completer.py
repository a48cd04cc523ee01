"""``monitor.completion`` behind prompt_toolkit's menu.

The catalogue is asked at each key, so a name that the line before created, or a job that another
client started, is there at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from monitor.engine.api import Engine

MOST = 1000
"""Candidates that the menu holds; the best come first."""


class CatalogueCompleter(Completer):
    """Candidates for the text before the cursor, from what exists in ``engine`` now."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        # Imported here: the grammar is not needed to draw the first prompt.
        from monitor.completion import suggest

        text = document.text_before_cursor
        # The menu that comes by itself says nothing before anything is typed; Tab does.
        if complete_event.text_inserted and not text.strip():
            return
        for candidate in islice(suggest(text, self._engine), MOST):
            yield Completion(
                candidate.text,
                start_position=candidate.start_position,
                display_meta=candidate.meta,
                style=f"class:kind.{candidate.kind}",
            )
