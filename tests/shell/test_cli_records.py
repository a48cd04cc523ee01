"""Recordings and replays by the command line."""

from __future__ import annotations

from pathlib import Path

from tests.support.cli import CREATE, OPEN, Run

STORY = CREATE + OPEN + 'qemu-io d0 "write -P 7 0 64k"\n-drive_del d9\ninfo block\n'


def test_a_transcript_that_is_not_there(run: Run) -> None:
    ended = run("--replay", "nowhere")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "blkmon: Could not open 'nowhere': No such file or directory\n"


def test_a_recording_replays_as_it_is(run: Run, tmp_path: Path) -> None:
    assert run("--record", "story.blkmon", typed=STORY).returncode == 0
    ended = run("--replay", "story.blkmon", "story.blkmon")
    assert (ended.returncode, ended.stdout) == (0, "")


def test_a_recording_keeps_the_disks_of_the_command_line(run: Run, tmp_path: Path) -> None:
    disk = "driver=null-co,node-name=n0,size=65536"
    assert run("--blockdev", disk, "--record", "r", typed='qemu-io n0 "length"\n').returncode == 0
    assert (tmp_path / "r").read_text() == (
        f'blockdev {disk}\nblkmon> qemu-io n0 "length"\n64 KiB\n'
    )
    assert run("--replay", "r").returncode == 0


def test_a_changed_character_shows_in_a_diff(run: Run, tmp_path: Path) -> None:
    run("--record", "story.blkmon", typed=STORY)
    path = tmp_path / "story.blkmon"
    path.write_text(path.read_text().replace("wrote 65536/", "wrote 65537/"))
    changed = path.read_text()
    ended = run("--replay", "story.blkmon")
    assert ended.returncode == 1
    assert ended.stdout.startswith("story.blkmon:5: the replay differs\n--- story.blkmon\n")
    assert "\n-wrote 65537/65536 bytes" in ended.stdout
    assert "\n+wrote 65536/65536 bytes" in ended.stdout
    assert path.read_text() == changed
    assert run("--replay", "--update", "story.blkmon").returncode == 0
    assert path.read_text() == changed.replace("wrote 65537/", "wrote 65536/")
    assert run("--replay", "story.blkmon").returncode == 0


def test_a_recording_replaces_no_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r").write_text("precious")
    ended = run("--record", "r", "-c", "echo x")
    assert ended.returncode == 1
    assert ended.stderr == "blkmon: Cannot record into 'r': File exists\n"
    assert (tmp_path / "r").read_text() == "precious"


def test_what_is_no_transcript(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r").write_text("imag a.qcow2 qcow2 1M\nblkmon> echo x\nx\n")
    ended = run("--replay", "r")
    assert ended.returncode == 3
    assert ended.stderr.startswith("r:1: Error: 'imag' is no fixture")
