"""What a FUSE export needs of the host, and what it makes of a kernel's words."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from monitor.servers.fuse import mounting
from monitor.wire import fuse as f


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounting, "DEVICE", str(tmp_path / "fuse"))
    with pytest.raises(mounting.NoDevice, match="need /dev/fuse"):
        mounting.check()
    (tmp_path / "fuse").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(mounting.NoHelper, match="need the program fusermount3"):
        mounting.check()


def _request(opcode: int, body: bytes) -> bytes:
    return struct.pack("=IIQQIIII", 40 + len(body), opcode, 5, 1, 0, 0, 0, 0) + body


@pytest.mark.parametrize("data", [b"", bytes(39), bytes(40), _request(f.READ, b"")[:-1] + b"xx"])
def test_what_is_no_request(data: bytes) -> None:
    with pytest.raises(f.Malformed):
        f.request(memoryview(data))


def test_bodies_are_checked() -> None:
    for parse in (f.init, f.changes, f.read_range, f.written_data, f.allocation, f.seek):
        with pytest.raises(f.Malformed):
            parse(memoryview(b"short"))
    with pytest.raises(f.Malformed):
        f.read_range(memoryview(struct.pack("=QQI", 0, 0, f.MAX_DATA + 1)))
    with pytest.raises(f.Malformed):
        f.written_data(memoryview(struct.pack("=QQI20x", 0, 0, 2) + b"x"))


def test_lengths_are_those_of_the_kernels_structures() -> None:
    assert len(f.attributes(f.Attributes(1, 2, 3, 4, 5, 6))) == 104
    assert len(f.opened()) == 16
    assert len(f.statfs()) == 80
    assert len(f.written(1)) == 8
    assert len(f.failure(1, 2)) == 16
    old = f.init(memoryview(struct.pack("=IIII", 7, 31, 0, 0)))
    assert len(old) == 64
    with pytest.raises(f.Malformed):
        f.init(memoryview(struct.pack("=IIII", 7, 8, 0, 0)))
