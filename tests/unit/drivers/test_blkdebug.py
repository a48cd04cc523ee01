"""Faults and breakpoints: which events change what becomes of which requests."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.drivers.base import Driver, OpenContext, OpenFlags
from monitor.engine.drivers.blkdebug import BlkdebugDriver
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.drivers.qcow2 import CreateOptions, Qcow2Driver, create_image
from monitor.engine.drivers.raw import RawDriver
from monitor.engine.errors import RequestError
from monitor.engine.schema.blkdebug import BlkdebugInjectErrorOptions, BlkdebugSetStateOptions
from monitor.engine.schema.blockdev import (
    BlockdevOptionsBlkdebug,
    BlockdevOptionsQcow2,
    BlockdevOptionsRaw,
)
from tests.support.edges import DriverEdge

SIZE = 1 << 20


def error(**options: Any) -> BlkdebugInjectErrorOptions:
    return BlkdebugInjectErrorOptions(**options)


def blkdebug(below: Driver | None = None, **options: Any) -> BlkdebugDriver:
    driver = BlkdebugDriver()
    image = DriverEdge(below or MemoryDriver(SIZE))
    settings = BlockdevOptionsBlkdebug(image="child", **options)
    driver.open(OpenContext(settings, OpenFlags(unmap=True), "debug", {"image": image}))
    return driver


def raw_on(driver: Driver) -> RawDriver:
    raw = RawDriver()
    children = {"file": DriverEdge(driver)}
    raw.open(OpenContext(BlockdevOptionsRaw(file="child"), OpenFlags(), "raw", children))
    return raw


def read(driver: Driver, offset: int = 0, length: int = 512) -> int:
    """The errno of a read, 0 when it goes well."""
    return _code(lambda: driver.read(memoryview(bytearray(length)), offset))


def write(driver: Driver, offset: int = 0, length: int = 512) -> int:
    return _code(lambda: driver.write(memoryview(b"x" * length), offset))


def _code(request: Any) -> int:
    try:
        request()
    except OSError as failure:
        return failure.errno or -1
    return 0


# -- rules -----------------------------------------------------------------------------------


def test_errors_begin_with_their_event_and_stay() -> None:
    raw = raw_on(blkdebug(inject_error=[error(event="read_aio", errno=errno.EDOM)]))
    assert write(raw) == 0
    assert read(raw) == errno.EDOM
    assert write(raw) == errno.EDOM  # all kinds of requests, from that event on
    assert _code(raw.flush) == errno.EDOM


def test_once_is_once() -> None:
    raw = raw_on(blkdebug(inject_error=[error(event="read_aio", once=True)]))
    assert [read(raw) for _ in range(3)] == [errno.EIO, 0, 0]


def test_only_requests_of_its_kind() -> None:
    raw = raw_on(blkdebug(inject_error=[error(event="none", iotype="write")]))
    assert [read(raw), write(raw), _code(raw.flush)] == [0, errno.EIO, 0]
    raw = raw_on(blkdebug(inject_error=[error(event="none", iotype="flush")]))
    assert [read(raw), write(raw), _code(raw.flush)] == [0, 0, errno.EIO]
    driver = blkdebug(inject_error=[error(event="none", iotype="block-status")])
    assert _code(lambda: driver.map(0, 512)) == errno.EIO
    assert _code(lambda: driver.write_zeroes(0, 512)) == 0


def test_only_requests_that_hold_its_sector() -> None:
    driver = blkdebug(inject_error=[error(event="none", sector=3)])
    assert [read(driver, at) for at in (512, 1024, 1536, 2048)] == [0, 0, errno.EIO, 0]
    assert read(driver, 1535, 1) == 0
    assert write(driver, 0, 4096) == errno.EIO
    assert _code(driver.flush) == 0  # a flush is nowhere


def test_a_sector_is_counted_in_64_bits() -> None:
    driver = blkdebug(inject_error=[error(event="none", sector=(1 << 55) + 3)])
    assert [read(driver, at) for at in (1024, 1536, 2048)] == [0, errno.EIO, 0]
    assert read(blkdebug(inject_error=[error(event="none", sector=-5)]), 0, 4096) == 0


def test_there_is_something_to_flush_after_a_write() -> None:
    driver = blkdebug(inject_error=[error(event="none", iotype="flush")])
    assert _code(driver.flush) == 0
    assert write(driver) == 0
    assert [_code(driver.flush) for _ in range(2)] == [errno.EIO, errno.EIO]


def test_zeroes_that_are_not_supported_are_written() -> None:
    rule = error(event="none", iotype="write-zeroes", errno=errno.ENOTSUP)
    driver = blkdebug(inject_error=[rule])
    assert write(driver, 0, 4096) == 0
    assert _code(lambda: driver.write_zeroes(0, 1024, False, True)) == errno.ENOTSUP
    assert _code(lambda: driver.write_zeroes(0, 1024)) == 0
    data = bytearray(2048)
    driver.read(memoryview(data), 0)
    assert data == bytes(1024) + b"x" * 1024


def test_states() -> None:
    raw = raw_on(
        blkdebug(
            inject_error=[
                error(event="read_aio", state=2, errno=1),
                error(event="read_aio", state=3, errno=2),
            ],
            set_state=[
                BlkdebugSetStateOptions(event="write_aio", state=1, new_state=2),
                BlkdebugSetStateOptions(event="write_aio", state=2, new_state=3),
            ],
        )
    )
    assert [read(raw), write(raw), read(raw)] == [0, 0, 1]
    assert [write(raw), read(raw)] == [1, 2]  # the first error holds until another takes its place


def test_errno_zero_lets_its_requests_pass() -> None:
    rules = [error(event="none", sector=0, errno=0), error(event="none")]
    driver = blkdebug(inject_error=rules)
    assert [read(driver, 0), read(driver, 512)] == [0, errno.EIO]


def test_events_of_qcow2_reach_it() -> None:
    heard: list[str] = []
    below = blkdebug()
    below.rules.happen = heard.append  # type: ignore[method-assign]
    create_image(DriverEdge(below), CreateOptions(size=SIZE))
    driver = Qcow2Driver()
    children = {"file": DriverEdge(below)}
    options = BlockdevOptionsQcow2(file="child")
    driver.open(OpenContext(options, OpenFlags(unmap=True), "q", children))
    write(driver, 0, 65536)
    write(driver, 100, 10)
    read(driver, 0, 65536)
    write(driver, 65536, 10)
    driver.flush()
    driver.discard(0, 65536)
    driver.close()
    assert set(heard) >= {
        "reftable_load",
        "refblock_load",
        "l2_alloc_write",
        "cluster_alloc",
        "write_aio",
        "read_aio",
        "flush_to_os",
        "refblock_update_part",
        "l2_update",
        "l1_update",
        "flush_to_disk",
        "cluster_free",
        "pwritev",
        "pwritev_done",
    }
    assert heard.index("cluster_alloc") < heard.index("write_aio") < heard.index("l2_update")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"align": 3}, "Cannot meet constraints with align 3"),
        ({"align": 512, "max_transfer": 100}, "Cannot meet constraints with max-transfer 100"),
        (
            {"opt_write_zero": 4096, "max_write_zero": 512},
            "Cannot meet constraints with max-write-zero 512",
        ),
        ({"opt_discard": -1}, "Parameter 'opt-discard' expects a non-negative number below 2^64"),
    ],
)
def test_sizes_that_do_not_fit(options: dict[str, int], text: str) -> None:
    with pytest.raises(RequestError) as refusal:
        blkdebug(**options)
    assert refusal.value.text == text


def test_requests_are_cut_and_aligned() -> None:
    seen: list[tuple[str, int, int]] = []
    below = MemoryDriver(SIZE, before=lambda *request: seen.append(request))
    driver = blkdebug(below, align=512, max_transfer=1024)
    write(driver, 0, 2560)
    assert seen == [("write", 0, 1024), ("write", 1024, 1024), ("write", 2048, 512)]
    seen.clear()
    write(driver, 700, 100)
    assert seen == [("read", 512, 512), ("write", 512, 512)]


def test_a_failed_part_fails_the_request() -> None:
    driver = blkdebug(max_transfer=512, inject_error=[error(event="none", sector=2)])
    assert write(driver, 0, 4096) == errno.EIO
    buffer = bytearray(1024)
    driver.read(memoryview(buffer), 0)
    assert buffer == b"x" * 1024  # what came before has been written


# -- rules in a file -------------------------------------------------------------------------

RULES = """# a comment
[inject-error]
event = "read_aio"
errno = "0x1c"
state = "2"

