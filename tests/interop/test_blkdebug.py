"""blkdebug beside qemu-io: the same rules, the same requests, the same words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import tools

RULES = {
    "once": '[inject-error]\nevent = "read_aio"\nerrno = "28"\nonce = "on"\n',
    "sector": '[inject-error]\nevent = "write_aio"\nsector = "2"\n',
    "states": (
        '[inject-error]\nevent = "l2_load"\nstate = "2"\n\n'
        '[set-state]\nevent = "write_aio"\nstate = "1"\nnew_state = "2"\n'
    ),
    "flush": '[inject-error]\nevent = "flush_to_disk"\niotype = "flush"\nonce = "on"\n',
    "wrong event": '[inject-error]\nevent = "bogus"\n',
    "no event": '[inject-error]\nerrno = "5"\n',
}
SUBTLE = {
    "each flush": '[inject-error]\nevent = "none"\niotype = "flush"\n',
    "reads, at once": (
        '[inject-error]\nevent = "none"\niotype = "read"\nimmediately = "on"\nerrno = "28"\n'
    ),
    "zeroes": '[inject-error]\nevent = "none"\niotype = "write-zeroes"\nerrno = "95"\n',
    "discards": '[inject-error]\nevent = "none"\niotype = "discard"\nerrno = "13"\n',
    "where data is": '[inject-error]\nevent = "none"\niotype = "block-status"\n',
    "one after the other": (
        '[inject-error]\nevent = "none"\niotype = "write"\nerrno = "28"\nonce = "on"\n\n'
        '[inject-error]\nevent = "none"\niotype = "write"\nerrno = "1"\nonce = "on"\n'
    ),
    "none for a sector": (
        '[inject-error]\nevent = "none"\nsector = "1"\nerrno = "0"\n\n'
        '[inject-error]\nevent = "none"\niotype = "write"\nerrno = "28"\n'
    ),
    "a sector beyond 64 bits": (
        '[inject-error]\nevent = "none"\nsector = "36028797018963968"\niotype = "write"\n'
    ),
    "states in turn": (
        '[set-state]\nevent = "pwritev"\nstate = "1"\nnew_state = "2"\n\n'
        '[set-state]\nevent = "pwritev"\nstate = "2"\nnew_state = "3"\n\n'
        '[inject-error]\nevent = "pwritev"\nstate = "3"\nerrno = "28"\n'
    ),
    "no option": '[inject-error]\nevent = "none"\nnonsense\n',
    "a wrong option": '[inject-error]\nevent="none"\n',
    "a wrong number": '[inject-error]\nevent = "none"\nerrno = "x"\n',
    "a blank line of blanks": '[inject-error]\nevent = "none"\n  \n',
}
"""What depends on when a format writes its tables, which is another time here: on raw only."""
REQUESTS = (
    "flush",
    "read -q 0 512",
    "read -q 0 512",
    "write -q 0 4096",
    "write -q 512 512",
    "write -q 1M 64k",
    "read -q 1M 64k",
    "write -qf 0 512",
    "write -qf 0 512",
    "write -qz 2M 64k",
    "write -qzu 2M 64k",
    "discard -q 2M 64k",
    "flush",
    "flush",
)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
def test_the_same_requests_fail(tmp_path: Path, name: str, fmt: str) -> None:
    check(tmp_path, RULES[name], fmt)


@pytest.mark.parametrize("name", SUBTLE)
def test_each_option(tmp_path: Path, name: str) -> None:
    check(tmp_path, SUBTLE[name], "raw")


def check(tmp_path: Path, text: str, fmt: str) -> None:
    tools.need("qemu-img", "qemu-io")
    rules = tmp_path / "rules"
    rules.write_text(text)
    images = [tmp_path / "ours", tmp_path / "theirs"]
    for image in images:
        tools.run("qemu-img", "create", "-q", "-f", fmt, image, "4M")
    ours, theirs = (f"blkdebug:{rules}:{image}" for image in images)
    assert _ours(fmt, ours) == _theirs(fmt, theirs)


def _theirs(fmt: str, name: str) -> list[str]:
    words = [word for request in REQUESTS for word in ("-c", request)]
    return _said(
        "qemu-io",
        "-t",
        "writeback",
        "-f",
        fmt,
        *words,
        name,
        before=f"qemu-io: can't open device {name}: ",
    )


def _ours(fmt: str, name: str) -> list[str]:
    lines = [f"drive_add 0 if=none,id=d,discard=unmap,format={fmt},file={name}"]
    lines += [f'qemu-io d "{request}"' for request in REQUESTS]
    words = [word for line in lines for word in ("-c", line)]
    said = _said(sys.executable, "-m", "monitor", "--keep-going", *words, before="Error: ")
    return said[1:] if said[0] == "OK" else said[:1]


def _said(*command: str, before: str) -> list[str]:
    """What a program prints, errors in their place and without what it says before them."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
    )
    lines = [line for line in done.stdout.splitlines() if line]
    lines = [line for line in lines if "flush failed" not in line]  # which QEMU keeps to itself
    return [line.partition(before)[2] or line for line in lines]
