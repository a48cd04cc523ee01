"""Image locks and changes of flags, between nodes of this process. (Between this process and
QEMU's: tests/interop/test_image_locks.py.)"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import threading
from pathlib import Path

import pytest

from monitor.engine.drivers.base import OpenFlags
from monitor.engine.drivers.file import closing
from monitor.engine.drivers.file import driver as driver_module
from monitor.engine.drivers.file.driver import FileDriver
from monitor.engine.drivers.file.locks import ImageLocks, LockNotGranted, wanted_bytes
from monitor.engine.errors import HostFailure, RequestError
from monitor.engine.permissions import ALL, CONSISTENT_READ, RESIZE, WRITE, WRITE_UNCHANGED
from tests.support.files import locked_bytes, open_file, use
from tests.support.spin import until


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(b"\xab" * 65536)
    return path


def descriptors(path: Path) -> list[int]:
    """The access mode and O_DIRECT of each of this process's descriptors of ``path``."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == str(path):
                flags = fcntl.fcntl(int(name), fcntl.F_GETFL)
                found.append(flags & (os.O_ACCMODE | os.O_DIRECT))
        except OSError:  # listdir's own descriptor is gone by now
            continue
    return found


def left(path: Path, *modes: int) -> bool:
    """Whether these are the descriptors that stay: others are closed soon, by another thread."""
    until(lambda: sorted(descriptors(path)) == sorted(modes))
    return True


# -- locks -----------------------------------------------------------------------------------


def test_a_byte_a_permission() -> None:
    assert wanted_bytes(CONSISTENT_READ | RESIZE, ALL & ~WRITE) == {100, 103, 201}
    assert wanted_bytes(0, ALL) == set()
    assert wanted_bytes(ALL, 0) == {100, 101, 102, 103, 200, 201, 202, 203}


def test_open_alone_locks_nothing(image: Path) -> None:
    driver = open_file(image)
    assert locked_bytes(image) == set()
    use(driver, CONSISTENT_READ | WRITE, ALL & ~RESIZE)
    assert locked_bytes(image) == {100, 101, 203}
    use(driver, CONSISTENT_READ, ALL)
    assert locked_bytes(image) == {100}
    driver.close()
    assert locked_bytes(image) == set()


def conflict(driver: FileDriver, taken: int, shared: int) -> LockNotGranted:
    with pytest.raises(LockNotGranted) as caught:
        driver.check_permissions(taken, shared)
    return caught.value


def test_two_nodes_on_one_file_exclude_each_other(image: Path) -> None:
    first, second = open_file(image), open_file(image)
    use(first, CONSISTENT_READ | WRITE, CONSISTENT_READ)
    before = locked_bytes(image)
    error = conflict(second, WRITE, ALL)
    assert error.text == 'Failed to get "write" lock'
    assert error.hint == f"Is another process using the image [{image}]?"
    error = conflict(second, CONSISTENT_READ, ALL & ~WRITE)
    assert error.text == 'Failed to get shared "write" lock'
    assert locked_bytes(image) == before
    use(second, CONSISTENT_READ, ALL)
    use(first, 0, ALL)
    use(second, ALL, 0)
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("permission", "name"),
    [
        (CONSISTENT_READ, "consistent read"),
        (WRITE, "write"),
        (WRITE_UNCHANGED, "write unchanged"),
        (RESIZE, "resize"),
    ],
)
def test_every_permission_by_its_name(image: Path, permission: int, name: str) -> None:
    holder, other = open_file(image), open_file(image)
    use(holder, 0, ALL & ~permission)
    assert conflict(other, permission, ALL).text == f'Failed to get "{name}" lock'
    use(holder, permission, ALL)
    assert conflict(other, 0, ALL & ~permission).text == f'Failed to get shared "{name}" lock'
    holder.close()
    other.close()


def test_force_share_shares_everything(image: Path) -> None:
    writer = open_file(image)
    reader = open_file(image, read_only=True, force_share=True)
    use(writer, CONSISTENT_READ | WRITE, CONSISTENT_READ)
    use(reader, CONSISTENT_READ, CONSISTENT_READ)
    assert locked_bytes(image) == {100, 101, 201, 202, 203}
    writer.close()
    assert locked_bytes(image) == {100}
    reader.close()


@pytest.mark.parametrize(("locking", "locks"), [("on", True), ("auto", True), ("off", False)])
def test_locking_option(image: Path, locking: str, locks: bool) -> None:
    driver = open_file(image, options={"locking": locking})
    use(driver, WRITE, 0)
    assert bool(locked_bytes(image)) is locks
    driver.close()


