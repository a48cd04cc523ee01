"""qemu-io's lines about a request, as qemu-io 7.2 prints them."""

from __future__ import annotations

import pytest

from monitor.commands.io.report import dump, report, size_text, time_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 bytes"),
        (40, "40 bytes"),
        (0.217659, "0.217659 bytes"),
        (204.640794, "204.640794 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.500 KiB"),
        (64 << 10, "64 KiB"),
        (75988205, "72.468 MiB"),
        (1 << 30, "1 GiB"),
        (3 << 60, "3 EiB"),
    ],
)
def test_sizes(value: float, text: str) -> None:
    assert size_text(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "00.00 sec"), (0.25, "00.25 sec"), (2.5, "0:00:02.50"), (2352.3, "0:39:12.30"),
     (3600.0, "1:00:00.00")],
)  # fmt: skip
def test_times(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_a_report() -> None:
    assert report("wrote", 512, 65536, 65536, 0.25) == (
        "wrote 65536/65536 bytes at offset 512\n"
        "64 KiB, 1 ops; 00.25 sec (256 KiB/sec and 4.0000 ops/sec)"
    )


def test_a_report_for_programs() -> None:
    assert report("read", 0, 512, 512, 0.5, machine=True) == "512,1,0:00:00.50,1024.000,2.000"


def test_a_clock_that_did_not_move() -> None:
    assert "1 ops; 00.00 sec" in report("read", 0, 0, 0, 0.0)


def test_a_dump() -> None:
    data = b"a !~Z09_-\x7f\x80\xe9" + b"b" * 8
    assert list(dump(data, 65530)) == [
        "0000fffa:  61 20 21 7e 5a 30 39 5f 2d 7f 80 e9 62 62 62 62  a...Z09.....bbbb",
        "0001000a:  62 62 62 62  bbbb",
    ]
