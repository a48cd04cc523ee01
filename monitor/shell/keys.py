"""Keys, beside prompt_toolkit's emacs bindings."""

from __future__ import annotations

import enum
import os
import re
import signal
from typing import TYPE_CHECKING

from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.auto_suggest import Suggestion
from prompt_toolkit.completion import CompleteEvent, get_common_complete_suffix
from prompt_toolkit.filters import Condition, Filter, has_completions, is_searching
from prompt_toolkit.key_binding import (
    KeyBindings,
    KeyBindingsBase,
    KeyPressEvent,
    merge_key_bindings,
)
from prompt_toolkit.key_binding.bindings.auto_suggest import load_auto_suggest_bindings
from prompt_toolkit.keys import Keys

if TYPE_CHECKING:
    from monitor.shell.screen import Screen


class Mode(enum.Enum):
    """What the input line is for."""

    EDIT = "edit"
    BUSY = "busy"
    ASK = "ask"


def line_keys(owner: Screen) -> KeyBindingsBase:
    """The keys of the input line and of questions."""
    bindings = KeyBindings()
    editing = owner.in_mode(Mode.EDIT) & ~is_searching
    asking = owner.in_mode(Mode.ASK)
    _add_keys_of_the_line(bindings, owner, editing, asking)
    _add_keys_of_questions(bindings, owner, asking)
    _add_keys_of_the_menu(bindings, owner, editing)
    _add_keys_of_the_suggestion(bindings, owner, editing)
    return merge_key_bindings([load_auto_suggest_bindings(), bindings])


def _add_keys_of_the_line(
    bindings: KeyBindings, owner: Screen, editing: Filter, asking: Filter
) -> None:
    @bindings.add("enter", filter=editing)
    def _(event: KeyPressEvent) -> None:
        """Takes the chosen completion; else runs the line, or continues it in an open bracket."""
        state = owner.line.complete_state
        chosen = state is not None and state.current_completion is not None
        if chosen and owner.settings["enter"] == "take":
            owner.line.complete_state = None
        elif owner.is_complete(owner.line.text):
            owner.accept()
        else:
            owner.line.cursor_position = len(owner.line.text)
            owner.line.newline(copy_margin=True)

    @bindings.add("escape", "enter", filter=editing)
    def _(event: KeyPressEvent) -> None:
        owner.line.newline(copy_margin=False)

    @bindings.add("c-c", filter=editing | asking)
    @bindings.add(Keys.SIGINT, filter=editing | asking)
    def _(event: KeyPressEvent) -> None:
        owner.drop()

    @bindings.add("c-d", filter=(editing | asking) & Condition(lambda: _empty(owner)))
    def _(event: KeyPressEvent) -> None:
        owner.end_of_input()

    @bindings.add("c-x", "c-e", filter=editing)
    async def _(event: KeyPressEvent) -> None:
        """The line in $EDITOR; an editor that fails changes nothing."""
        with owner.held():
            try:
                await owner.line.open_in_editor()
            except ValueError as error:  # $EDITOR has a quote too few
                owner.print(f"Error: cannot run the editor: {error}", "class:error")

    @bindings.add("c-z")
    async def _(event: KeyPressEvent) -> None:
        def stop() -> None:
            owner.settle()
            _stop()

        with owner.held():
            await run_in_terminal(stop)


def _add_keys_of_questions(bindings: KeyBindings, owner: Screen, asking: Filter) -> None:
    by_key = Condition(lambda: bool(owner.answer_keys) and not owner.answer.text)

    @bindings.add(Keys.Any, filter=asking & by_key)
    def _(event: KeyPressEvent) -> None:
        """A key that is an answer by itself; others are none, so nothing is typed."""
        if event.data and event.data.lower() in owner.answer_keys:
            owner.answer.insert_text(event.data)
            owner.accept()

    @bindings.add("enter", filter=asking)
    def _(event: KeyPressEvent) -> None:
        owner.accept()