def test_filesystem_that_cannot_lock(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(fd: int, command: int, argument: bytes) -> bytes:
        raise OSError(errno.ENOLCK, "No locks available")

    driver = open_file(image)
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "fcntl", unsupported)
        with pytest.raises(HostFailure, match="Failed to lock byte 100: No locks available"):
            driver.check_permissions(CONSISTENT_READ, ALL)
    use(driver, CONSISTENT_READ, ALL)
    driver.close()


# -- changes of flags ------------------------------------------------------------------------


def test_nothing_changes_before_commit_or_after_abort(image: Path) -> None:
    driver = open_file(image, read_only=True)
    use(driver, CONSISTENT_READ, ALL)
    before = descriptors(image)
    change = driver.prepare_reopen(OpenFlags(direct=True))
    assert change is not None
    assert driver.alignment == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        driver.write(memoryview(b"x"), 0)
    change.abort()
    assert before == [os.O_RDONLY]
    assert left(image, *before)
    assert locked_bytes(image) == {100}
    driver.close()


def test_commit_swaps_the_descriptor_and_keeps_the_locks(image: Path) -> None:
    driver = open_file(image, read_only=True)
    use(driver, CONSISTENT_READ, ALL & ~WRITE)
    change = driver.prepare_reopen(OpenFlags(direct=True))
    assert change is not None
    change.commit()
    assert left(image, os.O_RDWR | os.O_DIRECT)
    assert locked_bytes(image) == {100, 201}
    assert driver.alignment >= 512
    driver.write(memoryview(b"hello"), 100)
    change = driver.prepare_reopen(OpenFlags(read_only=True))
    assert change is not None
    change.commit()
    assert left(image, os.O_RDONLY)
    assert locked_bytes(image) == {100, 201}
    assert driver.alignment == 1
    assert image.read_bytes()[99:106] == b"\xabhello\xab"
    driver.close()


