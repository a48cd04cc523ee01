"""``check`` and ``map`` in a running engine, beside qemu-img's on the same file."""

from __future__ import annotations

import asyncio
import json
import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from monitor.commands.imagetext import check_text, map_text
from monitor.engine.clock import ManualClock
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.schema.extra import (
    CheckImage,
    DriveAdd,
    ImageCheck,
    MapEntry,
    MapImage,
    ResizeImage,
)
from tests.support.qcow2 import qemu_check, qemu_content
from tests.support.tools import need, run

SOUND = {"leaks": 0, "corruptions": 0}
MIB = 1 << 20


@pytest.fixture(autouse=True)
def tools() -> None:
    need("qemu-img", "qemu-io")


def asked(path: Path, request: Any, options: str = "") -> Any:
    """What an engine answers that has ``path`` open as drive d0."""

    async def main() -> Any:
        engine = EmbeddedEngine(ManualClock())
        await engine.execute(DriveAdd(options=f"if=none,id=d0,file={path}{options}"))
        try:
            return await engine.execute(request)
        finally:
            await engine.graph.close_all()

    return asyncio.run(asyncio.wait_for(main(), 30))


def checked(path: Path, fix: Literal["none", "leaks", "all"] = "none") -> ImageCheck:
    options = ",format=qcow2" + (",read-only=on" if fix == "none" else "")
    found: ImageCheck = asked(path, CheckImage(device="d0", fix=fix), options)
    return found


