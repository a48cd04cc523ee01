"""Images that QEMU made are read here, and images made here satisfy QEMU."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.engine.drivers.qcow2 import CreateOptions, create_image
from tests.support.children import MemoryChild
from tests.support.edges import DriverEdge
from tests.support.files import open_file
from tests.support.qcow2 import Disk, open_qcow2, qemu_check, qemu_content, read
from tests.support.qcow2_strategies import images, requests
from tests.support.tools import need, run

CLUSTER_SIZES = [512, 1024, 2048, 4096, 8192, 65536, 262144, 2 << 20]


@pytest.fixture(autouse=True)
def tools() -> None:
    need("qemu-img", "qemu-io")


@pytest.mark.parametrize("backed", [False, True])
@settings(max_examples=15)
@given(data=st.data(), options=images())
def test_qemu_agrees(
    backed: bool, data: st.DataObject, options: dict[str, Any], tmp_path_factory: Any
) -> None:
    folder: Path = tmp_path_factory.mktemp("qcow2")
    backing = None
    if backed:
        backing = MemoryChild(b"below" * 100_000)
        (folder / "below.raw").write_bytes(backing.content)
        options = options | {"backing_file": "below.raw", "backing_fmt": "raw"}
    file = MemoryChild()
    create_image(file, CreateOptions(**options))
    disk = Disk(file, backing)
    for _ in range(data.draw(st.integers(1, 12))):
        requests(data, disk)
    disk.driver.close()
    path = folder / "disk.qcow2"
    path.write_bytes(file.content)
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}
    assert qemu_content(path) == disk.model
    shutil.rmtree(folder)


def _pattern(size: int) -> bytes:
    """Data that compresses, with zeroes and noise in it."""
    chance = random.Random(size)
    noise = chance.randbytes(size // 8)
    text = b"the quick brown fox " * (size // 80)
    return (text + bytes(size // 4) + noise + text).ljust(size, b"\0")[:size]


def _open(path: Path, **flags: bool) -> DriverEdge:
    return DriverEdge(open_file(path, **flags))


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
@pytest.mark.parametrize("cluster_size", CLUSTER_SIZES)
def test_compressed_images(tmp_path: Path, cluster_size: int, compression: str) -> None:
    content = _pattern(3 << 20)
    raw, path = tmp_path / "a.raw", tmp_path / "a.qcow2"
    raw.write_bytes(content)
    options = f"cluster_size={cluster_size},compression_type={compression}"
    run("qemu-img", "convert", "-c", "-O", "qcow2", "-o", options, raw, path)
    disk = open_qcow2(_open(path, read_only=True), read_only=True)
    assert read(disk) == content
    assert read(disk, 70_001, 12_345) == content[70_001:82_346]
    disk.close()


@pytest.mark.parametrize("cluster_size", CLUSTER_SIZES)
def test_writing_over_compressed_clusters(tmp_path: Path, cluster_size: int) -> None:
    raw, path = tmp_path / "a.raw", tmp_path / "a.qcow2"
    raw.write_bytes(_pattern(2 << 20))
    run("qemu-img", "convert", "-c", "-O", "qcow2", "-o", f"cluster_size={cluster_size}", raw, path)
    file = _open(path)
    disk = Disk(file)
    disk.model[:] = raw.read_bytes()
    chance = random.Random(cluster_size)
    for _ in range(30):
        offset = chance.randrange(disk.size)
        length = min(disk.size - offset, chance.choice([100, 4096, 70_000]))
        disk.write(offset, chance.randbytes(length))
    disk.discard(1 << 20, 512 << 10)
    disk.write_zeroes(100, 200_000)
    disk.check()
    disk.driver.close()
    file.driver.close()
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}
    assert qemu_content(path) == disk.model


@pytest.mark.parametrize(
    "options",
    [
        "compat=0.10",
        "compat=1.1,refcount_bits=1",
        "refcount_bits=2",
        "refcount_bits=4",
        "refcount_bits=8",
        "refcount_bits=32",
        "refcount_bits=64",
        "preallocation=metadata",
        "preallocation=falloc",
        "preallocation=full",
        "lazy_refcounts=on",
        "compat=0.10,preallocation=metadata",
        *(f"cluster_size={size}" for size in CLUSTER_SIZES),
    ],
)
def test_images_that_qemu_made_and_wrote(tmp_path: Path, options: str) -> None:
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-f", "qcow2", "-o", options, path, "5M")
    model = bytearray(5 << 20)
    commands = []
    for byte, offset, length in ((1, 0, 1000), (2, 65_000, 400_000), (3, 3 << 20, 2 << 20)):
        commands += ["-c", f"write -P {byte} {offset} {length}"]
        model[offset : offset + length] = bytes([byte]) * length
    if "0.10" not in options:
        commands += ["-c", "write -z 100k 100k"]
        model[100 << 10 : 200 << 10] = bytes(100 << 10)
    run("qemu-io", "-f", "qcow2", *commands, path)
    file = _open(path)
    disk = Disk(file)
    disk.model = model
    disk.check()
    disk.write(4096, b"ours" * 100_000)
    disk.write_zeroes(3_200_000, 70_000)
    disk.truncate(6 << 20)
    disk.write((6 << 20) - 600, b"end" * 200)
    disk.check()
    disk.driver.close()
    file.driver.close()
    assert qemu_check(path)["corruptions"] == 0
    assert qemu_content(path) == disk.model


def test_internal_snapshots_stay_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-f", "qcow2", "-o", "cluster_size=4k", path, "8M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 8M", path)
    run("qemu-img", "snapshot", "-c", "before", path)
    file = _open(path)
    disk = Disk(file)
    disk.model[:] = b"\1" * (8 << 20)
    assert [s["name"] for s in disk.driver.image_facts()["snapshots"]] == ["before"]
    disk.write(5000, b"changed" * 1000)
    disk.discard(1 << 20, 1 << 20)
    disk.write_zeroes(3 << 20, 1 << 20, True)
    disk.write(1 << 20, b"again" * 50_000)
    disk.truncate(9 << 20)
    disk.check()
    disk.driver.close()
    file.driver.close()
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}
    assert qemu_content(path) == disk.model
    run("qemu-img", "snapshot", "-a", "before", path)
    assert qemu_content(path) == b"\1" * (8 << 20)


@pytest.mark.parametrize("refcount_bits", [1, 16, 64])
@pytest.mark.parametrize("cluster_size", [512, 4096, 65536])
def test_a_dirty_image_is_repaired(tmp_path: Path, cluster_size: int, refcount_bits: int) -> None:
    path = tmp_path / "a.qcow2"
    options = f"cluster_size={cluster_size},lazy_refcounts=on,refcount_bits={refcount_bits}"
    run("qemu-img", "create", "-f", "qcow2", "-o", options, path, "8M")
    commands = ["-c", "write -P 7 512k 3M", "-c", "flush", "-c", "abort"]
    subprocess.run(["qemu-io", "-f", "qcow2", *commands, str(path)], capture_output=True)
    assert qemu_check(path)["corruptions"] > 0
    file = _open(path)
    disk = Disk(file)
    disk.model[512 << 10 : (512 << 10) + (3 << 20)] = b"\7" * (3 << 20)
    assert disk.driver.image_facts()["dirty-flag"] is False
    disk.check()
    disk.write(1000, b"new" * 10_000)
    disk.driver.close()
    file.driver.close()
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}
    assert qemu_content(path) == disk.model


def test_a_dirty_image_with_snapshots_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-f", "qcow2", "-o", "lazy_refcounts=on", path, "8M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 2M", path)
    run("qemu-img", "snapshot", "-c", "one", path)
    commands = ["-c", "write -P 7 1M 3M", "-c", "flush", "-c", "abort"]
    subprocess.run(["qemu-io", "-f", "qcow2", *commands, str(path)], capture_output=True)
    file = _open(path)
    disk = Disk(file)
    disk.model[:] = b"\1" * (1 << 20) + b"\7" * (3 << 20) + bytes(4 << 20)
    disk.check()
    disk.driver.close()
    file.driver.close()
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}


def _info(path: Path) -> dict[str, Any]:
    info: dict[str, Any] = json.loads(run("qemu-img", "info", "--output=json", path))
    return info


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"version": 2},
        {"cluster_size": 512, "refcount_bits": 64},
        {"cluster_size": 2 << 20, "refcount_bits": 1, "lazy_refcounts": True},
        {"compression_type": "zstd"},
        {"backing_file": "base.raw", "backing_fmt": "raw"},
        {"preallocation": "metadata"},
        {"size": 0},
        {"size": 1 << 40},
    ],
)
def test_what_qemu_says_of_a_new_image(tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "base.raw").write_bytes(b"base" * 10_000)
    path = tmp_path / "a.qcow2"
    path.touch()
    file = _open(path)
    create_image(file, CreateOptions(**({"size": 10 << 20} | options)))
    disk = open_qcow2(file, MemoryChild(b"base" * 10_000))
    said, ours = _info(path), disk.specific_info()
    assert said["format-specific"] == ours
    assert said["virtual-size"] == disk.length()
    assert said["cluster-size"] == disk.cluster_size()
    assert said.get("backing-filename") == disk.backing_filename
    assert said.get("backing-filename-format") == disk.backing_format
    disk.close()
    file.driver.close()
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}


def test_a_new_image_is_qemus_byte_for_byte(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.qcow2"
    ours = MemoryChild()
    for options in ("size=64M", "size=1G,cluster_size=4k", "size=64M,compat=0.10"):
        run("qemu-img", "create", "-f", "qcow2", "-o", options, theirs)
        words = dict(word.split("=") for word in options.split(","))
        size = int(words["size"][:-1]) << (20 if words["size"].endswith("M") else 30)
        version = 2 if "compat" in words else 3
        cluster_size = 4096 if "cluster_size" in words else 65536
        create_image(ours, CreateOptions(size, version, cluster_size=cluster_size))
        assert bytes(ours.content) == theirs.read_bytes()


def test_backing_link(tmp_path: Path) -> None:
    path, base = tmp_path / "a.qcow2", tmp_path / "base.raw"
    base.write_bytes(b"base" * 100_000)
    run("qemu-img", "create", "-f", "qcow2", path, "1M")
    file = _open(path)
    disk = open_qcow2(file)
    disk.set_backing("base.raw", "raw")
    disk.close()
    file.driver.close()
    said = _info(path)
    assert said["backing-filename"] == "base.raw"
    assert said["backing-filename-format"] == "raw"
    assert qemu_content(path) == base.read_bytes().ljust(1 << 20, b"\0")
    file = _open(path)
    disk = open_qcow2(file)
    disk.set_backing(None, None)
    disk.close()
    file.driver.close()
    assert "backing-filename" not in _info(path)
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}