[set-state "name"]
event = "write_aio"
new_state = "2"
"""


def test_rules_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text(RULES)
    raw = raw_on(blkdebug(config=str(tmp_path / "rules")))
    assert [read(raw), write(raw), read(raw)] == [0, 0, errno.ENOSPC]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[inject-error]\nevent = "bogus"\n', "invalid parameter value: bogus"),
        ('[inject-error]\nerrno = "5"\n', "Missing event name for rule"),
        ('[foo]\nerrno = "5"\n', "There is no option group 'foo'"),
        ("[inject-error]\nevent = read_aio\n", "invalid parameter value: "),
        ('[inject-error]\nevent = "read_aio"\nbogus = "1"\n', "Invalid parameter 'bogus'"),
        (
            '[inject-error]\nevent = "read_aio"\nsector = "x"\n',
            "Parameter 'sector' expects a number",
        ),
        ('[inject-error]\nevent = "read_aio"\niotype = "x"\n', "invalid parameter value: x"),
        ('event = "x"\n', "no group defined"),
        ("[inject-error]\nnonsense\n", "Invalid parameter 'nonsense'"),
        (None, "Could not read blkdebug config file: No such file or directory"),
    ],
)
def test_what_a_file_may_not_say(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "rules").write_text(text)
    with pytest.raises(RequestError) as refusal:
        blkdebug(config=str(tmp_path / "rules"))
    assert refusal.value.text == message


# -- breakpoints -----------------------------------------------------------------------------


def test_a_request_stands_at_a_breakpoint_until_it_is_resumed() -> None:
    driver = blkdebug()
    stood: list[str] = []
    standing = threading.Event()
    driver.on_suspend = stood.append
    driver.rules.set_breakpoint("write_aio", "A")
    driver.rules.when_suspended("A", standing.set)
    raw = raw_on(driver)
    writer = threading.Thread(target=write, args=(raw,))
    writer.start()
    assert standing.wait(10)
    assert stood == ["A"]
    assert read(raw) == 0  # others go on, and the breakpoint was for one request
    assert write(raw, 512) == 0
    with pytest.raises(FileNotFoundError):
        driver.rules.resume("B")
    driver.rules.resume("A")
    writer.join(10)
    assert not writer.is_alive()


def test_removing_a_breakpoint_lets_go_what_stands_there() -> None:
    driver = blkdebug()
    with pytest.raises(FileNotFoundError):
        driver.rules.remove_breakpoint("A")
    with pytest.raises(FileNotFoundError):
        driver.rules.set_breakpoint("bogus", "A")
    driver.rules.set_breakpoint("pwritev", "A")
    driver.rules.remove_breakpoint("A")
    assert write(driver) == 0
    driver.rules.set_breakpoint("pwritev", "A")
    standing = threading.Event()
    driver.rules.when_suspended("A", standing.set)
    writer = threading.Thread(target=write, args=(driver,))
    writer.start()
    assert standing.wait(10)
    driver.rules.remove_breakpoint("A")
    writer.join(10)
    assert not writer.is_alive()