def _add_keys_of_the_menu(bindings: KeyBindings, owner: Screen, editing: Filter) -> None:
    nothing_chosen = Condition(
        lambda: (
            owner.line.complete_state is not None
            and owner.line.complete_state.complete_index is None
        )
    )
    only_one = Condition(
        lambda: (
            owner.line.complete_state is not None
            and len(owner.line.complete_state.completions) == 1
        )
    )

    @bindings.add("tab", filter=editing & has_completions & nothing_chosen & only_one)
    def _(event: KeyPressEvent) -> None:
        """The one candidate of a menu that came by itself is taken; there is nothing to choose."""
        assert owner.line.complete_state is not None
        owner.line.apply_completion(owner.line.complete_state.completions[0])

    @bindings.add("tab", filter=editing & ~has_completions)
    def _(event: KeyPressEvent) -> None:
        """What is typed faster than a menu comes up: the one candidate is taken at once."""
        only_one_of = getattr(owner.line.completer, "only_one", None)
        found = only_one_of(owner.line.document) if only_one_of is not None else None
        if found is not None:
            owner.line.apply_completion(found)
        else:
            event.app.create_background_task(_complete_when_known(owner))

    common = Condition(lambda: owner.settings["tab"] == "common")

    @bindings.add("tab", filter=editing & common)
    def _(event: KeyPressEvent) -> None:
        """As far as all candidates agree, like other shells' Tab."""
        state = owner.line.complete_state
        if state is None or not state.completions:
            event.app.create_background_task(_complete_when_known(owner))
            return
        agreed = get_common_complete_suffix(owner.line.document, state.completions)
        if agreed:
            owner.line.insert_text(agreed)

    @bindings.add("up", filter=editing & has_completions & nothing_chosen)
    def _(event: KeyPressEvent) -> None:
        """The menu that came by itself does not keep the arrow from the history."""
        owner.line.cancel_completion()
        owner.line.auto_up()

    @bindings.add("c-g", filter=editing & has_completions)
    def _(event: KeyPressEvent) -> None:
        owner.line.cancel_completion()


async def _complete_when_known(owner: Screen) -> None:
    """Tab, where names have to be waited for: files. The menu that comes by itself is on its way
    perhaps, and the line's own completion does nothing beside that."""
    line, document = owner.line, owner.line.document
    wanted = CompleteEvent(completion_requested=True)
    found = [each async for each in line.completer.get_completions_async(document, wanted)]
    if owner.mode is not Mode.EDIT or line.document != document:
        return  # other keys have come meanwhile
    if len(found) == 1:
        line.apply_completion(found[0])
    elif agreed := get_common_complete_suffix(document, found):
        line.insert_text(agreed)
    else:
        line.start_completion()


def _add_keys_of_the_suggestion(bindings: KeyBindings, owner: Screen, editing: Filter) -> None:
    by_word = Condition(
        lambda: (
            owner.settings["right"] == "word"
            and owner.line.suggestion is not None
            and bool(owner.line.suggestion.text)
            and owner.line.document.is_cursor_at_the_end
        )
    )

    @bindings.add("right", filter=editing & by_word)
    def _(event: KeyPressEvent) -> None:
        """The next word of the suggestion."""
        assert owner.line.suggestion is not None
        suggested = owner.line.suggestion.text
        found = re.match(r"\s*\S+\s*", suggested)
        if found is not None:
            owner.line.insert_text(found[0])
            # The next press may come before a suggestion is looked for anew.
            owner.line.suggestion = Suggestion(suggested[found.end() :])


def busy_keys(owner: Screen) -> KeyBindings:
    """Keys while a command runs: Ctrl-C asks, the others are kept for the next prompt."""
    bindings = KeyBindings()

    @bindings.add(Keys.Any)
    @bindings.add(Keys.BracketedPaste)
    def _(event: KeyPressEvent) -> None:
        owner.typed_ahead += event.key_sequence

    @bindings.add("c-c")
    @bindings.add(Keys.SIGINT)
    def _(event: KeyPressEvent) -> None:
        owner.typed_ahead.clear()
        owner.on_interrupt()

    return bindings


def _empty(owner: Screen) -> bool:
    text = owner.answer.text if owner.mode is Mode.ASK else owner.line.text
    return not text


def _stop() -> None:
    """Stops this process group until the shell lets it go on."""
    os.kill(0, signal.SIGTSTP)
