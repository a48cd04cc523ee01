"""The prompt on real images: what a person does, and what QEMU's tools find afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.terminal import Terminal, at_prompt

Start = Callable[..., Terminal]
DRIVE = "if=none,id=d0,node-name=n0,file=top.qcow2,format=qcow2"


def tool(folder: Path, *words: str) -> None:
    subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def chain(tmp_path: Path, need: Callable[..., None]) -> Path:
    """top.qcow2 over base.qcow2, which has 32 MiB of ones."""
    need("qemu-img", "qemu-io")
    tool(tmp_path, "qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", "64M")
    tool(tmp_path, "qemu-io", "-f", "qcow2", "-c", "write -P 1 0 32M", "base.qcow2")
    overlay = ("-b", "base.qcow2", "-F", "qcow2", "top.qcow2")
    tool(tmp_path, "qemu-img", "create", "-q", "-f", "qcow2", *overlay)
    return tmp_path


def sound(folder: Path, image: str) -> None:
    """qemu-img finds no error in the image."""
    tool(folder, "qemu-img", "check", "-q", image)


def job_row(terminal: Terminal) -> str:
    return next((line for line in terminal.lines if line.startswith(" d0 ")), "")


def test_throttled_stream_in_the_toolbar_then_at_full_speed(start: Start, chain: Path) -> None:
    t = start("--drive", DRIVE)
    t.send("block_stream d0 2M\r")
    t.until(lambda t: re.match(r" d0  stream  running +[1-9]\d*%  .*MiB/s  0:\d\d$", job_row(t)))
    t.send("block_job_set_speed ")
    t.until(lambda t: any(re.match(r" +d0 +stream \d+% running", line) for line in t.lines))
    t.send("d0 0\rwait d0\r")
    t.until("Job 'd0' completed")
    t.until(at_prompt())
    t.until(lambda t: not job_row(t))
    t.send("quit\r")
    assert t.ended() == 0
    sound(chain, "top.qcow2")
    tool(chain, "qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "", "top.qcow2")
    tool(chain, "qemu-img", "compare", "-q", "top.qcow2", "base.qcow2")


def test_overlay_that_the_line_before_made_is_completed(start: Start, chain: Path) -> None:
    t = start("--drive", DRIVE)
    t.send("blockdev-snapshot-sync device=d0 snapshot-file=ov.qcow2 snapshot-node-name=ov7\r")
    t.send("block-stream device=ov")
    t.until(lambda t: any(re.match(r" +ov7 +qcow2 64 ?M\S* rw", line) for line in t.lines))
    t.send("\t")
    t.until(at_prompt("block-stream device=ov7"))


def test_ctrl_c_cancels_the_stream_that_is_waited_for(start: Start, chain: Path) -> None:
    t = start("--drive", DRIVE)
    t.send("block_stream d0 1M\rwait d0\r")
    t.until("running: wait d0")
    t.control("c")
    t.until("[d]etach, [c]ancel job d0, or keep [w]aiting?")
    t.send("c\r")
    t.until("Job 'd0' was cancelled")
    t.until(at_prompt())
    t.control("d")
    assert t.ended() == 0
    sound(chain, "top.qcow2")
    tool(chain, "qemu-img", "compare", "-q", "top.qcow2", "base.qcow2")


def test_a_node_that_nothing_uses_is_reported_when_it_goes(start: Start, chain: Path) -> None:
    t = start("--blockdev", '{"driver": "null-co", "node-name": "n1", "size": 1048576}')
    t.send("blockdev-snapshot-sync node-name=n1 snapshot-file=ov.qcow2 snapshot-node-name=ov\r")
    t.until("Node 'ov' was dropped: nothing uses it")
    t.until(at_prompt())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ended_by_a_signal_leaves_a_sound_image(
    start: Start, chain: Path, number: signal.Signals
) -> None:
    t = start("--drive", DRIVE)
    t.send("block_stream d0 1M\r")
    t.until(lambda t: re.search(r"running +[1-9]", job_row(t)))
    os.kill(t.pid, number)
    t.until(lambda t: t.echoes())
    assert t.ended() == 128 + number
    sound(chain, "top.qcow2")
    tool(chain, "qemu-img", "compare", "-q", "top.qcow2", "base.qcow2")


def test_closed_window_leaves_a_sound_image(start: Start, chain: Path) -> None:
    t = start("--drive", DRIVE)
    t.send("block_stream d0 1M\r")
    t.until(lambda t: re.search(r"running +[1-9]", job_row(t)))
    t.hang_up()
    _, status = os.waitpid(t.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    sound(chain, "top.qcow2")
    tool(chain, "qemu-img", "compare", "-q", "top.qcow2", "base.qcow2")
