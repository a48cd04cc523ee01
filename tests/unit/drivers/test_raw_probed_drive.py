"""A drive without a format: the guard is in force on the whole way from the prompt to the disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def monitor(*lines: str) -> subprocess.CompletedProcess[str]:
    script = "\n".join(lines)
    command = [sys.executable, "-m", "monitor"]
    return subprocess.run(command, input=script, capture_output=True, text=True, timeout=60)


def test_guest_cannot_make_a_guessed_disk_another_format(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(65536))
    letters = [f'qemu-io d "write -P {byte:#x} {at} 1"' for at, byte in enumerate(b"QED")]
    result = monitor(f"drive_add 0 if=none,id=d,file={path}", *letters)
    assert "write operations on block 0 will be restricted" in result.stderr
    assert result.stderr.endswith("<stdin>:4: Error: write failed: Operation not permitted\n")
    assert result.returncode == 1
    assert path.read_bytes() == b"QE".ljust(65536, b"\0")
    result = monitor(f"drive_add 0 if=none,id=d,format=raw,file={path}", *letters)
    assert result.returncode == 0, result.stderr
    assert path.read_bytes()[:4] == b"QED\0"