def theirs(path: Path) -> tuple[dict[str, Any], list[str]]:
    """qemu-img's numbers, and its lines about single clusters."""
    ended = subprocess.run(
        ["qemu-img", "check", "-f", "qcow2", "--output=json", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    report: dict[str, Any] = json.loads(ended.stdout)
    return report, ended.stderr.splitlines()


def image(path: Path, options: str = "cluster_size=64k") -> Path:
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "8M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 1M", "-c", "write -P 2 3M 192k", path)
    run("qemu-io", "-f", "qcow2", "-c", "discard 512k 100k", "-c", "write -P 3 5M 1M", path)
    return path


def compressed(path: Path) -> Path:
    raw = path.with_suffix(".raw")
    raw.write_bytes(b"compress me " * (4 * MIB // 12) + random.Random(1).randbytes(300_000))
    run("qemu-img", "convert", "-c", "-O", "qcow2", raw, path)
    return path


def snapshots(path: Path) -> Path:
    image(path, "cluster_size=4k")
    run("qemu-img", "snapshot", "-c", "one", path)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 4 300k 1M", path)
    run("qemu-img", "snapshot", "-c", "two", path)
    return path


def fragments(path: Path) -> Path:
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", path, "8M")
    words = []
    for number in random.Random(2).sample(range(2000), 150):
        words += ["-c", f"write {number * 4096} 4k"]
    run("qemu-io", "-f", "qcow2", *words, path)
    return path


def bitmaps(path: Path) -> Path:
    image(path)
    run("qemu-img", "bitmap", "-f", "qcow2", "--add", path, "b0")
    run("qemu-io", "-f", "qcow2", "-c", "write 6M 64k", path)
    return path


def narrow(path: Path) -> Path:
    return image(path, "cluster_size=512,refcount_bits=1")


def wide(path: Path) -> Path:
    return image(path, "refcount_bits=64,lazy_refcounts=on")


def preallocated(path: Path) -> Path:
    return image(path, "preallocation=metadata")


def old(path: Path) -> Path:
    return image(path, "compat=0.10")


Maker = Callable[[Path], Path]
MAKERS = [
    image, compressed, snapshots, fragments, bitmaps, narrow, wide, preallocated, old,
]  # fmt: skip


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_sound_image(tmp_path: Path, make: Maker) -> None:
    path = make(tmp_path / "a.qcow2")
    ours = msgspec.to_builtins(checked(path))
    assert ours.pop("problems") == []
    report, _ = theirs(path)
    assert ours == report
    text = run("qemu-img", "check", "-f", "qcow2", path)
    assert check_text(checked(path)) == text.rstrip("\n")


def damage(path: Path) -> None:
    """Counts that are too low and too high, and a cluster that nobody has."""
    with path.open("r+b") as file:
        head = file.read(112)
        bits = struct.unpack_from(">I", head, 20)[0]
        (table,) = struct.unpack_from(">Q", head, 48)
        file.seek(table)
        (block,) = struct.unpack(">Q", file.read(8))
        size = path.stat().st_size
        for cluster, count in ((7, 0), (8, 2), (size >> bits, 1)):
            file.seek(block + 2 * cluster)
            file.write(struct.pack(">H", count))
        file.truncate(size + (2 << bits))


@pytest.mark.parametrize("make", [image, snapshots, bitmaps, old], ids=lambda make: make.__name__)
def test_a_damaged_image(tmp_path: Path, make: Maker) -> None:
    """The same numbers, and the same lines."""
    path = make(tmp_path / "a.qcow2")
    damage(path)
    ours = msgspec.to_builtins(checked(path))
    report, lines = theirs(path)
    assert sorted(ours.pop("problems")) == sorted(lines)
    assert ours == report
    assert report["corruptions"]
    assert report["leaks"]


@pytest.mark.parametrize("make", [image, snapshots, bitmaps, old], ids=lambda make: make.__name__)
def test_all_is_mended(tmp_path: Path, make: Maker) -> None:
    path = make(tmp_path / "a.qcow2")
    content = qemu_content(path)
    damage(path)
    found = checked(path, "all")
    assert found.leaks_fixed
    assert found.corruptions_fixed
    assert "leaks" not in msgspec.to_builtins(found)
    assert "corruptions" not in msgspec.to_builtins(found)
    assert "Double checking the fixed image now..." in check_text(found)
    assert qemu_check(path) == SOUND
    assert qemu_content(path) == content


def test_only_leaks_are_mended(tmp_path: Path) -> None:
    path = image(tmp_path / "a.qcow2")
    damage(path)
    before, _ = theirs(path)
    found = checked(path, "leaks")
    assert found.leaks_fixed == before["leaks"]
    assert found.corruptions == 2
    after, _ = theirs(path)
    assert "leaks" not in after
    assert after["corruptions"] == 2


def test_an_image_is_checked_below_a_filter(tmp_path: Path) -> None:
    """A mirror's or backup's, say: whoever checks a drive means the image that it shows."""
    path = image(tmp_path / "a.qcow2")
    found = asked(path, CheckImage(device="d0"), ",format=qcow2,copy-on-read=on")
    assert (found.format, found.check_errors) == ("qcow2", 0)


def test_what_cannot_be_checked_or_mended(tmp_path: Path) -> None:
    raw = tmp_path / "a.raw"
    raw.write_bytes(bytes(MIB))
    with pytest.raises(RequestError) as caught:
        asked(raw, CheckImage(device="d0"), ",format=raw")
    assert caught.value.text == "This image format does not support checks"
    path = image(tmp_path / "a.qcow2")
    with pytest.raises(RequestError) as caught:
        asked(path, CheckImage(device="d0", fix="all"), ",format=qcow2,read-only=on")
    assert caught.value.text == "Block node is read-only"
    with path.open("r+b") as file:
        file.seek(40)
        (table,) = struct.unpack(">Q", file.read(8))
        file.seek(table + 8 * 0)
        (l2,) = struct.unpack(">Q", file.read(8))
        file.seek((l2 & 0xFFFFFFFFFFFE00) + 8)
        file.write(struct.pack(">Q", 1 << 63 | 1 << 40))  # far outside of the file
    assert checked(path).corruptions
    with pytest.raises(RequestError) as caught:
        checked(path, "all")
    assert "qemu-img check -r all" in caught.value.text


# -- map -------------------------------------------------------------------------------------


def chain(folder: Path) -> Path:
    """Three layers of different sizes, with data, zeroes and holes in each."""
    base, middle, top = folder / "base.raw", folder / "mid.qcow2", folder / "top.qcow2"
    base.write_bytes(b"base" * (MIB // 4) + bytes(2 * MIB))
    with base.open("r+b") as file:
        file.truncate(5 * MIB)
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F"]
    run(*create, "raw", "-b", base, middle, "6M")
    run("qemu-io", "-f", "qcow2", "-c", "write 256k 1M", "-c", "write -z 4M 100k", middle)
    run(*create, "qcow2", "-b", middle, "-o", "cluster_size=4k", top, "8M")
    run("qemu-io", "-f", "qcow2", "-c", "write 1M 70k", "-c", "write 3M 4k", top)
    run("qemu-io", "-f", "qcow2", "-c", "write -z 300k 64k", "-c", "write 7M 512k", top)
    return top


@pytest.mark.parametrize("make", [image, snapshots, fragments, narrow, old])
def test_map_of_one_image(tmp_path: Path, make: Maker) -> None:
    assert_mapped(make(tmp_path / "a.qcow2"))


def test_map_of_a_chain(tmp_path: Path) -> None:
    assert_mapped(chain(tmp_path))


def assert_mapped(path: Path) -> None:
    runs: list[MapEntry] = asked(path, MapImage(device="d0"), ",format=qcow2")
    ours = [msgspec.to_builtins(entry) for entry in runs]
    for entry in ours:
        entry.pop("filename", None)
    assert ours == json.loads(run("qemu-img", "map", "--output=json", path))
    assert map_text(runs) == run("qemu-img", "map", path).rstrip("\n")


def test_what_lies_compressed_has_no_place(tmp_path: Path) -> None:
    path = compressed(tmp_path / "a.qcow2")
    runs: list[MapEntry] = asked(path, MapImage(device="d0"), ",format=qcow2")
    assert runs[0].data
    assert runs[0].offset is msgspec.UNSET
    assert "compressed" in map_text(runs)


# -- resize ----------------------------------------------------------------------------------


def test_resized_with_storage_and_shrunk(tmp_path: Path) -> None:
    path = image(tmp_path / "a.qcow2")
    size = 8 * MIB
    for mode in ("off", "metadata", "falloc", "full"):
        size += 5 * MIB
        asked(path, ResizeImage(device="d0", size=size, preallocation=mode), ",format=qcow2")
        assert checked(path).problems == []
        assert len(qemu_content(path)) == size
    with pytest.raises(RequestError) as caught:
        asked(path, ResizeImage(device="d0", size=MIB), ",format=qcow2")
    assert caught.value.text == "Use the --shrink option to perform a shrink operation."
    with pytest.raises(RequestError) as caught:
        asked(path, ResizeImage(device="d0", size=MIB, preallocation="full"), ",format=qcow2")
    assert caught.value.text == "Preallocation can only be used for growing images"
    asked(path, ResizeImage(device="d0", size=MIB, shrink=True), ",format=qcow2")
    assert path.stat().st_size < 3 * MIB
    assert qemu_check(path) == SOUND
