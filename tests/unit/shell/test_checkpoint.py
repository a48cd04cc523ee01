"""``--checkpoint`` and ``--resume``: what is done is not done again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from monitor.options import parse_arguments

ROOT = Path(__file__).parents[3]

SCRIPT = """\
set size 1M
create -f raw a.img $size
# Fails until there is a folder.
create -f raw sub/b.img $size
create -f raw c.img $size
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "monitor", "--checkpoint", "ck", *arguments],
        cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_it_goes_on_where_it_failed(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(SCRIPT)
    first = run(tmp_path, "s")
    assert (first.returncode, first.stderr.split(":")[:2]) == (1, ["s", "4"])
    assert run(tmp_path, "--resume", "s").returncode == 1
    (tmp_path / "a.img").unlink()
    (tmp_path / "sub").mkdir()
    # Comments and what is to come may change.
    (tmp_path / "s").write_text("# New.\n" + SCRIPT.replace("c.img", "d.img"))
    assert run(tmp_path, "--resume", "s").returncode == 0
    assert not (tmp_path / "a.img").exists()
    assert (tmp_path / "sub/b.img").stat().st_size == 1 << 20  # the variable is known again
    assert (tmp_path / "d.img").exists()
    # All is done: nothing more happens.
    (tmp_path / "d.img").unlink()
    assert run(tmp_path, "--resume", "s").returncode == 0
    assert not (tmp_path / "d.img").exists()


def test_a_done_part_that_has_changed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(SCRIPT)
    run(tmp_path, "s")
    (tmp_path / "s").write_text(SCRIPT.replace("a.img", "z.img"))
    refused = run(tmp_path, "--resume", "s")
    assert refused.returncode == 1
    assert (
        "cannot resume from 'ck': the script's first 2 commands, which are done, have changed"
        in (refused.stderr)
    )
    (tmp_path / "s").write_text("set size 1M\n")
    assert "2 commands are done, and the script has 1" in run(tmp_path, "--resume", "s").stderr


def test_a_sourced_file_counts_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "inner").write_text("create -f raw a.img 1M\n")
    (tmp_path / "s").write_text("source inner\ncreate -f raw sub/b.img 1M\n")
    run(tmp_path, "s")
    assert "have changed" not in run(tmp_path, "--resume", "s").stderr
    (tmp_path / "inner").write_text("create -f raw a.img 2M\n")
    assert "have changed" in run(tmp_path, "--resume", "s").stderr


WITH_DRIVE = """\
create -f qcow2 a.qcow2 1M
drive_add 0 if=none,id=d0,file=a.qcow2,format=qcow2
snapshot_blkdev d0 b.qcow2
drive_del nothing
qemu-io d0 "write -q -P 7 0 64k"
"""


def test_what_was_open_has_to_be_open(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(WITH_DRIVE)
    run(tmp_path, "s")
    (tmp_path / "s").write_text(WITH_DRIVE.replace("drive_del nothing\n", ""))
    refused = run(tmp_path, "--resume", "s")
    assert "drive 'd0' (b.qcow2) was open then" in refused.stderr
    # The base in the overlay's place: the rest would write into it.
    base = "if=none,id=d0,file=a.qcow2,format=qcow2"
    refused = run(tmp_path, "--resume", "--drive", base, "s")
    assert "drive 'd0' showed 'b.qcow2' then, and shows 'a.qcow2'" in refused.stderr
    overlay = "if=none,id=d0,file=b.qcow2,format=qcow2"
    ended = run(tmp_path, "--resume", "--drive", overlay, "s", "-c", "info block")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("d0")


def test_no_checkpoint_while_a_job_runs(tmp_path: Path) -> None:
    """Broken off while the job runs, the job is begun again."""
    (tmp_path / "s").write_text(
        "create -f qcow2 a.qcow2 1M\n"
        "drive_add 0 if=none,id=d0,file=a.qcow2,format=qcow2\n"
        'qemu-io d0 "write -q -P 7 0 1M"\n'
        "snapshot_blkdev d0 b.qcow2\n"
        "block_stream d0 1\n"
        "echo begun\n"
        "drive_del nothing\n"
    )
    run(tmp_path, "s")
    overlay = "if=none,id=d0,file=b.qcow2,format=qcow2"
    ended = run(tmp_path, "--resume", "--drive", overlay, "s")
    assert "begun" in ended.stdout


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("echo x\n")
    (tmp_path / "ck").write_text("{}")
    assert "cannot resume from 'ck': it is no checkpoint" in run(tmp_path, "--resume", "s").stderr
    (tmp_path / "ck").unlink()
    assert run(tmp_path, "--resume", "s").stdout == "x\n"


def test_a_checkpoint_that_cannot_be_kept_ends_the_script(tmp_path: Path) -> None:
    (tmp_path / "ck").mkdir()
    (tmp_path / "s").write_text("echo x\necho y\n")
    ended = run(tmp_path, "s")
    assert (ended.returncode, ended.stdout) == (1, "x\n")
    assert "the checkpoint cannot be kept: Is a directory" in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--resume", "s"], ["--checkpoint", "ck"], ["--checkpoint", "ck", "-"]],
)
def test_it_is_for_scripts(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(arguments)
    assert ended.value.code == 2
    assert "--checkpoint" in capsys.readouterr().err
