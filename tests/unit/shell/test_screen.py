"""The prompt's application: what is typed, read, asked and printed, on a screen in memory."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import pyte
import pytest
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.data_structures import Size
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.lexers import SimpleLexer
from prompt_toolkit.output.vt100 import Vt100_Output

from monitor.shell.screen import Screen
from tests.support.fake_engine import MIB, FakeEngine, job

UP, DOWN, RIGHT, TAB, ENTER = "\x1b[A", "\x1b[B", "\x1b[C", "\t", "\r"
CTRL_C, CTRL_D, CTRL_G, CTRL_R = "\x03", "\x04", "\x07", "\x12"


class Words(Completer):
    """Completes what is in ``words`` when the key is pressed."""

    def __init__(self) -> None:
        self.words: list[str] = ["block_resize", "block_stream", "blockdev-add", "info"]
        self.known: asyncio.Event | None = None
        """What the words have to be waited for."""
        self.asked = 0

    def get_completions(self, document: Document, event: CompleteEvent) -> list[Completion]:
        word = document.text_before_cursor.split(" ")[-1]
        return [Completion(w, -len(word)) for w in self.words if word and w.startswith(word)]

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        self.asked += 1
        if self.known is not None:
            await self.known.wait()
        for found in self.get_completions(document, complete_event):
            yield found


class Bench:
    """A screen, its keyboard and its glass."""

    def __init__(self, keyboard: PipeInput, columns: int, rows: int, history: list[str]) -> None:
        self._pipe = keyboard
        self._written = io.StringIO()
        self.glass = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self.glass)
        self.glass.set_mode(pyte.modes.LNM)  # the terminal driver makes \n a new line
        output = Vt100_Output(
            self._written, lambda: Size(rows, columns), term="xterm", enable_cpr=False
        )
        self.words = Words()
        self.screen = Screen(
            completer=self.words,
            history=InMemoryHistory(history),
            is_complete=lambda text: text.count("(") <= text.count(")"),
            input=keyboard,
            output=output,
        )

    def type(self, text: str) -> None:
        self._pipe.send_text(text)

    @property
    def lines(self) -> list[str]:
        text = self._written.getvalue()
        self._written.seek(0)
        self._written.truncate()
        self._stream.feed(text)
        return [line.rstrip() for line in self.glass.display]

    async def until(self, condition: Callable[[], object]) -> None:
        """Lets the loop run until ``condition`` holds; fails with the screen."""
        try:
            async with asyncio.timeout(10):
                while not condition():
                    await asyncio.sleep(0)
        except TimeoutError:
            pytest.fail("the screen:\n" + "\n".join(self.lines))

    async def shows(self, *rows: str) -> None:
        """The screen's rows from the top are these, and then empty ones."""
        wanted = [*rows, *[""] * (self.glass.lines - len(rows))]
        with contextlib.suppress(pytest.fail.Exception):
            await self.until(lambda: self.lines == wanted)
        assert self.lines == wanted


@contextlib.asynccontextmanager
async def bench(
    columns: int = 60, rows: int = 16, history: list[str] | None = None
) -> AsyncIterator[Bench]:
    with create_pipe_input() as keyboard:
        made = Bench(keyboard, columns, rows, history or [])
        running = asyncio.create_task(made.screen.run())
        await made.until(lambda: made.screen.app.is_running)
        yield made
        made.screen.close()
        await running


def on_bench(test: Callable[[Bench], Awaitable[None]]) -> Callable[[], None]:
    """A test of an ordinary bench."""

    def run() -> None:
        async def body() -> None:
            async with asyncio.timeout(30), bench() as made:
                await test(made)

        asyncio.run(body())

    run.__doc__ = test.__doc__
    return run


@on_bench
async def test_line_is_read_and_stays_above(b: Bench) -> None:
    b.type("info block" + ENTER)
    assert await b.screen.read() == "info block"
    b.screen.print("d0: a.qcow2")
    reading = asyncio.create_task(b.screen.read())
    await b.shows("blkmon> info block", "d0: a.qcow2", "blkmon>")
    reading.cancel()


@on_bench
async def test_colours_that_come_when_the_session_has_ended(b: Bench) -> None:
    def closed() -> None:
        raise RuntimeError("Event loop is closed")

    b.screen.app.invalidate = closed  # type: ignore[method-assign]
    b.screen.colour(SimpleLexer())


@on_bench
async def test_keys_typed_while_a_command_runs_are_kept(b: Bench) -> None:
    b.type("one\rtwo\rthr")
    assert await b.screen.read() == "one"
    await b.until(lambda: len(b.screen.typed_ahead) == 7)
    b.type("ee\r")
    assert await b.screen.read() == "two"
    assert await b.screen.read() == "three"


