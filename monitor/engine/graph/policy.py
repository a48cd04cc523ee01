"""What an image may make the engine open: names inside images are untrusted."""

from __future__ import annotations

import os
import sys

import msgspec

from monitor.engine.drivers.registry import has_protocol
from monitor.engine.errors import RequestError

MAX_CHAIN = 1000
"""Backing links below one image, whether images name them or users put them there."""

_CALLS = 6
"""Calls that one layer's read makes of itself before it asks the layer below (four, and room)."""


def allow_deep_reads() -> None:
    """Lets a read pass down the longest chain. The interpreter's own limit stands for a C stack
    that calls from Python to Python do not use; it would end a read some 240 layers down."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), _CALLS * MAX_CHAIN + 1000))


class BackingNameRefused(RequestError):
    template = (
        "Backing file '{name}' of '{overlay}' is not a plain path and is not opened unasked: "
        "give backing=null, or the image's own options, such as "
        "backing.driver=qcow2 backing.file.filename=FILE"
    )
    name: str
    overlay: str


class BackingFormatUnknown(RequestError):
    template = (
        "'{overlay}' does not record the format of its backing file '{name}', which looks like "
        "{guess} and names a further file; give backing.driver={guess} explicitly"
    )
    name: str
    overlay: str
    guess: str


class NoBaseDirectory(RequestError):
    template = "Cannot generate a base directory for NBD nodes"


class BackingLoop(RequestError):
    template = "Backing file '{name}' is already in the chain that leads to it"
    name: str


class ChainTooLong(RequestError):
    template = "The backing chain of '{top}' has more than {limit} layers"
    top: str
    limit: int = MAX_CHAIN


class OpenPolicy(msgspec.Struct, frozen=True):
    """Which backing links are followed. ``backing=null`` or an explicit option always wins."""

    follow: bool = True
    protocols: bool = False

    def resolve(self, name: str, overlay: str) -> str:
        """The path that a backing name leads to; relative names are beside the overlay.

        Raises BackingNameRefused for anything but a plain path, and NoBaseDirectory for a relative
        one in an image that is no file. What comes back never reads as a protocol's name, whatever
        follows ``file:`` and whatever the overlay's folder is called.
        """
        if not self.follow:
            raise BackingNameRefused(name, overlay)
        if name.startswith("file:"):
            name = name.removeprefix("file:")
        elif has_protocol(name) and not self.protocols:
            raise BackingNameRefused(name, overlay)
        if os.path.isabs(name):
            return name
        if "://" in overlay:
            raise NoBaseDirectory()
        path = os.path.join(os.path.dirname(overlay), name)
        return f"./{path}" if has_protocol(path) else path
