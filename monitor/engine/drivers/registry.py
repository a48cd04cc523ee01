"""Driver names, and what names and first bytes of files say about drivers.

Drivers are imported when first used: a start with one raw file loads no qcow2, hence no numpy.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, Final

from monitor.engine.drivers.base import Driver
from monitor.engine.errors import RequestError

PROBE_BYTES: Final = 512
"""How much of an image the signatures below look at."""

_CLASSES: Final = {
    "blkdebug": ("monitor.engine.drivers.blkdebug", "BlkdebugDriver"),
    "copy-before-write": ("monitor.engine.drivers.copy_before_write", "CopyBeforeWriteDriver"),
    "copy-on-read": ("monitor.engine.drivers.copy_on_read", "CopyOnReadDriver"),
    "file": ("monitor.engine.drivers.file.driver", "FileDriver"),
    "host_device": ("monitor.engine.drivers.file.device", "HostDeviceDriver"),
    "nbd": ("monitor.engine.drivers.nbd.driver", "NbdDriver"),
    "null-aio": ("monitor.engine.drivers.null", "NullAioDriver"),
    "null-co": ("monitor.engine.drivers.null", "NullCoDriver"),
    "qcow2": ("monitor.engine.drivers.qcow2", "Qcow2Driver"),
    "raw": ("monitor.engine.drivers.raw", "RawDriver"),
}

_PROTOCOLS: Final = ("blkdebug", "file", "host_device", "null-aio", "null-co")
"""Drivers that a file name may call by a prefix (``file:a.img``)."""


_NBD: Final = ("nbd", "nbd+tcp", "nbd+unix")


class UnknownDriver(RequestError):
    template = "Unknown driver '{driver}'"
    driver: str


class UnknownProtocol(RequestError):
    template = "Unknown protocol '{protocol}'"
    protocol: str


class NullFilename(RequestError):
    template = "The only allowed filename for this driver is '{driver}://'"
    driver: str


def driver_names() -> tuple[str, ...]:
    return tuple(_CLASSES)


@functools.cache
def driver_class(name: str) -> type[Driver]:
    """The driver called ``name`` in QMP. Raises UnknownDriver."""
    try:
        module, attribute = _CLASSES[name]
    except KeyError:
        raise UnknownDriver(name) from None
    found: type[Driver] = getattr(importlib.import_module(module), attribute)
    return found


# -- file names ------------------------------------------------------------------------------


def has_protocol(filename: str) -> bool:
    """Whether ``filename`` begins with a protocol's name: a colon comes before any slash."""
    return ":" in filename.partition("/")[0]


class BlkdebugNeedsBoth(RequestError):
    template = "blkdebug requires both config file and image path"


def protocol_options(filename: str) -> dict[str, Any]:
    """``driver`` and the driver's options that a file name stands for, as QEMU reads a name that
    may hold a protocol (``-drive file=``; never ``blockdev-add``). Raises RequestError.

    ``./a:b`` is how a file whose name looks like a protocol is opened, and how one comes back from
    here.
    """
    if not has_protocol(filename):
        return {"driver": "file", "filename": filename}
    protocol, _, rest = filename.partition(":")
    if protocol in _NBD:
        from monitor.engine.drivers.nbd.address import options_of

        return options_of(filename)
    if protocol not in _PROTOCOLS:
        raise UnknownProtocol(protocol)
    if protocol == "file":
        return {"driver": "file", "filename": f"./{rest}" if has_protocol(rest) else rest}
    if protocol == "host_device":
        return {"driver": protocol, "filename": rest}
    if protocol == "blkdebug":
        config, found, image = rest.partition(":")
        if not found:
            raise BlkdebugNeedsBoth()
        named = {"driver": protocol, "image": protocol_options(image)}
        return named | {"config": config} if config else named
    if rest != "//":
        raise NullFilename(protocol)
    return {"driver": protocol}


# -- first bytes -----------------------------------------------------------------------------

_SIGNATURES: Final[tuple[tuple[str, int, bytes], ...]] = (
    ("qcow", 0, b"QFI\xfb\0\0\0\x01"),
    ("qed", 0, b"QED\0"),
    ("vmdk", 0, b"KDMV"),
    ("vmdk", 0, b"COWD"),
    ("vdi", 64, b"\x7f\x10\xda\xbe"),
    ("vhdx", 0, b"vhdxfile"),
    ("vpc", 0, b"conectix"),
    ("luks", 0, b"LUKS\xba\xbe"),
    ("parallels", 0, b"WithoutFreeSpace"),
    ("parallels", 0, b"WithouFreSpacExt"),
    ("bochs", 0, b"Bochs Virtual HD Image\0"),
    ("cloop", 0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop "),
)
"""Formats that QEMU recognises and this engine does not open: such an image is not raw."""


def probe(first_bytes: bytes, filename: str = "") -> str:
    """The format that an image beginning with ``first_bytes`` seems to have; "raw" if none.

    A guess: whoever may write to a raw disk decides what its next probing finds. So a probed
    format leads nowhere (docs of ``engine.graph.policy``), and a probed raw disk may not be given
    another format's header (``drivers.raw``). The answer may be a format that
    ``driver_class`` does not know.
    """
    return next((name for name, matches in _PROBES if matches(first_bytes, filename)), "raw")


def _is_qcow2(first_bytes: bytes, filename: str) -> bool:
    if not first_bytes.startswith(b"QFI\xfb"):
        return False  # the driver need not be imported to know
    from monitor.engine.drivers.qcow2 import probe as probe_qcow2

    return probe_qcow2(first_bytes)


def _is_foreign(name: str, at: int, signature: bytes) -> Callable[[bytes, str], bool]:
    return lambda first_bytes, filename: first_bytes.startswith(signature, at)


def _is_vmdk_descriptor(first_bytes: bytes, filename: str) -> bool:
    """A text of comments and blank lines before ``version=1``, 2 or 3."""
    for line in first_bytes.split(b"\n"):
        text = line.rstrip(b"\r")
        if text.startswith(b"#") or not text.strip(b" "):
            continue
        return text in (b"version=1", b"version=2", b"version=3")
    return False


def _is_dmg(first_bytes: bytes, filename: str) -> bool:
    return filename.endswith(".dmg")


_PROBES: Final = (
    ("qcow2", _is_qcow2),
    *((name, _is_foreign(name, at, signature)) for name, at, signature in _SIGNATURES),
    ("vmdk", _is_vmdk_descriptor),
    ("dmg", _is_dmg),
)