@on_bench
async def test_open_bracket_continues_the_line(b: Bench) -> None:
    reading = asyncio.create_task(b.screen.read())
    b.type("transaction(\rx\r")
    await b.shows("blkmon> transaction(", " TRANS> x", " TRANS>")
    b.type(")\r")
    assert await reading == "transaction(\nx\n)"
    await b.shows("blkmon> transaction(", " TRANS> x", " TRANS> )")


@on_bench
async def test_ctrl_c_drops_an_open_transaction(b: Bench) -> None:
    """All of its lines, flags included; the next line is a new command."""
    reading = asyncio.create_task(b.screen.read())
    b.type("transaction --dry-run(\r abort\rqu")
    await b.until(lambda: b.screen.line.text.endswith("qu"))
    b.type(CTRL_C)
    await b.shows("blkmon> transaction --dry-run(", " TRANS>  abort", " TRANS>  qu^C", "blkmon>")
    b.type("info\r")
    assert await reading == "info"


@on_bench
async def test_ctrl_c_clears_the_line(b: Bench) -> None:
    reading = asyncio.create_task(b.screen.read())
    b.type("half a li")
    await b.until(lambda: b.screen.line.text == "half a li")
    b.type(CTRL_C)
    await b.shows("blkmon> half a li^C", "blkmon>")
    b.type("info\r")
    assert await reading == "info"


@on_bench
async def test_ctrl_c_drops_all_lines_of_an_open_bracket(b: Bench) -> None:
    reading = asyncio.create_task(b.screen.read())
    b.type("transaction(\rx" + CTRL_C + "info\r")
    assert await reading == "info"


@on_bench
async def test_ctrl_d_ends_only_an_empty_line(b: Bench) -> None:
    b.type("ab\x02" + CTRL_D + ENTER)  # Ctrl-B: back one; Ctrl-D: delete
    assert await b.screen.read() == "a"
    b.type(CTRL_D)
    with pytest.raises(EOFError):
        await b.screen.read()


@on_bench
async def test_menu_opens_while_typing_and_enter_runs_in_one_press(b: Bench) -> None:
    reading = asyncio.create_task(b.screen.read())
    b.type("block_")
    await b.shows("blkmon> block_", "         block_resize", "         block_stream")
    b.type(ENTER)
    assert await reading == "block_"


@on_bench
async def test_enter_takes_a_chosen_item_first(b: Bench) -> None:
    reading = asyncio.create_task(b.screen.read())
    b.type("block_")
    await b.until(lambda: b.screen.line.complete_state)
    b.type(DOWN + DOWN + ENTER)
    await b.shows("blkmon> block_stream", "", "")
    assert not reading.done()
    b.type(" d0" + ENTER)
    assert await reading == "block_stream d0"


@on_bench
async def test_tab_takes_the_only_candidate_and_enter_runs_it(b: Bench) -> None:
    reading = asyncio.create_task(b.screen.read())
    b.type("inf")
    await b.until(lambda: b.screen.line.complete_state)
    b.type(TAB)
    await b.until(lambda: b.screen.line.text == "info")
    await b.until(lambda: b.screen.line.complete_state is None)
    b.type(ENTER)
    assert await reading == "info"


@pytest.mark.parametrize("way", ["menu", "common"])
@pytest.mark.parametrize(("typed", "line"), [("inf", "info"), ("block_", "block_"), ("b", "block")])
def test_a_tab_that_came_before_what_it_is_to_take(way: str, typed: str, line: str) -> None:
    """Typed ahead of the prompt, while files are still looked for by the menu that comes by
    itself."""

    @on_bench
    async def body(b: Bench) -> None:
        b.screen.settings["tab"] = way
        b.words.known = asyncio.Event()
        b.type(typed + TAB)
        await b.until(lambda: b.screen.typed_ahead[-1:])
        reading = asyncio.create_task(b.screen.read())
        await b.until(lambda: b.words.asked == 2)
        b.words.known.set()
        await b.until(lambda: b.screen.line.complete_state or line == "info")
        await b.until(lambda: b.screen.line.text == line)
        b.type(CTRL_G + ENTER)
        assert await reading == line

    body()


@on_bench
async def test_arrow_up_goes_to_the_history_past_a_menu_that_came_by_itself(b: Bench) -> None:
    b.type("block_stream d7\r")
    await b.screen.read()
    reading = asyncio.create_task(b.screen.read())
    b.type("block")
    await b.until(lambda: b.screen.line.complete_state)
    b.type(UP + ENTER)
    assert await reading == "block_stream d7"


def test_arrow_up_finds_lines_with_the_typed_beginning() -> None:
    async def body() -> None:
        async with bench(history=["info one", "quit", "info two", "echo x"]) as b:
            reading = asyncio.create_task(b.screen.read())
            b.type("info" + CTRL_G)
            await b.until(b.screen.line.history.get_strings)
            b.type(UP + UP)
            await b.until(lambda: b.screen.line.text == "info one")
            b.type(ENTER)
            assert await reading == "info one"

    asyncio.run(body())


