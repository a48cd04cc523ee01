"""``qemu-io``: what each command asks of the engine, prints, and refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from monitor.commands.errors import Verbatim
from monitor.commands.io import run as io_run
from monitor.commands.io.run import IoFailed
from monitor.commands.io.words import IoMistake
from monitor.engine.errors import DeviceNotFound, HostFailure
from monitor.engine.schema.base import Request
from monitor.engine.schema.extra import IoExtent, IoRequest, IoResult
from tests.support.commands import AnsweringEngine, FakeSession, run, typed

DONE = IoResult(bytes=65536, seconds=0.25)


def io(
    text: str, answer: IoResult | Exception | Callable[[IoRequest], Any] = DONE
) -> tuple[str, list[Request]]:
    return typed(f'qemu-io d0 "{text}"', {IoRequest: answer})


def request(operation: Any, **arguments: Any) -> IoRequest:
    return IoRequest(device="d0", operation=operation, **arguments)


SPAN: dict[str, Any] = {"offset": 0, "length": 65536}


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("read 0 64k", request("read", **SPAN)),
        ("r 0 64k", request("read", **SPAN)),
        ("readv 0 60k 4k", request("read", **SPAN)),
        ("aio_read 0 64k", request("read", **SPAN)),
        (
            "read -P 0x61 0 64k",
            request("read", **SPAN, pattern=0x61, pattern_offset=0, pattern_length=65536),
        ),
        (
            "read -P 1 -s 512 -l 1k 0 64k",
            request("read", **SPAN, pattern=1, pattern_offset=512, pattern_length=1024),
        ),
        (
            "read -P 1 -s 512 0 64k",
            request("read", **SPAN, pattern=1, pattern_offset=512, pattern_length=65024),
        ),
        ("write 0 64k", request("write", **SPAN, pattern=0xCD)),
        ("write -f -P 3 0 64k", request("write", **SPAN, pattern=3, fua=True)),
        ("writev 0 64k", request("write", **SPAN, pattern=0xCD)),
        ("write -z 0 64k", request("zero", **SPAN)),
        ("aio_write -z -u 0 64k", request("zero", **SPAN, may_unmap=True)),
        ("discard 0 64k", request("discard", **SPAN)),
        ("flush", request("flush")),
        ("aio_flush", request("flush")),
        ("length", request("length")),
        ("map", request("map")),
        ("alloc 0", request("alloc", offset=0, length=512)),
        ("alloc 0 64k", request("alloc", **SPAN)),
    ],
)
def test_what_is_asked(text: str, asked: IoRequest) -> None:
    assert io(text)[1] == [asked]


REPORT = "64 KiB, 1 ops; 00.25 sec (256 KiB/sec and 4.0000 ops/sec)"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("read 0 64k", f"read 65536/65536 bytes at offset 0\n{REPORT}"),
        ("write 512 64k", f"wrote 65536/65536 bytes at offset 512\n{REPORT}"),
        ("write -z 0 64k", f"wrote 65536/65536 bytes at offset 0\n{REPORT}"),
        ("discard 0 64k", f"discard 65536/65536 bytes at offset 0\n{REPORT}"),
        ("read -q 0 64k", ""),
        ("write -C 0 64k", "65536,1,0:00:00.25,262144.000,4.000"),
        ("write -q -C 0 64k", ""),
        ("flush", ""),
        ("", ""),
    ],
)
def test_what_is_printed(text: str, printed: str) -> None:
    assert io(text)[0] == printed


def test_length() -> None:
    assert io("length", IoResult(length=3 << 19))[0] == "1.500 MiB"


def test_map() -> None:
    extents = [
        IoExtent(offset=0, length=65536, allocated=True),
        IoExtent(offset=65536, length=1 << 20, allocated=False),
    ]
    assert io("map", IoResult(extents=extents))[0] == (
        "64 KiB (0x10000) bytes     allocated at offset 0 bytes (0x0)\n"
        "1 MiB (0x100000) bytes not allocated at offset 64 KiB (0x10000)"
    )


def test_alloc_counts_what_lies_in_the_image() -> None:
    answer = IoResult(allocated=4096, length=1 << 20)
    assert io("alloc 64k 2M", answer)[0] == "4096/1048576 bytes allocated at offset 64 KiB"
    assert io("alloc 0 1k", IoResult(allocated=0))[0] == "0/1024 bytes allocated at offset 0 bytes"


def test_a_dump_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io_run, "MAX_DUMP", 16)

    def answer(asked: IoRequest) -> IoResult:
        if asked.want_data:
            return IoResult(data=b"a" * int(asked.length or 0))
        return DONE

    text, requests = io("read -v 16 20", answer)
    assert text.splitlines()[:2] == [
        "00000010:  61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61  aaaaaaaaaaaaaaaa",
        "00000020:  61 61 61 61  aaaa",
    ]
    assert requests == [
        request("read", offset=16, length=20),
        request("read", offset=16, length=16, want_data=True),
        request("read", offset=32, length=4, want_data=True),
    ]


def test_a_dump_is_part_of_what_quiet_leaves_out() -> None:
    assert io("read -v -q 0 16") == ("", [request("read", offset=0, length=16)])


def test_a_pattern_that_is_not_there_is_an_error_behind_the_report() -> None:
    async def work() -> tuple[str, str]:
        answer = IoResult(bytes=65536, seconds=0.25, mismatch=700)
        session = FakeSession(AnsweringEngine({IoRequest: answer}))
        with pytest.raises(IoFailed) as caught:
            await session.type('qemu-io d0 "read -P 1 -s 512 -l 1k 1k 64k"')
        return session.text, caught.value.text

    printed, error = run(work())
    assert printed == f"read 65536/65536 bytes at offset 1024\n{REPORT}"
    assert error == "Pattern verification failed at offset 1536, 1024 bytes"


WRITE_USAGE = (
    "write [-bcCfnquz] [-P pattern | -s source_file] off len"
    " -- writes a number of bytes at a specified offset"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", None),
        ("write 0 1 2", WRITE_USAGE),
        ("read -l 1 0 4k", None),
        ("read -P 1 -l 9k 0 4k", "pattern verification range exceeds end of read data"),
        ("read -P 1 -s 3 0 2", "pattern verification range exceeds end of read data"),
        ("write -u 0 64k", "-u requires -z to be specified"),
        ("write -n 0 1", "-n requires -z to be specified"),
        ("write -b -z 0 1", "-b and -z cannot be specified at the same time"),
        ("write -f -c 0 1", "-f and -b or -c cannot be specified at the same time"),
        (
            "write -z -P 1 0 1",
            "Only one of -z, -P, and -s can be specified at the same time",
        ),
        ("write 0 2G", "length cannot exceed 2147483136 without -n, given 2G"),
        ("read 0 2G", "length cannot exceed 2147483136, given 2G"),
        ("discard 0 3G", "length cannot exceed 2147483136, given 3G"),
        ("readv 0 512 2G", "Argument '2G' exceeds maximum size 2147483136"),
        ("readv 0 1G 1G", "The total number of bytes exceed the maximum size 2147483136"),
        ("help nope", "command nope not found"),
    ],
)
def test_mistakes_ask_nothing(text: str, message: str | None) -> None:
    with pytest.raises(IoMistake) as caught:
        io(text, AssertionError("a request was made"))
    if message is not None:
        assert caught.value.text == message


def test_an_unknown_command() -> None:
    with pytest.raises(IoMistake) as caught:
        typed("qemu-io d0 foo")
    assert caught.value.text == 'command "foo" not found'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("read 0 1", "read failed: Input/output error"),
        ("readv 0 1", "readv failed: Input/output error"),
        ("aio_read 0 1", "readv failed: Input/output error"),
        ("write 0 1", "write failed: Input/output error"),
        ("writev 0 1", "writev failed: Input/output error"),
        ("aio_write 0 1", "aio_write failed: Input/output error"),
        ("discard 0 1", "discard failed: Input/output error"),
        ("flush", "flush failed: Input/output error"),
        ("length", "getlength: Input/output error"),
        ("alloc 0", "is_allocated failed: Input/output error"),
    ],
)
def test_a_disk_that_fails(text: str, message: str) -> None:
    with pytest.raises(IoFailed) as caught:
        io(text, HostFailure("x", 5))
    assert caught.value.text == message


@pytest.mark.parametrize(
    "text", ["write -c 0 64k", "write -b 0 1", "write -z -n 0 1", "write -s f 0 1", "read -b 0 1"]
)
def test_what_there_is_not_yet(text: str) -> None:
    name = text.split()[0]
    with pytest.raises(IoFailed) as caught:
        io(text, AssertionError("a request was made"))
    assert caught.value.text == f"{name} failed: Operation not supported"


def test_other_refusals_come_through() -> None:
    with pytest.raises(DeviceNotFound):
        io("read 0 1", DeviceNotFound("d0"))


def test_there_are_no_guest_devices() -> None:
    with pytest.raises(DeviceNotFound):
        typed('qemu-io -d d0 "read 0 1"')


def test_help_lists_the_usages() -> None:
    lines = io("help")[0].splitlines()
    assert WRITE_USAGE in lines
    assert lines == sorted(lines)
    assert io("help w")[0] == WRITE_USAGE


def test_mistakes_and_failures_stand_as_they_are() -> None:
    assert issubclass(IoFailed, Verbatim)
    assert issubclass(IoMistake, Verbatim)
