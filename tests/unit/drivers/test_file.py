"""The file driver: what opens and what is refused, and what the host's answers become."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.engine import permissions
from monitor.engine.drivers import syscalls
from monitor.engine.drivers.base import Extent, ExtentKind, OpenFlags
from monitor.engine.drivers.file import space
from monitor.engine.drivers.file.driver import FileDriver
from monitor.engine.drivers.file.host import read_fully, write_fully
from monitor.engine.errors import HostFailure, RequestError
from tests.support.files import open_file, use


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(b"\xab" * 65536)
    return path


@pytest.fixture
def unprivileged(image: Path) -> Iterator[Path]:
    """A file that this process may read and not write, also when root runs the tests."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        path = Path(directory, "image")
        path.write_bytes(b"x" * 512)
        path.chmod(0o444)
        was_root = os.geteuid() == 0
        if was_root:
            os.seteuid(65534)
        try:
            yield path
        finally:
            if was_root:
                os.seteuid(0)


def refusal(path: str | Path, **keywords: Any) -> str:
    with pytest.raises(RequestError) as caught:
        open_file(path, **keywords)
    return caught.value.text


# -- opening ---------------------------------------------------------------------------------


def test_absent(tmp_path: Path) -> None:
    path = tmp_path / "no"
    assert refusal(path) == f"Could not open '{path}': No such file or directory"


def test_nameless() -> None:
    assert refusal("") == "The 'file' block driver requires a file name"


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_name_that_the_host_cannot_say(name: str) -> None:
    assert refusal(name) == f"Could not open {name!a}: Invalid argument"


@pytest.mark.parametrize("read_only", [False, True])
def test_fifo_is_refused_without_waiting(tmp_path: Path, read_only: bool) -> None:
    os.mkfifo(tmp_path / "fifo")
    text = refusal(tmp_path / "fifo", read_only=read_only)
    assert text == f"'file' driver requires '{tmp_path}/fifo' to be a regular file"


def test_character_device() -> None:
    assert refusal("/dev/null") == "'file' driver requires '/dev/null' to be a regular file"