def test_what_is_left_over_is_closed_by_another_thread(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes are committed on the control loop, and the host may take its time to close."""
    go_on = threading.Event()
    close = os.close

    def slow(fd: int) -> None:
        assert threading.current_thread() is not threading.main_thread()
        assert go_on.wait(10)
        close(fd)

    driver = open_file(image)
    use(driver, CONSISTENT_READ | WRITE, ALL & ~WRITE)
    change = driver.prepare_reopen(OpenFlags(read_only=True))
    assert change is not None
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", slow)
        change.commit()
        use(driver, CONSISTENT_READ, ALL)
        assert locked_bytes(image) == {100}  # the descriptor that is left over holds none
        assert sorted(descriptors(image)) == [os.O_RDONLY, os.O_RDWR]
        go_on.set()
        assert left(image, os.O_RDONLY)
    driver.close()


def test_a_host_without_a_thread_closes_at_once(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that is being committed must not fail half-way."""

    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    driver = open_file(image)
    use(driver, CONSISTENT_READ | WRITE, ALL & ~WRITE)
    monkeypatch.setattr(closing, "_thread", None)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        for _ in range(2):
            change = driver.prepare_reopen(OpenFlags(read_only=True))
            assert change is not None
            change.commit()
            use(driver, CONSISTENT_READ, ALL)
            assert descriptors(image) == [os.O_RDONLY]
            change = driver.prepare_reopen(OpenFlags())
            assert change is not None
            change.commit()
            use(driver, CONSISTENT_READ | WRITE, ALL & ~WRITE)
    driver.close()


def test_a_failure_to_close_leaves_the_next_to_be_closed(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host tells there what it could not carry to the disk; the descriptor is gone."""
    close, failed = os.close, threading.Event()

    def fail(fd: int) -> None:
        close(fd)
        if not failed.is_set():
            failed.set()
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    driver = open_file(image)
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", fail)
        for read_only in (True, False):
            change = driver.prepare_reopen(OpenFlags(read_only=read_only))
            assert change is not None
            change.commit()
        assert left(image, os.O_RDWR)
        assert failed.is_set()
    driver.close()


def test_same_flags_need_no_change(image: Path) -> None:
    driver = open_file(image)
    assert driver.prepare_reopen(OpenFlags()) is None
    assert driver.check_permissions(0, ALL) is None
    driver.close()


def test_flags_without_another_descriptor(image: Path) -> None:
    driver = open_file(image)
    change = driver.prepare_reopen(OpenFlags(unmap=True, no_flush=True))
    assert change is not None
    change.commit()
    assert len(descriptors(image)) == 1
    driver.discard(0, 65536)
    assert driver.allocated_bytes() == 0
    driver.close()


def test_auto_read_only_follows_the_writers(image: Path) -> None:
    driver = open_file(image, auto_read_only=True)
    assert left(image, os.O_RDONLY)
    use(driver, CONSISTENT_READ | WRITE, ALL & ~WRITE)
    assert left(image, os.O_RDONLY, os.O_RDWR)  # the way back stays open
    use(driver, CONSISTENT_READ, ALL)
    assert left(image, os.O_RDONLY)
    assert locked_bytes(image) == {100}
    driver.close()


def test_what_a_writer_needs_is_opened_before_it_comes(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions are checked on the control loop, which must not wait for a disk."""
    driver = open_file(image, auto_read_only=True)
    use(driver, CONSISTENT_READ, ALL)
    assert not driver.waits_for(CONSISTENT_READ)
    assert driver.waits_for(WRITE)
    driver.make_ready(WRITE)
    driver.make_ready(WRITE)
    assert left(image, os.O_RDONLY, os.O_RDWR)

    def never(*args: object, **keywords: object) -> int:
        raise AssertionError("opened while permissions were checked")

    monkeypatch.setattr(driver_module, "reopen_regular", never)
    for _ in range(3):
        assert not driver.waits_for(WRITE)
        use(driver, CONSISTENT_READ | WRITE, ALL & ~WRITE)
        driver.write(memoryview(b"x"), 0)
        use(driver, CONSISTENT_READ, ALL)
        monkeypatch.undo()
        driver.make_ready(WRITE)
        monkeypatch.setattr(driver_module, "reopen_regular", never)
    driver.close()
    assert left(image)


def test_what_was_made_ready_in_vain_is_closed(image: Path) -> None:
    driver = open_file(image, auto_read_only=True)
    driver.make_ready(WRITE)
    use(driver, CONSISTENT_READ, ALL)
    assert left(image, os.O_RDONLY)
    driver.make_ready(WRITE)
    driver.close()
    assert left(image)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("keep", [True, False])
def test_several_changes_in_one_transaction(
    image: Path, order: tuple[int, ...], keep: bool
) -> None:
    """Read-write, then a writer, then direct: prepared in this order, finished in any."""
    driver = open_file(image, read_only=True)
    use(driver, CONSISTENT_READ, ALL)
    changes = [
        driver.prepare_reopen(OpenFlags(auto_read_only=True)),
        driver.check_permissions(CONSISTENT_READ | WRITE, ALL & ~WRITE),
        driver.prepare_reopen(OpenFlags(auto_read_only=True, direct=True)),
    ]
    for index in order:
        change = changes[index]
        assert change is not None
        if keep:
            change.commit()
        else:
            change.abort()
    assert left(image, os.O_RDWR | os.O_DIRECT if keep else os.O_RDONLY)
    assert locked_bytes(image) == ({100, 101, 201} if keep else {100})
    driver.close()
    assert left(image)


def test_own_locks_do_not_stand_in_the_way(image: Path) -> None:
    """Not sharing what is then taken: another descriptor's lock would look like a stranger's."""
    driver = open_file(image, read_only=True)
    use(driver, CONSISTENT_READ, ALL & ~WRITE)
    reopen = driver.prepare_reopen(OpenFlags())
    write = driver.check_permissions(CONSISTENT_READ | WRITE, ALL & ~WRITE)
    assert reopen is not None
    assert write is not None
    write.commit()
    reopen.commit()
    assert locked_bytes(image) == {100, 101, 201}
    driver.close()


def test_refused_permission_leaves_nothing_behind(image: Path) -> None:
    other = open_file(image)
    use(other, CONSISTENT_READ, ALL & ~WRITE)
    driver = open_file(image, auto_read_only=True)
    before = sorted(descriptors(image))
    with pytest.raises(LockNotGranted):
        driver.check_permissions(WRITE, ALL)
    assert left(image, *before)
    assert locked_bytes(image) == {100, 201}
    driver.close()
    other.close()


def test_locks_that_cannot_move_stay_where_they_are(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = open_file(image)
    use(driver, CONSISTENT_READ, ALL)
    change = driver.prepare_reopen(OpenFlags(read_only=True))
    assert change is not None
    with monkeypatch.context() as patch:
        patch.setattr(ImageLocks, "move", lambda self, fd: False)
        change.commit()
    assert locked_bytes(image) == {100}
    assert left(image, os.O_RDONLY, os.O_RDWR)
    use(driver, 0, ALL)
    assert locked_bytes(image) == set()
    assert left(image, os.O_RDONLY)
    driver.close()


def test_renamed_file_is_still_the_same(image: Path) -> None:
    driver = open_file(image, read_only=True)
    image.rename(image.with_name("moved"))
    image.write_bytes(b"another file")
    change = driver.prepare_reopen(OpenFlags())
    assert change is not None
    change.commit()
    assert driver.length() == 65536
    driver.close()


def test_reopen_that_the_host_refuses(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = open_file(image, read_only=True)

    def refusing(path: str, flags: int) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing)
        with pytest.raises(RequestError) as caught:
            driver.prepare_reopen(OpenFlags())
    assert caught.value.text == f"Could not open '{image}': Read-only file system"
    assert driver.prepare_reopen(OpenFlags(read_only=True)) is None
    driver.close()
