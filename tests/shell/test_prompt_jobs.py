"""Jobs of the engine itself on a real pseudo-terminal: what is said of them, and what to type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Run
from tests.support.terminal import Terminal, at_prompt

Start = Callable[..., Terminal]

DISK = "if=none,id=d0,file=disk.qcow2"
FULL_ONCE = (
    "driver=blkdebug,node-name=full,image.driver=file,image.filename=t.img,"
    "inject-error.0.event=write_aio,inject-error.0.errno=28,inject-error.0.once=on"
)


@pytest.fixture(autouse=True)
def disk(run: Run, tmp_path: Path) -> None:
    fill = f'drive_add 0 {DISK}\nqemu-io d0 "write -q -P 0x61 0 4M"\n'
    made = "create -f qcow2 disk.qcow2 16M\ncreate t.img 16M\n"
    assert run(typed=made + fill).returncode == 0


def row(terminal: Terminal, job: str) -> str:
    return next((line for line in terminal.lines if line.startswith(f" {job} ")), "")


def test_a_full_disk_and_how_to_go_on(start: Start) -> None:
    t = start("--drive", DISK, "--blockdev", FULL_ONCE, columns=120)
    t.send("blockdev-add driver=raw node-name=t file=full\r")
    t.send("blockdev-backup job-id=b0 device=d0 target=t sync=full on-target-error=stop\r")
    why = "write error: No space left on device"
    t.until(f"Job 'b0' (backup) stopped at a {why}; block_job_resume b0 tries again")
    t.until(lambda t: row(t, "b0").endswith(f"  {why}"))
    t.send("info jobs\r")
    t.until(f"stopped at a {why}; waiting for resume")
    t.send("block_job_complete b0\r")
    t.until("block_job_resume b0 lets it go on")
    t.send("block_job_resume ")
    t.until(lambda t: any(line.split()[:2] == ["b0", "backup"] for line in t.lines))
    t.send("\t")
    t.until(at_prompt("block_job_resume b0"))
    t.send("\r")
    t.until("Job 'b0' (backup) completed")
    t.until(lambda t: not row(t, "b0"))


def test_a_mirror_is_ready_while_a_line_is_typed(start: Start) -> None:
    t = start("--drive", DISK, columns=100)
    t.send("drive_mirror -f d0 new.qcow2\rblock_job_com")
    t.until("Job 'd0' (mirror) is ready: block_job_complete d0 finishes it")
    t.until(lambda t: row(t, "d0").endswith("waiting for complete"))
    t.until(at_prompt("block_job_com"))
    t.send("plete d0\r")
    t.until("Job 'd0' (mirror) completed")
    t.send("info block d0\r")
    t.until("): new.qcow2 (qcow2)")


def test_a_mirror_that_is_not_wanted_after_all(start: Start) -> None:
    t = start("--drive", DISK, columns=100)
    t.send("drive_mirror -f d0 new.qcow2\rwait d0\r")
    t.until("Job 'd0' is ready: block_job_complete d0 finishes it")
    t.send("block_job_cancel d0\r")
    t.until("Job 'd0' (mirror) completed: the copy is whole, and not put to use")
    t.send("info block d0\r")
    t.until("): disk.qcow2 (qcow2)")
