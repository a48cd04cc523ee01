"""``create`` beside ``qemu-img create``: the same options, refusals and images."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from monitor.commands.imagehelp import option_list
from monitor.engine.clock import ManualClock
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.schema.extra import CreateImage
from monitor.engine.schema.imageopts import asks_for_help
from tests.support.qcow2 import qemu_check
from tests.support.tools import need, run

MIB = 1 << 20


@pytest.fixture(autouse=True)
def tools() -> None:
    need("qemu-img")


def ours(path: str, fmt: str, options: str, size: str | None) -> str:
    """Creates an image here; the refusal, "" when there is none."""

    async def main() -> None:
        engine = EmbeddedEngine(ManualClock())
        request = CreateImage(filename=path, format=fmt, options=options)
        if size is not None:
            request.size = int(size)
        await engine.execute(request)

    try:
        asyncio.run(asyncio.wait_for(main(), 30))
    except RequestError as error:
        return error.text + (f"\n{error.hint}" if error.hint else "")
    return ""


def theirs(path: str, fmt: str, options: str, size: str | None) -> str:
    words = ["qemu-img", "create", "-q", "-f", fmt, *(["-o", options] if options else []), path]
    ended = subprocess.run([*words, *([size] if size else [])], capture_output=True, text=True)
    return ended.stderr.removeprefix(f"qemu-img: {path}: ").strip()


REFUSED = [
    ("raw", "preallocation=metadata", "1048576"),
    ("raw", "preallocation=bogus", "1048576"),
    ("raw", "extent_size_hint=x", "1048576"),
    ("raw", "extent_size_hint=8G", "1048576"),
    ("raw", "nocow=maybe", "1048576"),
    ("raw", "cluster_size=4k", "1048576"),
    ("raw", "backing_file=base.raw", "1048576"),
    ("raw", "size=2M", "1048576"),
    ("raw", "size=x", None),
    ("raw", "", None),
    ("qcow2", "size=x", None),
    ("qcow2", "", None),
    ("qcow2", "size=8M", "9437184"),
    ("qcow2", "bogus=on", "1048576"),
    ("qcow2", "compat=2", "1048576"),
    ("qcow2", "compression_type=lz", "1048576"),
    ("qcow2", "preallocation=bogus", "1048576"),
    ("qcow2", "cluster_size=x", "1048576"),
    ("qcow2", "cluster_size=3k", "1048576"),
    ("qcow2", "cluster_size=256", "1048576"),
    ("qcow2", "cluster_size=4M", "1048576"),
    ("qcow2", "lazy_refcounts=x", "1048576"),
    ("qcow2", "refcount_bits=3", "1048576"),
    ("qcow2", "refcount_bits=128", "1048576"),
    ("qcow2", "compat=0.10,refcount_bits=8", "1048576"),
    ("qcow2", "compat=0.10,lazy_refcounts=on", "1048576"),
    ("qcow2", "compat=0.10,compression_type=zstd", "1048576"),
    ("qcow2", "backing_fmt=raw", "1048576"),
    ("qcow2", "backing_file=base.raw", "1048576"),
    ("qcow2", "backing_file=nowhere.raw,backing_fmt=raw", "1048576"),
    ("qcow2", "backing_file=base.raw,backing_fmt=raw,preallocation=full", "1048576"),
    ("qcow2", "backing_file=base.raw,backing_fmt=raw,preallocation=metadata", None),
    ("qcow2", "backing_file=new,backing_fmt=raw", "1048576"),
    ("qcow2", "cluster_size=512", str(1 << 40)),
]


@pytest.mark.parametrize(("fmt", "options", "size"), REFUSED)
def test_refused_in_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fmt: str, options: str, size: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.raw").write_bytes(bytes(MIB))
    said = ours("new", fmt, options, size)
    left = Path("new").exists()
    Path("new").unlink(missing_ok=True)
    assert said == theirs("new", fmt, options, size)
    assert said
    assert left == Path("new").exists()


@pytest.mark.parametrize("name", ["blkdebug::new", "null-co://", "foo:new"])
@pytest.mark.parametrize("options", ["", "cluster_size=3", "backing_file=none,backing_fmt=raw"])
def test_no_files_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: str
) -> None:
    """The name is looked at before the options, and nothing is made of it."""
    monkeypatch.chdir(tmp_path)
    said = ours(name, "qcow2", options, "1048576")
    assert said == theirs(name, "qcow2", options, "1048576")
    assert said
    assert not [*tmp_path.iterdir()]
    nbd = "Protocol driver 'nbd' does not support image creation"
    assert ours("nbd://localhost:1/new", "qcow2", options, "1048576") == nbd


MADE = [
    ("raw", "", "1048576"),
    ("raw", "size=3M,nocow=on,extent_size_hint=0", None),
    ("raw", "preallocation=falloc", "3145728"),
    ("raw", "preallocation=full,extent_size_hint=64k", "3145728"),
    ("qcow2", "size=1000", None),
    ("qcow2", "size=8M,nocow=on,extent_size_hint=1M", None),
    ("qcow2", "backing_file=base.raw,backing_fmt=raw", None),
    ("qcow2", "backing_file=base.raw,backing_fmt=raw,size=5M,cluster_size=4k", None),
    ("qcow2", "compat=v2", "8388608"),
    ("qcow2", "compat=1.1,lazy_refcounts=on,compression_type=zstd", "8388608"),
    *(
        ("qcow2", f"preallocation={mode}{more}", "5242880")
        for mode in ("off", "metadata", "falloc", "full")
        for more in ("", ",compat=0.10", ",cluster_size=4k", ",refcount_bits=1")
    ),
    *(("qcow2", f"refcount_bits={1 << order}", "8388608") for order in range(7)),
]


def about(path: str, fmt: str) -> dict[str, Any]:
    info: dict[str, Any] = json.loads(run("qemu-img", "info", "-f", fmt, "--output=json", path))
    info["length"] = Path(path).stat().st_size
    return info


@pytest.mark.parametrize(("fmt", "options", "size"), MADE)
def test_made_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fmt: str, options: str, size: str | None
) -> None:
    """Length, allocation, and all that qemu-img says of it."""
    monkeypatch.chdir(tmp_path)
    Path("base.raw").write_bytes(b"base" * (MIB // 2))
    assert ours("new", fmt, options, size) == ""
    mine = about("new", fmt)
    if fmt == "qcow2":
        assert qemu_check(Path("new")) == {"leaks": 0, "corruptions": 0}
    mapped = run("qemu-img", "map", "-f", fmt, "--output=json", "new")
    Path("new").unlink()
    assert theirs("new", fmt, options, size) == ""
    other = about("new", fmt)
    if "metadata" not in options and "cluster_size=4k" not in options:  # order of their tables
        assert mapped == run("qemu-img", "map", "-f", fmt, "--output=json", "new")
    for number in ("length", "actual-size"):
        assert abs(mine.pop(number) - other.pop(number)) <= 65536
    assert mine == other


@pytest.mark.parametrize("fmt", ["qcow2", "raw", "file"])
@pytest.mark.parametrize("named", [False, True])
def test_the_list_of_options_is_qemu_imgs(fmt: str, named: bool) -> None:
    """Each line as it stands there; what is missing is what such an image cannot be given here."""
    words = ["qemu-img", "create", "-f", fmt, "-o", "help", *(["x.img"] if named else [])]
    whole = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    later = re.compile(r"  (encrypt|data_file|extended_l2)")
    expected = [line for line in whole if not later.match(line)]
    assert option_list(fmt, with_file=named).splitlines() == expected


def test_a_comma_in_a_name_asks_for_nothing() -> None:
    for asking in ("help", "?", "size=1M,help", "backing_file=a,,,help"):
        assert asks_for_help(asking), asking
    for name in ("backing_file=a,,help", "backing_file=,,?", "size=1M", "", None):
        assert not asks_for_help(name), name


def test_the_list_makes_and_loses_nothing(tmp_path: Path) -> None:
    precious = tmp_path / "a.qcow2"
    precious.write_bytes(b"precious")
    blkmon = [sys.executable, "-m", "monitor"]
    for line in (
        f"create -f qcow2 -o help {precious} 1M",
        "create -o ?",
        "create -f qcow2 -o size=1M,help",
    ):
        ended = subprocess.run([*blkmon, "-c", line], capture_output=True, text=True)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.startswith("Supported ")
    assert precious.read_bytes() == b"precious"
    ended = subprocess.run(
        [*blkmon, "--check", "-c", "create -f qcow2"], capture_output=True, text=True
    )
    assert (ended.returncode, "file is missing: expected a file name" in ended.stderr) == (3, True)
