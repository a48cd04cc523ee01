"""Files for completion, also when their folder does not answer."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from monitor.shell import files
from monitor.shell.files import File, Lister, matching


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "disk.qcow2").write_bytes(bytes(1000))
    (tmp_path / "disk.raw").write_bytes(bytes(64 * 1024))
    (tmp_path / "disks").mkdir()
    (tmp_path / "disks" / "inner").write_bytes(b"")
    (tmp_path / ".disk-hidden").write_bytes(b"")
    (tmp_path / "dangling").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folders_first_then_files_with_their_size(folder: Path) -> None:
    assert matching("disk") == [
        File("disks/", "folder"),
        File("disk.qcow2", "0.977 KiB"),
        File("disk.raw", "64 KiB"),
    ]


def test_below_a_folder_and_from_the_root(folder: Path) -> None:
    assert matching("disks/") == [File("disks/inner", "0 B")]
    assert matching(f"{folder}/disks/in") == [File(f"{folder}/disks/inner", "0 B")]


def test_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert matching("~/disks/") == [File("~/disks/inner", "0 B")]


def test_hidden_files_only_when_asked_for(folder: Path) -> None:
    assert ".disk-hidden" not in [file.path for file in matching("")]
    assert matching(".d") == [File(".disk-hidden", "0 B")]


def test_what_is_no_file_is_offered_as_such(folder: Path) -> None:
    os.mkfifo("pipe")
    assert matching("pipe") == [File("pipe", "device or socket")]
    assert matching("dang") == [File("dangling", "broken link")]


@pytest.mark.parametrize("prefix", ["nowhere/x", "disk.raw/x", "a\0b/c"])
def test_no_folder_no_files(folder: Path, prefix: str) -> None:
    assert matching(prefix) == []


def test_a_folder_that_hangs_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    looks: list[str] = []

    def hang(prefix: str) -> list[File]:
        looks.append(prefix)
        answered.wait(10)
        return [File(prefix, "")]

    monkeypatch.setattr(files, "matching", hang)

    async def type_on() -> None:
        lister = Lister(patience=0.01)
        assert await lister.matching("a") == []
        assert await lister.matching("ab") == []
        assert looks == ["a"], "one listing at a time"
        answered.set()
        while not (found := await lister.matching("abc")):
            await asyncio.sleep(0)
        assert found == [File("abc", "")]

    asyncio.run(asyncio.wait_for(type_on(), 10))


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("dsik.qcow2", "disk.qcow2"),
        ("disk.qcow", "disk.qcow2"),
        ("disk.rw", "disk.raw"),
        ("mid.qcow2", None),  # nobody means another image because it is an image
        ("x.qcow2", None),
        ("disks/inne", "disks/inner"),
        ("disks/other", None),
        ("nowhere/disk.raw", None),
    ],
)
def test_the_nearest_file_is_one_of_that_name(folder: Path, path: str, meant: str | None) -> None:
    said = f"did you mean '{meant}'?" if meant else None
    assert asyncio.run(files.nearest_file(path)) == said
    whole = f"did you mean '{folder}/{meant}'?" if meant else None
    assert asyncio.run(files.nearest_file(f"{folder}/{path}")) == whole


def test_two_who_ask_for_the_same_get_it_by_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The menu that comes by itself, and a Tab that did not wait for it."""
    answered = threading.Event()
    looks: list[str] = []

    def look(prefix: str) -> list[File]:
        looks.append(prefix)
        answered.wait(10)
        return [File("ab", "")]

    monkeypatch.setattr(files, "matching", look)

    async def both() -> None:
        lister = Lister(patience=10)
        asked = [asyncio.ensure_future(lister.matching("a")) for _ in range(2)]
        await asyncio.sleep(0)
        answered.set()
        assert await asyncio.gather(*asked) == [[File("ab", "")]] * 2
        assert looks == ["a"]

    asyncio.run(asyncio.wait_for(both(), 10))
