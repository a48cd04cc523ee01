"""``qemu-io`` prints what qemu-io prints, for the same commands on the same images."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support import tools
from tests.support.hmp import blkmon

DATA = [
    "write -P 0x61 0 64k",
    "read 0 64k",
    "read -P 0x61 0 64k",
    "read -P 0x62 0 64k",
    "read -P 0x61 -s 512 -l 1k 0 4k",
    "read -P 0x62 -s 512 -l 1k 0 4k",
    "read -v 65530 10",
    "read -v 60k 40",
    "read -v -q 0 16",
    "read -q 0 16",
    "read -C 0 512",
    "write -C 4k 512",
    "read -P 0xcd 4k 512",
    "write -z 8k 64k",
    "write -z -u 100k 200k",
    "write -f 300000 7",
    "writev -P 3 1M 512 1k",
    "readv -P 3 1M 512 1k",
    "aio_write -P 9 2M 3k",
    "aio_read -P 9 2M 3k",
    "aio_write -z 2M 1k",
    "aio_flush",
    "flush",
    "discard 64k 64k",
    "discard -q 0 512",
    "read -P 0 8k 1k",
    "read 4M 0",
    "read 0 0",
    "read 010 0x10",
    "read 1.5k 1.",
    "length",
    "map",
    "alloc 0",
    "alloc 0 64k",
    "alloc 60k 2M",
    "alloc 4M",
    "alloc 4095k 2M",
    "map",
]

PAST_THE_END = [
    "read 4M 1",
    "read 4194000 1k",
    "write 4194000 1k",
    "write -z 4M 1",
    "discard 8M 1",
    "readv 8M 512",
    "writev 8M 512",
    "aio_read 8M 1",
    "aio_write 8M 1",
    "read 5E 1",
]

MISTAKES = [
    "foo",
    "read",
    "write 0",
    "write 0 1 2",
    "read -x 0 1",
    "read -a 0 1",
    "write -1 1",
    "read 0 1 -P",
    "read -P 1",
    "read -l 1 0 4k",
    "read -P 1 -l 9k 0 4k",
    "read -s 3 -P 1 0 2",
    "read -s x -P 1 0 2",
    "read -P 300 0 1",
    "write -P abc 0 1",
    "write -P 08 0 1",
    "write -u 0 64k",
    "write -n 0 1",
    "write -z -P 1 0 1",
    "write -b -z 0 1",
    "write -f -c 0 1",
    "write 0 2G",
    "write -z 0 3G",
    "write 0 0x7fffffff",
    "discard 0 3G",
    "read 1M 7E",
    "readv 0 512 2G",
    "read x 1",
    "read 0 1q",
    "read 1.5 1",
    "read '0' 1",
    "read 99999999999999999999 1",
    "read 8E 1",
    "discard 1",
    "discard 1 2 3",
    "flush x",
    "length x",
    "map x",
    "alloc",
    "alloc x",
    "alloc 0 x",
    "alloc 0 1 2",
    "readv 0",
    "aio_write -n 0 1",
    "aio_flush x",
]

IMAGES = {
    "raw": [["qemu-img", "create", "-q", "-f", "raw", "disk", "4M"]],
    "qcow2": [["qemu-img", "create", "-q", "-f", "qcow2", "disk", "4M"]],
    "overlay": [
        ["qemu-img", "create", "-q", "-f", "qcow2", "base", "4M"],
        ["qemu-io", "-f", "qcow2", "-c", "write -P 5 0 3M", "base"],
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "disk"],
    ],
}


@pytest.mark.parametrize("commands", [DATA, PAST_THE_END], ids=["data", "end"])
@pytest.mark.parametrize("kind", IMAGES)
def test_the_output_is_qemu_ios(tmp_path: Path, kind: str, commands: list[str]) -> None:
    compare(tmp_path, kind, commands)


def test_mistakes_are_told_as_qemu_io_tells_them(tmp_path: Path) -> None:
    compare(tmp_path, "raw", MISTAKES)


def compare(tmp_path: Path, kind: str, commands: list[str]) -> None:
    """Types ``commands`` into both; their images are made alike."""
    tools.need("qemu-io", "qemu-img")
    theirs, ours = tmp_path / "qemu", tmp_path / "blkmon"
    for folder in (theirs, ours):
        folder.mkdir()
        tools.made(folder, IMAGES[kind])
    driver = "raw" if kind == "raw" else "qcow2"
    with blkmon(ours) as monitor:
        monitor.type(f"drive_add 0 if=none,id=d0,file=disk,format={driver}")
        for command in commands:
            answer = monitor.type(f'qemu-io d0 "{command}"').replace("\r\n", "\n")
            assert comparable(answer) == comparable(qemu_io(theirs, driver, command)), command


def qemu_io(folder: Path, driver: str, command: str) -> str:
    """What qemu-io prints, wherever it prints it."""
    done = subprocess.run(
        ["qemu-io", "-f", driver, "-c", command, "disk"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=20,
    )
    return done.stdout


def comparable(output: str) -> list[str]:
    """Lines without times. A pattern's failure is told last here, first there."""
    output = re.sub(r"(\d+ ops); .*", r"\1", output)
    output = re.sub(r"(?m)^(\d+,\d+),.*$", r"\1", output)
    lines = output.splitlines()
    return sorted(lines, key=lambda line: not line.startswith("Pattern verification failed"))
