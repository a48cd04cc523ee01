"""Settings, named commands and questions at the prompt, and programs that borrow the terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import CREATE, Run
from tests.support.terminal import Terminal, at_prompt

Start = Callable[..., Terminal]


def config(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "config" / "blkmon"
    folder.mkdir(parents=True)
    (folder / "config").write_text(text)


def test_the_configuration_is_run_and_its_commands_are_completed(
    start: Start, tmp_path: Path
) -> None:
    config(tmp_path, 'set who me\nmacro greet name "echo hello $name from $who"\n')
    terminal = start()
    terminal.send("gre\t")
    terminal.until(at_prompt("greet"))
    terminal.send(" you\r")
    terminal.until(lambda t: "hello you from me" in t.lines)
    terminal.send("echo $w\t!\r")
    terminal.until(lambda t: "me!" in t.lines)


def test_a_mistake_in_the_configuration_is_told(start: Start, tmp_path: Path) -> None:
    config(tmp_path, "set vi onn\n")
    terminal = start()
    assert "config:1" in "".join(terminal.lines)  # a long folder's name breaks the line
    assert "'vi'cannotbe'onn'" in "".join(terminal.text.split())


def test_tab_then_enter_faster_than_a_menu(start: Start) -> None:
    terminal = start()
    terminal.send("set x 1\runse\t x\rset x\r")
    terminal.until(lambda t: "Error: undefined variable 'x'" in t.lines)


def test_vi_keys(start: Start) -> None:
    terminal = start()
    terminal.enter("set vi on")
    terminal.send("echo abc\x1b")
    terminal.until(at_prompt("echo abc"))
    terminal.send("0dwiecho \r")  # to the start, delete a word, insert
    terminal.until(lambda t: "abc" in t.lines)


def test_right_takes_a_word_of_the_suggestion(start: Start) -> None:
    terminal = start()
    terminal.send("set right word\recho one two\r")
    terminal.until(lambda t: "one two" in t.lines)
    terminal.send("ech")
    terminal.until(lambda t: t.text.count("echo one two") == 2)
    terminal.send("\x1b[C\x1b[C\x15")  # two words, then the line is cut
    terminal.until(at_prompt())
    terminal.send("\x19!\r")  # and put back
    terminal.until(lambda t: "one !" in t.lines)


def test_events_by_name(start: Start) -> None:
    terminal = start()
    terminal.send("set events JOB_*,X_NOTHING\rfake start s0\rfake storm 3\rfake end s0\r")
    terminal.until(lambda t: "Job 's0' (stream) completed" in t.text)
    terminal.send("set events off\rfake start s1\rfake end s1\recho ended\r")
    terminal.until(lambda t: "ended" in t.lines)
    assert "was dropped" not in terminal.text
    assert "Job 's1'" not in terminal.text


@pytest.mark.parametrize(("key", "says"), [("d", "Detached"), ("w", "[w]aiting? w")])
def test_one_key_answers_ctrl_c(start: Start, key: str, says: str) -> None:
    terminal = start()
    terminal.send("fake start s0\rwait s0\r")
    terminal.until(lambda t: "running: wait s0" in t.text)
    terminal.send("\x03")
    terminal.until(lambda t: "keep [w]aiting?" in t.text)
    terminal.send("x" + key)  # what is no answer is nothing
    terminal.until(lambda t: says in t.text)


def test_watch_stays_in_its_place_until_ctrl_c(start: Start) -> None:
    terminal = start()
    terminal.send("watch 0.1 history 1\r")
    terminal.until(lambda t: "Ctrl-C ends it" in t.text)
    terminal.send("\x03")
    terminal.until(at_prompt())
    assert terminal.text.count("0  watch 0.1 history 1") == 1


def test_what_does_not_fit_goes_through_the_pager(start: Start) -> None:
    terminal = start(env={"PAGER": "sed s/^/paged:/"})
    terminal.send("help\r")
    terminal.until(lambda t: "paged:quit|q" in t.text)
    terminal.until(at_prompt())
    terminal.send("set pager off\rhelp\r")
    terminal.until(lambda t: "\nquit|q" in t.text)


def test_a_pipe_has_the_terminal(start: Start) -> None:
    terminal = start()
    terminal.send("echo typed | (cat; read x < /dev/tty; echo got $x)\r")
    terminal.until(lambda t: "typed" in t.lines)
    terminal.send("this\r")
    terminal.until(lambda t: "got this" in t.text)
    terminal.until(at_prompt())


def test_losing_data_is_asked_about(start: Start, run: Run, tmp_path: Path) -> None:
    run(typed=CREATE)
    terminal = start("--drive", "if=none,id=d0,file=a.qcow2,format=qcow2")
    terminal.send("block_resize d0 64K\r")
    terminal.until(lambda t: "Do it? [y/N]" in t.text.replace("\n", " "))
    terminal.send("n\r")
    terminal.until(lambda t: "Error: Not done:" in t.text)
    terminal.send("block_resize d0 64K\r")
    terminal.until(lambda t: t.text.replace("\n", " ").count("Do it? [y/N]") == 2)
    terminal.send("y\r")
    terminal.until(at_prompt())
    terminal.send("info block -v d0\r")
    terminal.until(lambda t: "virtual size: 64 KiB" in t.text)
