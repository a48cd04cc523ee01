"""Replays of whole files: what is shown of a difference, and what an update leaves alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.shell.masks import ANY_LINES
from monitor.shell.replay import Replayed, replay, replay_file, replay_files
from monitor.shell.transcript import is_free, parse_transcript


def played(text: str, *, whole: bool = True) -> Replayed:
    """Replays a text that needs no files."""
    return asyncio.run(replay(parse_transcript(text, "s"), "/nowhere", whole=whole))


def test_a_replay_ends_with_the_phase_that_differs() -> None:
    story = """\
# First.
blkmon> echo a
a

# Second, over
# two lines.
blkmon> echo b
x
blkmon> echo c
y

# Third.
blkmon> echo d
z
"""
    report = played(story, whole=False).diff().splitlines()
    assert report[0] == "s:8: the replay differs: Second, over two lines."
    changes = [line for line in report[3:] if line[0] in "+-"]
    assert changes == ["-x", "+b", "-y", "+c"]
    assert [p.actual for p in played(story, whole=False).played] == [["a"], ["b"], ["c"]]
    assert len(played(story).played) == 4


def test_a_file_that_was_there_before_the_session_is_named() -> None:
    session = "blkmon> drive_add 0 if=none,id=d0,file=a.qcow2\n"
    hint = played(f"{session}OK\n").diff().splitlines()[1]
    assert hint.startswith("A replay begins in an empty folder: if 'a.qcow2' was there before")
    told = "Could not open 'a.qcow2': No such file or directory\n[failed]\n"
    report = played(f"{session}{told}blkmon> echo a\nb\n").diff()
    assert "empty folder" not in report


# An echo's answer, and what a transcript may expect of it: masked, commented, plainly wrong.
ANSWERS = st.sampled_from(["n1", "n2", "64k", "a 64 KiB b", "0.5 s", "# x", "[..]", "..."])
EXPECTED = st.sampled_from(
    [
        "n1", "n2", "[NODE:a]", "[NODE:b]  ", "[SIZE]", "[..]", "a [SIZE] b", "[TIME]", "...",
        "# note", "", "   ", "\\# x", "\\[..]", "\\...", "[failed]", "wrong",
    ]
)  # fmt: skip
BLOCKS = st.lists(st.tuples(ANSWERS, st.lists(EXPECTED, max_size=4)), min_size=1, max_size=5)


@given(BLOCKS)
def test_an_update_keeps_what_matches_and_a_second_one_everything(
    blocks: list[tuple[str, list[str]]],
) -> None:
    text = "".join(
        f"blkmon> echo {answer}\n" + "".join(f"{line}\n" for line in expected)
        for answer, expected in blocks
    )
    first = played(text)
    lines = first.lines
    for before, after, done in zip(
        first.transcript.blocks,
        parse_transcript("\n".join(lines) + "\n", "s").blocks,
        first.played,
        strict=True,
    ):
        assert after.match(done.actual, done.bindings) is not None
        if before.match(done.actual, done.bindings) is not None:
            assert after.expected == before.expected
        free = [line for line in before.expected if is_free(line) or line == ANY_LINES]
        assert [line for line in after.expected if line in free] == free
    assert played("\n".join(lines) + "\n").lines == lines


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("at_end", [True, False])
def test_an_update_writes_what_differs_and_not_a_byte_else(
    tmp_path: Path, newline: str, at_end: bool
) -> None:
    before = ["# Trailing blanks:  ", "blkmon> echo x y", "x [..]  ", "", "blkmon> echo z", "q"]
    path = tmp_path / "s.blkmon"
    path.write_bytes((newline.join(before) + newline * at_end).encode())
    path.chmod(0o640)
    assert replay_files([str(path)], update=True) == 0
    after = [*before[:-1], "z"]
    assert path.read_bytes() == (newline.join(after) + newline * at_end).encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["s.blkmon"]


SCRIPT = """\
create -f qcow2 base.qcow2 4M
create -f qcow2 -b base.qcow2 -F qcow2 one.qcow2
create -f qcow2 -b base.qcow2 -F qcow2 two.qcow2
drive_add 0 if=none,id=w,file=base.qcow2,format=qcow2
qemu-io w "write -P 7 0 4M"
drive_del w
drive_add 0 if=none,id=one,file=one.qcow2,format=qcow2
drive_add 0 if=none,id=two,file=two.qcow2,format=qcow2
info block one
block_stream one 1M
block_stream two
info jobs
step two
step 2
info jobs
-wait one --timeout 1
-block_job_cancel two
wait
info block-jobs
query-block-jobs
query-blockstats
qemu-io one "read -P 7 0 4M"
-drive_del nothing
"""


def test_a_recording_with_concurrent_jobs_replays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "script").write_text(SCRIPT)
    recording = tmp_path / "r.blkmon"
    status, said = monitor(tmp_path, "--record", str(recording), "script")
    assert status == 0, said
    text = recording.read_text()
    assert "Job 'one' has not ended after 1 s" in text
    assert "[TIME]" not in text
    for _ in range(2):
        replayed = replay_file(str(recording), whole=True)
        assert not replayed.differs, replayed.diff()


def monitor(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    root = Path(__file__).parents[3]
    ended = subprocess.run(
        [sys.executable, "-m", "monitor", *arguments],
        cwd=folder, env={"PYTHONPATH": str(root), **environment}, timeout=60,
        capture_output=True, text=True,
    )  # fmt: skip
    return ended.returncode, ended.stdout + ended.stderr


DISKS = """\
create -f qcow2 -o cluster_size=4k,compat=0.10 base.qcow2 4M
create -f qcow2 -b base.qcow2 -F qcow2 "top image.qcow2"
create -f raw noise.img 1M
drive_add 0 if=none,id=b,file=base.qcow2,format=qcow2
qemu-io b "write -P 7 0 1M"
drive_del b
drive_add 0 "if=none,id=t,file=top image.qcow2,format=qcow2"
qemu-io t "write -P 8 512 1024"
qemu-io t "write -z 512k 64k"
"""
USE = """\
info block
qemu-io d0 "read -P 8 512 1024"
qemu-io d0 "read -P 7 64k 448k"
qemu-io d0 "read -P 0 512k 64k"
qemu-io d0 "map"
block_stream d0
wait
info graph
"""


def test_a_recording_brings_the_images_of_its_disks(tmp_path: Path) -> None:
    (tmp_path / "make").write_text(DISKS)
    (tmp_path / "use").write_text(USE)
    status, said = monitor(tmp_path, "make")
    assert status == 0, said
    top = tmp_path / "top image.qcow2"
    disk = f"if=none,id=d0,file={top},format=qcow2"
    status, said = monitor(tmp_path, "--drive", disk, "--record", "r.blkmon", "use")
    assert status == 0, said
    text = (tmp_path / "r.blkmon").read_text()
    assert text.startswith("image base.qcow2 qcow2 4194304 compat=0.10 cluster_size=4096\n")
    assert "image 'top image.qcow2' qcow2 4194304 backing=base.qcow2 backing-format=qcow2\n" in text
    assert "    write -P 0x08 512 1024\n" in text
    top.unlink()
    assert monitor(tmp_path, "--replay", "r.blkmon") == (0, "r.blkmon: matches\n")


@pytest.mark.parametrize("yes", [True, False])
def test_a_question_is_answered_as_it_was(tmp_path: Path, yes: bool) -> None:
    (tmp_path / "s").write_text("create -f raw a.img 2M\n-create -f raw a.img 1M\n")
    (tmp_path / "t").write_text(
        'drive_add 0 if=none,id=d0,file=a.img,format=raw\nqemu-io d0 "write -P 1 0 1M"\n'
        "-block_resize d0 512k\nqemu-io d0 length\n"
    )
    options = ["-y"] if yes else []
    status, said = monitor(tmp_path, *options, "--record", "r.blkmon", "s", "t")
    assert status == 0, said
    assert ("Not done: " in said) is not yes
    assert monitor(tmp_path, "--replay", "r.blkmon") == (0, "r.blkmon: matches\n")


def test_a_recording_says_what_it_cannot_keep(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "noise.img").write_bytes(bytes(range(256)) * 4096)
    (tmp_path / "far.img").write_bytes(bytes(512))
    disks = ["--drive", "if=none,id=n,file=noise.img,format=raw"]
    disks += ["--drive", "if=none,id=f,file=../far.img,format=raw"]
    status, said = monitor(tmp_path / "here", *disks, "--record", "r.blkmon", "-c", "echo x")
    assert status == 0, said
    head = (tmp_path / "here" / "r.blkmon").read_text().splitlines()[:5]
    assert "image noise.img raw 1048576" in head
    assert "# What noise.img holds is not kept: it is too much to tell." in head
    assert "# ../far.img lies elsewhere, and is not kept." in head


def test_times_of_day_are_the_same_everywhere(tmp_path: Path) -> None:
    story = tmp_path / "s.blkmon"
    story.write_text(
        "image a.qcow2 qcow2 1M\ndrive if=none,id=d0,file=a.qcow2,format=qcow2\n\n"
        "blkmon> savevm s\n"
        "blkmon> info snapshots\n...\n[..] 2020-01-01 00:00:00 [..]\n"
    )
    status, said = monitor(tmp_path, "--replay", str(story), TZ="Asia/Kathmandu")
    assert status == 0, said
