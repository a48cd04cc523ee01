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


OPENS = """\
drive_add 0 if=none,id=d0,file=top.qcow2
qemu-io d0 "write -q -P 0x33 0 64k"
info blockstats
create -f qcow2 new.qcow2 4M
drive_add 0 if=none,id=d1,file=new.qcow2
snapshot_blkdev d0 over.qcow2
drive_backup -f d0 copy.qcow2
wait
blockdev-add driver=qcow2 node-name=c file.driver=file file.filename=copy.qcow2
qemu-io c "read -P 0x33 0 64k"
qemu-io c "read -P 0x22 1M 64k"
blockdev-add driver=raw node-name=r file.driver=file file.filename=r,1.img
"""


def test_a_recording_keeps_the_images_that_its_commands_open(run: Run, tmp_path: Path) -> None:
    made = "create -f qcow2 base.qcow2 8M\ncreate -f qcow2 -b base.qcow2 -F qcow2 top.qcow2\n"
    fill = 'drive_add 0 if=none,id=d,file=top.qcow2\nqemu-io d "write -q -P 0x22 1M 64k"\n'
    assert run(typed=f'{made}{fill}create "r,1.img" 1M\n').returncode == 0
    assert run("--record", "story.blkmon", typed=OPENS).returncode == 0
    head, _, entries = (tmp_path / "story.blkmon").read_text().partition("blkmon> ")
    assert head.splitlines() == [
        "image base.qcow2 qcow2 8388608",
        "image top.qcow2 qcow2 8388608 backing=base.qcow2 backing-format=qcow2",
        "    write -P 0x22 1048576 65536",
        "image r,1.img raw 1048576",
    ]
    assert entries.startswith("drive_add 0 if=none,id=d0,file=top.qcow2\nOK\n")
    ended = run("--replay", "story.blkmon")
    assert (ended.returncode, ended.stdout) == (0, "")


def test_an_image_in_the_head_leaves_what_was_typed_before_alone(run: Run, tmp_path: Path) -> None:
    """The lines are moved then, a carriage return in one of them too."""
    assert run(typed=CREATE).returncode == 0
    (tmp_path / "s").write_bytes(b'echo "a\rb"\n' + OPEN.encode())
    assert run("--record", "r", "s").returncode == 0
    recorded = (tmp_path / "r").read_bytes()
    assert recorded.startswith(b"image ")
    assert b'blkmon> echo "a\rb"\n' in recorded
    ended = run("--replay", "r")
    assert (ended.returncode, ended.stdout) == (0, "")


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
