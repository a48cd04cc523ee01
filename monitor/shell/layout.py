"""What is drawn: the input line, the completion menu over its own room, the jobs below.

::

    blkmon> block_stream d█             input, several lines while a bracket is open
                         d0   qcow2     menu
    (reverse search)                    while searching the history
     s0  stream  running  40%  ━━━──    jobs

The menu's room is kept until the line is entered, so that the jobs below do not jump with every
word. Nothing depends on where on the screen the cursor is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prompt_toolkit.application import Application
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import OneStyleAndTextTuple, StyleAndTextTuples
from prompt_toolkit.layout import (
    BufferControl,
    CompletionsMenu,
    ConditionalContainer,
    Dimension,
    Float,
    FloatContainer,
    FormattedTextControl,
    HSplit,
    Layout,
    Window,
)
from prompt_toolkit.layout.processors import (
    AppendAutoSuggestion,
    ConditionalProcessor,
    HighlightIncrementalSearchProcessor,
    HighlightMatchingBracketProcessor,
    HighlightSelectionProcessor,
)
from prompt_toolkit.styles import Style
from prompt_toolkit.widgets import SearchToolbar

from monitor.shell import keys
from monitor.shell.keys import Mode
from monitor.shell.session import PROMPT, continuation
from monitor.shell.toolbar import MAX_ROWS

if TYPE_CHECKING:
    from monitor.shell.screen import Screen

MENU_ROWS = 8

# Names of the terminal's own colours: readable on a light and on a dark background.
STYLE = Style.from_dict(
    {
        "prompt": "bold",
        "question": "bold",
        "busy": "ansibrightblack",
        "error": "ansired",
        "hint": "ansicyan",
        "event": "ansicyan",
        "auto-suggestion": "ansibrightblack",
        "job.ready": "ansigreen",
        "job.pending": "ansigreen",
        "job.paused": "ansiyellow",
        "job.standby": "ansiyellow",
        "job.aborting": "ansired",
        "job.more": "ansibrightblack",
        "completion-menu": "noinherit reverse",
        "completion-menu.completion": "",
        "completion-menu.completion.current": "noreverse bold",
        "completion-menu.meta.completion": "",
        "completion-menu.meta.completion.current": "noreverse",
        "changed": "reverse",
        "pygments.name.function": "bold",
        "pygments.name.attribute": "ansicyan",
        "pygments.name.decorator": "ansiyellow",
        "pygments.literal.number": "ansimagenta",
        "pygments.literal.string": "ansigreen",
        "pygments.keyword": "ansimagenta",
        "pygments.comment": "ansibrightblack",
        "pygments.operator": "",
        "pygments.punctuation": "",
        "pygments.text": "",
    }
)


@dataclass
class Parts:
    """What the screen keeps of the layout. ``menu_rows`` is the room that the menu has taken."""

    application: Application[None]
    focus: dict[Mode, Window]
    menu_rows: int = 0


def line_prompt(number: int, text: str) -> OneStyleAndTextTuple:
    """What stands before line ``number`` of the input ``text``."""
    return ("class:prompt", PROMPT if number == 0 else continuation(text, number))


def build(owner: Screen) -> Parts:
    """The application of ``owner``, in the current app session."""
    search = SearchToolbar()
    line = _line_window(owner, search)
    answer = Window(
        BufferControl(owner.answer),
        dont_extend_height=True,
        wrap_lines=True,
        get_line_prefix=lambda number, wrapped: (
            [("class:question", owner.question)] if number == wrapped == 0 else []
        ),
    )
    busy = Window(
        FormattedTextControl(
            lambda: [("class:busy", owner.busy_note)],
            focusable=True,
            show_cursor=False,
            key_bindings=keys.busy_keys(owner),
        ),
        height=1,
    )
    live = Window(FormattedTextControl(lambda: owner.live), dont_extend_height=True)
    root = HSplit(
        [
            ConditionalContainer(_with_menu(owner, line, search), owner.in_mode(Mode.EDIT)),
            ConditionalContainer(answer, owner.in_mode(Mode.ASK)),
            ConditionalContainer(live, Condition(lambda: bool(owner.live))),
            ConditionalContainer(busy, owner.in_mode(Mode.BUSY)),
            _jobs_window(owner),
            Window(height=Dimension(min=0, preferred=0)),  # what is left over when lines go
        ]
    )
    application: Application[None] = Application(
        Layout(root, focused_element=busy),
        style=STYLE,
        key_bindings=keys.line_keys(owner),
        erase_when_done=True,
        max_render_postpone_time=None,
        terminal_size_polling_interval=None,  # SIGWINCH tells
        enable_page_navigation_bindings=False,
    )
    focus = {Mode.EDIT: line, Mode.ASK: answer, Mode.BUSY: busy}
    return Parts(application, focus)


def _line_window(owner: Screen, search: SearchToolbar) -> Window:
    at_end = Condition(lambda: owner.line.document.is_cursor_at_the_end)

    def word_start() -> int | None:
        """Where the word begins that is completed: the menu stands below it while it grows."""
        state = owner.line.complete_state
        if state is None or not state.completions:
            return None
        return state.original_document.cursor_position + state.completions[0].start_position

    return Window(
        BufferControl(
            owner.line,
            menu_position=word_start,
            lexer=owner.dynamic_lexer,
            search_buffer_control=search.control,
            preview_search=True,
            input_processors=[
                HighlightIncrementalSearchProcessor(),
                HighlightSelectionProcessor(),
                HighlightMatchingBracketProcessor(),
                ConditionalProcessor(AppendAutoSuggestion(), at_end),
            ],
        ),
        dont_extend_height=True,
        wrap_lines=True,
        get_line_prefix=lambda number, wrapped: (
            [line_prompt(number, owner.line.text)] if wrapped == 0 else []
        ),
    )


def _with_menu(owner: Screen, line: Window, search: SearchToolbar) -> FloatContainer:
    def room() -> Dimension:
        state = owner.line.complete_state
        if state is not None:
            wanted = min(len(state.completions), MENU_ROWS)
            owner.parts.menu_rows = max(owner.parts.menu_rows, wanted)
        rows = owner.parts.menu_rows
        return Dimension(min=0, max=rows, preferred=rows)

    menu = Float(CompletionsMenu(max_height=MENU_ROWS, scroll_offset=1), xcursor=True, ycursor=True)
    return FloatContainer(HSplit([line, search, Window(height=room)]), [menu])


def _jobs_window(owner: Screen) -> ConditionalContainer:
    def rows() -> StyleAndTextTuples:
        size = owner.app.output.get_size()
        most = MAX_ROWS if size.rows >= 4 * MAX_ROWS else 1
        return owner.jobs.rows(size.columns, most) if owner.jobs is not None else []

    window = Window(FormattedTextControl(rows), dont_extend_height=True)
    return ConditionalContainer(
        window, Condition(lambda: owner.jobs is not None and owner.jobs.any)
    )
