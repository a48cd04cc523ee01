"""The prompt on a real pseudo-terminal, as a person sees it; the engine is a fake."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.terminal import Terminal, at_prompt

Start = Callable[..., Terminal]


def test_completes_the_node_that_the_line_before_created(start: Start) -> None:
    t = start()
    t.send("blockdev-add driver=null-co node-name=n7\rblockdev-del node-name=")
    t.until(lambda t: any(re.match(r" +n7 +null-co 64M rw", line) for line in t.lines))
    t.send("\t")
    t.until(at_prompt("blockdev-del node-name=n7"))


def test_completes_only_jobs_that_the_verb_applies_to(start: Start) -> None:
    t = start()
    t.send("fake start s0 s1\rfake ready s1\rjob-complete id=")
    t.until(lambda t: any(re.match(r" +s1 +stream ready", line) for line in t.lines))
    assert not any(re.match(r" +s0 +stream running", line) for line in t.lines)


def test_completes_files_with_what_they_are(start: Start, tmp_path: Path) -> None:
    (tmp_path / "disk one.qcow2").write_bytes(bytes(197 * 1024))
    (tmp_path / "disks").mkdir()
    t = start()
    t.send("source di")
    t.until(lambda t: any(re.match(r" +disk one.qcow2 +197 KiB", line) for line in t.lines))
    t.until(lambda t: any(re.match(r" +disks/ +folder", line) for line in t.lines))


def test_jobs_with_progress_below_the_prompt(start: Start) -> None:
    t = start()
    t.send("fake start s0 b1\rfake advance s0 40\r")
    rows = [
        " s0  stream  running   40%  ━━━━━━━━────────────  10.0 MiB/s  0:04",
        " b1  stream  running    0%  ────────────────────",
    ]
    t.until(lambda t: [line for line in t.lines if re.match(r" (s0|b1) ", line)] == rows)
    t.until(at_prompt())
    t.send("fake end s0\rfake end b1\r")
    t.until(lambda t: not any(re.match(r" (s0|b1) ", line) for line in t.lines))


def test_jobs_stay_visible_while_a_command_runs(start: Start) -> None:
    t = start()
    t.send("fake start s0\rwait s0\r")
    t.until("running: wait s0")
    t.until(lambda t: any(line.startswith(" s0  stream  running") for line in t.lines))


def test_forty_columns(start: Start) -> None:
    t = start(columns=40)
    t.send("fake start s0 s1 s2 s3 s4 s5\rfake advance s0 40\r")
    rows = [
        " s0 stream running  40% 10.0 MiB/s 0:04",
        " s1 stream running   0%",
        " s2 stream running   0%",
        " +3 more: s3, s4, s5",
    ]
    t.until(lambda t: [line for line in t.lines if re.match(r" (s|\+3)", line)] == rows)
    t.until(at_prompt())
    t.send("info b")
    t.until(at_prompt("info b"))
    t.control("c")
    t.until(at_prompt())


def test_resizing_keeps_line_and_jobs(start: Start) -> None:
    t = start()
    t.send("fake start s0\rfake advance s0 40\r")
    t.until("0:04")
    t.send("half")
    t.until(at_prompt("half"))
    t.resize(40, 24)
    t.until(lambda t: " s0 stream running  40% 10.0 MiB/s 0:04" in t.lines)
    t.until(at_prompt("half"))
    t.resize(80, 10)
    t.until(lambda t: any(line.startswith(" s0  stream  running   40%") for line in t.lines))


def test_one_line_above_for_what_matters_of_a_job(start: Start) -> None:
    t = start()
    t.send("fake start s0 s1 s2\rfake ready s0\rfake end s0\rfake fail s1\rjob-cancel id=s2\r")
    t.until("'s2' (stream) was cancelled")
    news = [line for line in t.text.split("\n") if line.startswith(("Job ", "  "))]
    assert news == [
        "Job 's0' (stream) is ready: block_job_complete s0 finishes it",
        "Job 's0' (stream) completed",
        "Job 's1' (stream) failed: No space left on device; block-stream with",
        "  on-error=stop waits for room",  # broken between words
        "Job 's2' (stream) was cancelled",
    ]


def test_typing_under_a_thousand_events_a_second(start: Start) -> None:
    t = start()
    t.send("fake storm 2000\r")
    t.until("Node 'n5' was dropped")
    half = "blockdev-add driver=null-co node-name=typed-under-fire"
    for character in half:
        t.send(character)
    t.until(at_prompt(half))
    t.until("Node 'n1999' was dropped: nothing uses it")
    t.until(at_prompt(half))
    dropped = re.findall(r"^Node 'n(\d+)' was dropped: nothing uses it$", t.text, re.M)
    assert [int(number) for number in dropped] == list(range(2000))
    assert t.text.count("typed-under-fire") == 1, "remains of the line above"
    t.send("\rblockdev-del node-name=typed")
    t.until(lambda t: any(re.match(r" +typed-under-fire +null-co", line) for line in t.lines))


def test_history_search_under_events(start: Start) -> None:
    t = start()
    t.send("echo needle\recho other\rfake storm 1000\r")
    t.until("Node 'n5' was dropped")
    t.control("r")
    t.send("needle")
    t.until("Node 'n999' was dropped")
    t.until(lambda t: "I-search backward: needle" in t.lines)
    t.send("\r")
    t.until(at_prompt("echo "))  # the cursor is on what was found
    t.send("\r")
    t.until(lambda t: t.lines.count("needle") == 1)


def test_menu_under_events(start: Start) -> None:
    t = start()
    t.send("fake storm 1000\r")
    t.until("Node 'n5' was dropped")
    t.send("block_job_p")
    t.until(lambda t: any(re.match(r" +block_job_pause ", line) for line in t.lines))
    t.until("Node 'n999' was dropped")
    t.until(at_prompt("block_job_p"))
    t.until(lambda t: any(re.match(r" +block_job_pause ", line) for line in t.lines))
    t.send("\t\r")
    t.until(at_prompt("block_job_pause"))


def test_ctrl_c_clears_the_line(start: Start) -> None:
    t = start()
    t.send("half a li")
    t.until(at_prompt("half a li"))
    t.control("c")
    t.until(at_prompt())
    t.send("echo alive\r")
    t.until(lambda t: "alive" in t.lines)


def test_sigint_from_elsewhere_is_ctrl_c(start: Start) -> None:
    t = start()
    t.send("half a li")
    t.until(at_prompt("half a li"))
    os.kill(t.pid, signal.SIGINT)
    t.until("half a li^C")
    t.until(at_prompt())


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("d", "Detached: the command goes on and reports when it ends"),
        ("c", "Job 's0' was cancelled"),
        ("\x03", "Detached: the command goes on and reports when it ends"),
    ],
)
def test_ctrl_c_asks_about_the_job_that_is_waited_for(start: Start, answer: str, says: str) -> None:
    t = start()
    t.send("fake start s0 other\rwait s0\r")
    t.until("running: wait s0")
    t.control("c")
    t.until(lambda t: t.current == "[d]etach, [c]ancel job s0, or keep [w]aiting? ")
    t.send(answer)
    t.until(says)
    t.until(at_prompt())
    assert any(line.startswith(" other ") for line in t.lines), "the other job was left alone"
    t.until(lambda t: any(line.startswith(" s0 ") for line in t.lines) is (answer != "c"))


def test_of_several_jobs_each_is_told_when_it_ends(start: Start) -> None:
    t = start()
    t.send("fake start s0 s1 m0\rfake ready m0\rwait\r")
    t.until("running: wait")
    t.control("c")
    t.until("keep [w]aiting?")
    t.send("d")
    t.until(at_prompt())
    t.send("fake end s1\r")
    t.until("Job 's1' (stream) completed")
    t.until(at_prompt())
    t.send("fake end s0\r")
    t.until("Ended: wait")
    news = [line for line in t.text.split("\n") if line.startswith(("Job ", "  "))]
    assert news == [
        "Job 'm0' (stream) is ready: block_job_complete m0 finishes it",
        "Job 's1' (stream) completed",
        "Job 's0' (stream) completed",
        "Job 'm0' is ready: block_job_complete m0 finishes it",  # so the waiting has ended
    ]


def test_a_command_in_the_background(start: Start) -> None:
    t = start()
    t.send("fake start s0\rwait s0 &\r")
    t.until("Detached: the command goes on and reports when it ends")
    t.until(at_prompt())
    t.send("fake later s0 1\r")
    t.until("Job 's0' completed")
    t.until("Ended: wait s0 &")


def test_ctrl_c_then_keep_waiting(start: Start) -> None:
    t = start()
    t.send("fake start s0\rfake later s0 1\rwait s0\r")
    t.until("running: wait s0")
    t.control("c")
    t.until("keep [w]aiting?")
    t.send("w\r")
    t.until(lambda t: "running: wait s0  (Ctrl-C asks)" in t.lines)
    t.send("\x03")
    t.until("keep [w]aiting?")
    t.until("Job 's0' completed")
    t.until(at_prompt())


def test_question_goes_when_the_command_ends(start: Start) -> None:
    t = start()
    t.send("fake start s0\rfake later s0 1\rwait s0\r")
    t.until("running: wait s0")
    t.control("c")
    t.until("keep [w]aiting?")
    t.until(at_prompt())


def test_command_without_a_job_can_be_detached_only(start: Start) -> None:
    t = start()
    t.send("fake hang\r")
    t.until("running: fake hang")
    t.control("c")
    t.until(lambda t: t.current == "The command still runs. [d]etach it, or keep [w]aiting? ")
    t.send("d\r")
    t.until(at_prompt())


def test_ctrl_c_ends_the_reading_of_a_pipe(start: Start, tmp_path: Path) -> None:
    """Nobody writes it: the prompt lives, and the next who reads it gets what is written then."""
    t = start()
    os.mkfifo(tmp_path / "pipe")
    t.send("source pipe\r")
    t.until("running: source pipe")
    t.control("c")
    t.until("Error: 'pipe' was not read to its end: nothing of it was run")
    t.until(at_prompt())
    t.send("source pipe\r")
    t.until(lambda t: t.text.count("running: source pipe") == 1)
    (tmp_path / "pipe").write_text("echo out of\necho the pipe\n")
    t.until("\nout of\nthe pipe")
    t.until(at_prompt())


def test_leaving_waits_for_no_pipe_that_nobody_writes(start: Start, tmp_path: Path) -> None:
    t = start()
    os.mkfifo(tmp_path / "pipe")
    t.send("source pipe &\r")
    t.until("Detached")
    t.send("quit\r")
    assert t.ended() == 0
    assert t.text.endswith("shut down")


@pytest.mark.parametrize("leave", ["\x04", "quit\r"])
def test_leaving_asks_while_jobs_run(start: Start, leave: str) -> None:
    t = start()
    t.send("fake start s0\r" + leave)
    t.until(lambda t: t.current == "Cancel job 's0' and quit? [y/N] ")
    t.send("n\r")
    t.until(at_prompt())
    t.send(leave)
    t.until(lambda t: t.text.count("and quit?") == 2)
    t.send("y\r")
    assert t.ended() == 0
    assert "Job 's0' (stream) was cancelled" in t.lines
    assert t.text.endswith("shut down")


def test_ctrl_d_without_jobs_leaves_at_once(start: Start) -> None:
    t = start()
    t.control("d")
    assert t.ended() == 0
    assert t.text.endswith("blkmon>\nshut down")


def test_json_over_several_lines(start: Start) -> None:
    t = start()
    t.send('blockdev-add {"driver": "null-co",\r')
    t.until(lambda t: t.current == "......> ")
    t.send('"node-name": "n0"}\r')
    t.until(at_prompt())
    t.send("blockdev-del node-name=n")
    t.until(lambda t: any(re.match(r" +n0 +null-co", line) for line in t.lines))


def test_mistake_has_a_caret_below_it_as_it_was_typed(start: Start) -> None:
    t = start()
    t.send("info blok\r")
    t.until("did you mean 'block'?")
    lines = t.lines
    typed = lines.index("blkmon> info blok")
    assert lines[typed + 1] == "             ^^^^"
    assert lines[typed + 2].startswith("Error: unknown command: 'info blok'")


def test_mistake_in_a_line_that_wraps_is_shown_again(start: Start) -> None:
    t = start(columns=40)
    t.send("block_resize a-device-with-a-long-name 10Q\r")
    t.until("Error: ")
    lines = t.text.split("\n")
    caret = next(i for i, line in enumerate(lines) if set(line.strip()) == {"^"})
    assert "10Q" in lines[caret - 1]
    assert lines[caret - 1].index("10Q") <= lines[caret].index("^") < len(lines[caret - 1])


def test_other_output_and_bugs_appear_above(start: Start) -> None:
    t = start()
    t.send("fake print\rfake bug\r")
    t.until("from print")
    t.until("Error: internal error: ZeroDivisionError: a bug (details are in ")
    t.until(at_prompt())


def test_history_of_the_last_session_is_suggested(start: Start) -> None:
    first = start()
    first.enter("echo from before")
    first.control("d")
    first.ended()
    t = start()
    t.send("echo f")
    t.until(lambda t: "blkmon> echo from before" in t.lines)
    t.until(at_prompt("echo f"))
    t.send("\x1b[C\r")
    t.until(lambda t: "from before" in t.lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("busy", [False, True])
def test_ended_by_signal_in_order(start: Start, number: signal.Signals, busy: bool) -> None:
    t = start()
    t.send("fake start s0\r" + ("wait s0\r" if busy else "half"))
    t.until("running: wait" if busy else at_prompt("half"))
    os.kill(t.pid, number)
    t.until("shut down")
    assert t.echoes()
    assert t.ended() == 128 + number
    assert ("Job 's0' was cancelled" if busy else "Job 's0' (stream) was cancelled") in t.lines


def test_closed_window_ends_in_order(start: Start, tmp_path: Path) -> None:
    t = start()
    t.send("fake start s0\r")
    t.until("s0  stream")
    t.hang_up()
    _, status = os.waitpid(t.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP


def test_terminal_is_as_before_after_quit(start: Start) -> None:
    t = start()
    assert not t.echoes()
    t.send("quit\r")
    t.until("shut down")
    assert t.echoes()
    assert b"\x1b[?2004l" in t.written[t.written.rindex(b"\x1b[?2004h") :], "bracketed paste off"
    assert b"\x1b[?25h" in t.written, "cursor shown"


def test_second_signal_ends_at_once_and_restores_the_terminal(start: Start) -> None:
    t = start()
    t.send("fake stuck\rfake start s0\r")
    t.until("s0  stream")
    os.kill(t.pid, signal.SIGTERM)
    t.until("'s0' (stream) was cancelled")
    t.control("c")
    t.until("Closing: waiting for disks")
    os.kill(t.pid, signal.SIGTERM)
    t.until(lambda t: t.echoes())
    assert t.ended() == 128 + signal.SIGTERM


def test_drawing_that_fails_ends_in_order(start: Start) -> None:
    t = start()
    t.send("fake spoil s0\r")
    t.until("shut down")
    assert t.echoes()
    assert "ZeroDivisionError" in t.text
    assert t.ended() == 1


@pytest.mark.parametrize(("status", "line"), [(0, "echo edited"), (1, "ec")])
def test_line_in_the_editor(start: Start, tmp_path: Path, status: int, line: str) -> None:
    editor = tmp_path / "editor"
    editor.write_text(f'#!/bin/sh\necho "echo edited" > "$1"\nexit {status}\n')
    editor.chmod(0o755)
    t = start(env={"EDITOR": str(editor), "VISUAL": str(editor)})
    t.send("ec")
    t.until(at_prompt("ec"))
    t.control("x")
    t.control("e")
    t.until(lambda t: t.written.count(b"blkmon>") >= 2 and at_prompt(line)(t))


def test_no_color(start: Start) -> None:
    t = start(env={"NO_COLOR": "1"})
    t.send("fake start s0\rinfo blok\r")
    t.until("Error: ")
    t.send('block_resize d0 10M "x" --y # z')
    t.until("# z")
    colours = re.findall(rb"\x1b\[([\d;]*)m", t.written)
    assert not [c for c in colours if re.search(rb"\b([34]\d|9\d|10\d)\b", c)]


def test_colours(start: Start) -> None:
    t = start()
    t.send("info blok\r")
    t.until("Error: ")
    assert re.search(rb"\x1b\[[\d;]*31m", t.written), "errors are red"


def test_dumb_terminal_gets_text_only(start: Start) -> None:
    t = start(env={"TERM": "dumb"})
    t.enter("echo hello")
    assert "hello" in t.lines
    t.enter("fake start s0")
    t.send("echo begun ; wait s0\r")
    t.until(lambda t: "begun" in t.lines)
    t.control("c")
    t.until("keep [w]aiting?")
    t.send("c\r")
    t.until("Job 's0' was cancelled")
    t.until(at_prompt())
    t.send("half a li")
    t.until(at_prompt("half a li"))
    t.control("c")
    t.until(lambda t: "blkmon> half a li^C" in t.lines and at_prompt()(t))
    t.send('blockdev-add {"driver": "null-co",\r')
    t.until(lambda t: t.current == "......> ")
    t.control("c")
    t.until(at_prompt())
    t.control("d")
    assert t.ended() == 0
    assert b"\x1b" not in t.written
