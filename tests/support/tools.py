"""Programs of other projects that tests hold ours against."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

PACKAGES = {
    "fio": "fio",
    "fusermount3": "fuse3",
    "nbdcopy": "libnbd-bin",
    "nbdfuse": "libnbd-bin",
    "nbdinfo": "libnbd-bin",
    "nbdsh": "python3-libnbd",
    "nbdkit": "nbdkit",
    "qemu-img": "qemu-utils",
    "qemu-io": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "qemu-storage-daemon": "qemu-system-common",
    "qemu-system-x86_64": "qemu-system-x86",
    "tmux": "tmux",
}
"""Debian's package of each program."""


def need(*programs: str) -> None:
    """Skips the test, aloud, unless all ``programs`` are installed. (With BLKMON_CI set in the
    environment a skip is a failure: tests/conftest.py.)"""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        packages = sorted({PACKAGES.get(program, program) for program in missing})
        pytest.skip(f"not installed: {', '.join(missing)} (apt install {' '.join(packages)})")


def run(*command: str | Path, timeout: float = 60) -> str:
    """Runs ``command``, which must succeed; its standard output."""
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=timeout
    )
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


def blkmon(*commands: str) -> str:
    """What our monitor prints; all commands succeed."""
    words = [word for command in commands for word in ("-c", command)]
    return run(sys.executable, "-m", "monitor", *words)


def made(folder: Path, commands: Sequence[Sequence[str]]) -> Path:
    """The folder, with what ``commands``, run in it, make there."""
    for command in commands:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=20)
    return folder


def fails(*command: str | Path, timeout: float = 60) -> str:
    """Runs ``command``, which must fail; all that it said."""
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=timeout
    )
    assert result.returncode != 0, f"{command} succeeded: {result.stdout}{result.stderr}"
    return result.stdout + result.stderr