def test_directory(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"Could not open '{tmp_path}': Is a directory"
    text = refusal(tmp_path, read_only=True)
    assert text == f"'file' driver requires '{tmp_path}' to be a regular file"


def test_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        assert refusal(path) == f"Could not open '{path}': No such device or address"


def test_fifo_that_takes_the_place_of_a_file(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the name and open() the name may come to mean something else."""
    os.mkfifo(tmp_path / "fifo")
    status = os.stat(image)
    monkeypatch.setattr(os, "stat", lambda path: status)
    text = refusal(tmp_path / "fifo")
    assert text == f"'file' driver requires '{tmp_path}/fifo' to be a regular file"


def test_nothing_stays_open_after_a_refusal(image: Path, tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    refusal(tmp_path, read_only=True)
    refusal(image, options={"aio": "native"})
    assert os.listdir("/proc/self/fd") == before


def test_native_aio_needs_direct(image: Path) -> None:
    assert refusal(image, options={"aio": "native"}) == (
        "aio=native was specified, but it requires cache.direct=on, which was not specified."
    )
    open_file(image, options={"aio": "io_uring"}).close()


def test_persistent_reservations_have_no_manager(image: Path) -> None:
    text = refusal(image, options={"pr_manager": "helper"})
    assert text == "No persistent reservation manager with id 'helper'"


def test_filesystem_without_direct(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def without_direct(path: str, flags: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", without_direct)
    assert refusal(image, direct=True) == (
        f"Could not open '{image}': filesystem does not support O_DIRECT"
    )


def test_not_writable(unprivileged: Path) -> None:
    assert refusal(unprivileged) == f"Could not open '{unprivileged}': Permission denied"
    open_file(unprivileged, read_only=True).close()


def test_auto_read_only_opens_for_writing_when_somebody_writes(unprivileged: Path) -> None:
    driver = open_file(unprivileged, auto_read_only=True)
    use(driver, permissions.CONSISTENT_READ, permissions.ALL)
    with pytest.raises(RequestError, match=f"Could not open '{unprivileged}': Permission denied"):
        driver.check_permissions(permissions.WRITE, permissions.ALL)
    buffer = bytearray(512)
    driver.read(memoryview(buffer), 0)
    assert buffer == b"x" * 512
    driver.close()


# -- moving bytes ----------------------------------------------------------------------------


def test_short_transfers_are_continued(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_preadv, real_pwrite = os.preadv, os.pwrite
    monkeypatch.setattr(os, "preadv", lambda fd, bufs, at: real_preadv(fd, [bufs[0][:1000]], at))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real_pwrite(fd, data[:700], at))
    data = bytes(index % 251 for index in range(10_000))
    fd = os.open(image, os.O_RDWR)
    write_fully(fd, memoryview(data), 60_000)
    buffer = bytearray(b"\xee") * 12_000
    read_fully(fd, memoryview(buffer), 60_000)
    os.close(fd)
    assert buffer == data + bytes(2_000)


def test_write_that_stops_is_an_error(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([100, 0])
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: next(answers))
    with pytest.raises(OSError, match="No space left on device"):
        write_fully(-1, memoryview(bytes(4096)), 0)


def test_read_error_keeps_its_errno(image: Path) -> None:
    driver = open_file(image, read_only=True)
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        driver.write(memoryview(b"x"), 0)
    assert caught.value.errno == errno.EBADF
    driver.close()


# -- flush -----------------------------------------------------------------------------------


def failing_sync(fd: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_failed_flush_is_never_forgotten(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = open_file(image)
    driver.write(memoryview(b"x"), 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing_sync)
        with pytest.raises(OSError, match="Input/output error"):
            driver.flush()
    with pytest.raises(OSError, match="Input/output error"):
        driver.flush()
    driver.close()


@pytest.mark.parametrize("no_flush", [False, True])
def test_what_is_copied_into_a_reservation_goes_to_the_disk_at_once(
    image: Path, monkeypatch: pytest.MonkeyPatch, no_flush: bool
) -> None:
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(syscalls, "start_writeback", lambda fd, *where: begun.append(where))
    driver = open_file(image, no_flush=no_flush)
    reserved = driver.map_for_write(4096, 8192)
    assert reserved is not None
    assert not begun
    reserved.commit()
    assert begun == ([] if no_flush else [(4096, 8192)])
    driver.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda driver: driver.write(memoryview(b"x"), 0),
        lambda driver: driver.write_zeroes(0, 4096),
        lambda driver: driver.discard(0, 4096),
        lambda driver: driver.truncate(1 << 20),
        lambda driver: driver.grow(1 << 20, "off"),
        lambda driver: driver.map_for_write(0, 4096),
    ],
    ids=["write", "write_zeroes", "discard", "truncate", "grow", "map_for_write"],
)
def test_only_what_has_been_changed_is_flushed(
    image: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[FileDriver], object]
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    driver = open_file(image, unmap=True)
    driver.flush()
    assert not synced
    change(driver)
    driver.flush()
    driver.flush()
    assert len(synced) == 2
    driver.close()


def test_failed_flush_with_direct_may_be_tried_again(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = open_file(image, direct=True)
    driver.write_zeroes(0, 4096)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing_sync)
        with pytest.raises(OSError, match="Input/output error"):
            driver.flush()
    driver.flush()
    driver.close()


@pytest.mark.parametrize(("flags", "synced"), [({}, 1), ({"no_flush": True}, 0)])
def test_flush_syncs_unless_told_not_to(
    image: Path, monkeypatch: pytest.MonkeyPatch, flags: dict[str, bool], synced: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    driver = open_file(image, **flags)
    driver.write(memoryview(b"x"), 0)
    driver.flush()
    driver.close()
    assert len(calls) == synced


def test_what_was_written_is_synced_after_turning_read_only(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    driver = open_file(image, auto_read_only=True)
    driver.flush()
    assert not calls
    use(driver, permissions.WRITE, permissions.ALL)
    driver.write(memoryview(b"x"), 0)
    use(driver, 0, permissions.ALL)
    driver.flush()
    driver.close()
    assert len(calls) == 1


# -- holes -----------------------------------------------------------------------------------


def sparse(path: Path) -> Path:
    """data 64K, hole 64K, data 64K, hole 64K."""
    with path.open("wb") as file:
        for start in (0, 128 * 1024):
            os.pwrite(file.fileno(), b"\xab" * 65536, start)
        file.truncate(256 * 1024)
    return path


def test_map_finds_holes(tmp_path: Path) -> None:
    driver = open_file(sparse(tmp_path / "image"), read_only=True)
    runs = driver.map(1000, 512 * 1024)
    kinds = [(run.kind, run.length) for run in runs]
    assert kinds == [
        (ExtentKind.DATA, 64536),
        (ExtentKind.ZERO, 65536),
        (ExtentKind.DATA, 65536),
        (ExtentKind.ZERO, 65536),
        (ExtentKind.ZERO, 512 * 1024 + 1000 - 256 * 1024),
    ]
    assert [run.host_offset for run in runs] == [1000, 65536, 131072, 196608, 0]
    assert [run.host >= 0 for run in runs] == [True, True, True, True, False]
    driver.close()


def test_map_offers_no_descriptor_with_direct(tmp_path: Path) -> None:
    driver = open_file(sparse(tmp_path / "image"), direct=True)
    assert driver.map(0, 100) == [Extent(ExtentKind.DATA, 100)]
    driver.close()


def test_map_where_the_filesystem_cannot_tell(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(fd: int, offset: int, whence: int) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    driver = open_file(image, read_only=True)
    monkeypatch.setattr(os, "lseek", unsupported)
    kinds = [(run.kind, run.length) for run in driver.map(0, 70_000)]
    assert kinds == [(ExtentKind.DATA, 65536), (ExtentKind.ZERO, 70_000 - 65536)]
    driver.close()


def test_one_map_answer_is_bounded(tmp_path: Path) -> None:
    path, block = tmp_path / "image", 4096
    with path.open("wb") as file:
        for index in range(space.MAX_RUNS):
            os.pwrite(file.fileno(), b"x", 2 * index * block)
    driver = open_file(path, read_only=True)
    runs = driver.map(0, driver.length())
    assert len(runs) == space.MAX_RUNS
    assert sum(run.length for run in runs) < driver.length()
    driver.close()


def test_discard_gives_storage_back_only_when_asked(tmp_path: Path) -> None:
    for unmap in (False, True):
        driver = open_file(sparse(tmp_path / "image"), unmap=unmap)
        before = driver.allocated_bytes()
        driver.discard(0, 65536)
        assert (driver.allocated_bytes() < before) is unmap
        driver.write_zeroes(128 * 1024, 65536, True)
        assert (driver.allocated_bytes() < 65536) is unmap
        assert not any(os.pread(driver.map(0, 1)[0].host, 65536, 128 * 1024))
        driver.close()


class FakeFallocate:
    """A filesystem that knows only some modes."""

    def __init__(self, known: set[int], code: int = errno.EOPNOTSUPP) -> None:
        self.known, self.code = known, code
        self.calls: list[int] = []

    def __call__(self, fd: int, mode: int, offset: int, length: int) -> None:
        self.calls.append(mode)
        if mode not in self.known:
            raise OSError(self.code, os.strerror(self.code))
        if mode:
            os.pwrite(fd, bytes(length), offset)


PUNCH = syscalls.FALLOC_FL_PUNCH_HOLE | syscalls.FALLOC_FL_KEEP_SIZE
ZERO = syscalls.FALLOC_FL_ZERO_RANGE


@pytest.mark.parametrize(
    ("known", "first", "second"),
    [
        (set[int](), [ZERO, PUNCH], []),  # written, and not asked again
        ({ZERO}, [ZERO], [ZERO]),
        ({PUNCH, 0}, [ZERO, PUNCH, 0], [PUNCH, 0]),  # a hole, then storage for it
        ({PUNCH}, [ZERO, PUNCH, 0], [PUNCH]),
    ],
)
def test_zeroes_as_the_filesystem_can(
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
    known: set[int],
    first: list[int],
    second: list[int],
) -> None:
    fake = FakeFallocate(known)
    monkeypatch.setattr(syscalls, "fallocate", fake)
    driver = open_file(image, unmap=True)
    for expected in (first, second):
        driver.write(memoryview(b"\xab" * 4096), 1000)
        fake.calls.clear()
        driver.write_zeroes(1000, 4096)
        assert fake.calls == expected
        assert image.read_bytes()[999:5097] == b"\xab" + bytes(4096) + b"\xab"
    driver.close()


def test_zeroes_without_fallback(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "fallocate", FakeFallocate(set()))
    driver = open_file(image)
    with pytest.raises(OSError, match="not supported") as caught:
        driver.write_zeroes(0, 4096, False, True)
    assert caught.value.errno == errno.ENOTSUP
    assert image.read_bytes() == b"\xab" * 65536
    driver.close()


def test_full_disk_is_not_a_missing_feature(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeFallocate(set(), errno.ENOSPC)
    monkeypatch.setattr(syscalls, "fallocate", fake)
    driver = open_file(image)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left on device"):
            driver.write_zeroes(0, 4096)
    assert fake.calls == [ZERO, ZERO]
    driver.close()


def test_fallocate_raises_the_calls_errno(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        syscalls.punch_hole(-1, 0, 4096)
    assert caught.value.errno == errno.EBADF


# -- size ------------------------------------------------------------------------------------


def test_size_beyond_the_hosts_limit(image: Path) -> None:
    driver = open_file(image)
    for size in (1 << 62, 1 << 63, 1 << 64):
        with pytest.raises(HostFailure, match="Could not resize file: File too large"):
            driver.truncate(size)
    assert driver.length() == 65536
    driver.close()


def test_length_is_kept_and_looked_at_when_somebody_asks_for_the_allocation(image: Path) -> None:
    """The control loop asks for it, and must not wait for a disk."""
    driver = open_file(image)
    os.truncate(image, 100)
    assert driver.length() == 65536
    driver.allocated_bytes()
    assert driver.length() == 100
    os.truncate(image, 200)
    driver.prepare_reopen(OpenFlags())
    assert driver.length() == 200
    driver.close()


def test_length_keeps_up_with_what_the_driver_does(image: Path) -> None:
    driver = open_file(image)
    use(driver, permissions.WRITE, permissions.ALL)
    driver.write(memoryview(b"abc"), 70_000)
    assert driver.length() == 70_003
    driver.write_zeroes(69_000, 11_000, True, False)
    assert driver.length() == 80_000
    reserved = driver.map_for_write(80_000, 5)
    assert reserved is not None
    (run,) = reserved.runs
    os.pwrite(run.host, b"abcde", run.host_offset)
    assert driver.length() == 80_000
    reserved.commit()
    assert driver.length() == 80_005
    driver.truncate(4)
    assert driver.length() == 4
    driver.close()
