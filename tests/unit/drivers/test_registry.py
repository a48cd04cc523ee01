"""Names of drivers, protocols in file names, and guesses from first bytes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from monitor.engine.drivers import registry
from monitor.engine.errors import RequestError


@pytest.mark.parametrize("name", registry.driver_names())
def test_each_name_has_its_driver(name: str) -> None:
    assert registry.driver_class(name).name == name


def test_unknown_driver() -> None:
    with pytest.raises(RequestError, match="Unknown driver 'vmdk'"):
        registry.driver_class("vmdk")


def test_nothing_is_imported_before_it_is_used() -> None:
    code = (
        "import sys\n"
        "from monitor.engine.drivers import registry\n"
        "assert registry.probe(b'x' * 512) == 'raw'\n"
        "assert registry.driver_class('raw')\n"
        "late = {'numpy', 'ctypes', 'asyncio', 'monitor.engine.drivers.file.driver'}\n"
        "print(*sorted(late & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


@pytest.mark.parametrize(
    ("filename", "options"),
    [
        ("a.img", {"driver": "file", "filename": "a.img"}),
        ("file:a.img", {"driver": "file", "filename": "a.img"}),
        ("file:a:b", {"driver": "file", "filename": "./a:b"}),
        ("file:", {"driver": "file", "filename": ""}),
        ("./foo:bar", {"driver": "file", "filename": "./foo:bar"}),
        ("/a:b", {"driver": "file", "filename": "/a:b"}),
        ("foo/x:y", {"driver": "file", "filename": "foo/x:y"}),
        ("null-co://", {"driver": "null-co"}),
        ("null-aio://", {"driver": "null-aio"}),
    ],
)
def test_protocol_in_a_file_name(filename: str, options: dict[str, str]) -> None:
    assert registry.protocol_options(filename) == options


@pytest.mark.parametrize(
    ("filename", "text"),
    [
        ("foo:bar", "Unknown protocol 'foo'"),
        ("raw:a.img", "Unknown protocol 'raw'"),
        (":x", "Unknown protocol ''"),
        ("null-co:x", "The only allowed filename for this driver is 'null-co://'"),
    ],
)
def test_protocols_that_are_refused(filename: str, text: str) -> None:
    with pytest.raises(RequestError) as caught:
        registry.protocol_options(filename)
    assert caught.value.text == text


@pytest.mark.parametrize(
    ("first_bytes", "name"),
    [
        (b"", "raw"),
        (bytes(512), "raw"),
        (b"QFI\xfb\0\0\0\x01", "qcow"),
        (b"QFI\xfb\0\0\0\x02" + bytes(504), "qcow2"),
        (b"QFI\xfb\0\0\0\x03" + bytes(504), "qcow2"),
        (b"QED\0", "qed"),
        (b"KDMV\x01\0\0\0", "vmdk"),
        (b"# Disk DescriptorFile\n\n \nversion=3\nCID=1", "vmdk"),
        (b"# Disk DescriptorFile\nversion=9\n", "raw"),
        (b"version=1\n", "vmdk"),
        (b"#!/bin/sh\necho\n", "raw"),
        (bytes(64) + b"\x7f\x10\xda\xbe" + bytes(400), "vdi"),
        (b"vhdxfile", "vhdx"),
        (b"conectix", "vpc"),
        (b"LUKS\xba\xbe\0\x02", "luks"),
    ],
)
def test_guess(first_bytes: bytes, name: str) -> None:
    assert registry.probe(first_bytes) == name


def test_guess_by_name() -> None:
    assert registry.probe(bytes(512), "a.dmg") == "dmg"
    assert registry.probe(b"KDMV", "a.dmg") == "vmdk"