def test_suggestion_from_the_history_is_taken_with_the_right_arrow() -> None:
    async def body() -> None:
        async with bench(history=["echo a long line"]) as b:
            reading = asyncio.create_task(b.screen.read())
            await b.until(b.screen.line.history.get_strings)
            b.type("echo")
            await b.shows("blkmon> echo a long line")
            b.type(RIGHT + ENTER)
            assert await reading == "echo a long line"

    asyncio.run(body())


@on_bench
async def test_question_and_answer_stay_above(b: Bench) -> None:
    asking = asyncio.create_task(b.screen.ask("Sure? "))
    await b.shows("Sure?")
    b.type("yes" + ENTER)
    assert await asking == "yes"
    await b.shows("Sure? yes")


@on_bench
async def test_only_a_question_that_says_so_is_answered_by_earlier_keys(b: Bench) -> None:
    b.type("cmd\ry\r")
    await b.screen.read()
    await b.until(lambda: len(b.screen.typed_ahead) == 2)
    asking = asyncio.create_task(b.screen.ask("Dangerous? "))
    b.type("n\r")
    assert await asking == "n"
    assert await b.screen.ask("Harmless? ", typed_ahead=True) == "y"


@pytest.mark.parametrize("key", [CTRL_C, CTRL_D, ENTER])
def test_no_answer(key: str) -> None:
    @on_bench
    async def body(b: Bench) -> None:
        b.type(key)
        asking = asyncio.create_task(b.screen.ask("Sure? "))
        assert await asking == ""

    body()


@on_bench
async def test_ctrl_c_while_a_command_runs_only_tells(b: Bench) -> None:
    told: list[bool] = []
    b.screen.on_interrupt = lambda: told.append(True)
    b.type("wait\rtyped ahead" + CTRL_C)
    await b.screen.read()
    await b.until(lambda: told)
    assert b.screen.typed_ahead == []


@on_bench
async def test_events_leave_the_half_typed_line(b: Bench) -> None:
    reading = asyncio.create_task(b.screen.read())
    b.type("half a li")
    await b.until(lambda: b.screen.line.text == "half a li")
    for number in range(3):
        b.screen.print(f"event {number}")
    await b.shows("event 0", "event 1", "event 2", "blkmon> half a li")
    b.type("ne\r")
    assert await reading == "half a line"


@on_bench
async def test_events_leave_an_open_menu_and_its_choice(b: Bench) -> None:
    reading = asyncio.create_task(b.screen.read())
    b.type("block_")
    await b.until(lambda: b.screen.line.complete_state)
    b.type(DOWN)
    await b.until(lambda: b.screen.line.text == "block_resize")
    b.screen.print("event")
    await b.shows("event", "blkmon> block_resize", "         block_resize", "         block_stream")
    b.type(DOWN + ENTER + ENTER)
    assert await reading == "block_stream"


def test_events_leave_a_history_search() -> None:
    async def body() -> None:
        async with bench(history=["info one", "quit", "echo x"]) as b:
            reading = asyncio.create_task(b.screen.read())
            await b.until(b.screen.line.history.get_strings)
            b.type(CTRL_R + "nfo")
            await b.shows("blkmon> info one", "I-search backward: nfo")
            b.screen.print("event")
            await b.shows("event", "blkmon> info one", "I-search backward: nfo")
            b.type(ENTER + ENTER)
            assert await reading == "info one"

    asyncio.run(body())


@on_bench
async def test_jobs_stand_below_the_line_also_while_a_command_runs(b: Bench) -> None:
    engine = FakeEngine()
    poke = b.screen.watch(engine.jobs)
    engine.subscribe(lambda event: poke())
    reading = asyncio.create_task(b.screen.read())
    engine.start(job("s0", current=32 * MIB))
    row = " s0  stream  running   50%  ━━━━━━━━━━──────────"
    await b.shows("blkmon>", row)
    b.type("x\r")
    await reading
    await b.shows("blkmon> x", "", row)
    b.screen.note("running: x")
    await b.shows("blkmon> x", "running: x", row)
    engine.end("s0")
    await b.shows("blkmon> x", "running: x")


@on_bench
async def test_text_from_images_cannot_drive_the_terminal(b: Bench) -> None:
    b.screen.print("a\x1b[2Jb\rc\x9bd")
    await b.shows(r"a\x1b[2Jb\x0dc\x9bd")


@on_bench
async def test_paste_of_several_lines_waits_for_enter(b: Bench) -> None:
    reading = asyncio.create_task(b.screen.read())
    b.type("\x1b[200~info block\necho x\n\x1b[201~")
    await b.shows("blkmon> info block", "......> echo x", "......>")
    assert not reading.done()
    b.type(ENTER)
    assert await reading == "info block\necho x\n"
