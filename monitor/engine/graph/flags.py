"""How nodes are open: what their options ask for, and what a parent hands down to its children."""

from __future__ import annotations

from msgspec import UNSET

from monitor.engine.drivers.base import OpenFlags
from monitor.engine.errors import Refused, RequestError
from monitor.engine.schema.base import given
from monitor.engine.schema.blockdev import BlockdevOptions, CacheOptions, DetectZeroes


def flags_of(options: BlockdevOptions, inherit: OpenFlags | None) -> OpenFlags:
    """The flags that ``options`` ask for, over those that a parent hands down."""
    base = inherit or OpenFlags()
    cache = options.cache if isinstance(options.cache, CacheOptions) else CacheOptions()
    return OpenFlags(
        read_only=given(options.read_only, base.read_only),
        auto_read_only=given(options.auto_read_only, base.auto_read_only),
        direct=given(cache.direct, base.direct),
        no_flush=given(cache.no_flush, base.no_flush),
        unmap=base.unmap if options.discard is UNSET else options.discard == "unmap",
        force_share=given(options.force_share, base.force_share),
    )


def for_file(flags: OpenFlags) -> OpenFlags:
    """What a format hands down to the file it lies in: all of it, and discards always pass (the
    format decides about them itself)."""
    return OpenFlags(
        read_only=flags.read_only,
        auto_read_only=flags.auto_read_only,
        direct=flags.direct,
        no_flush=flags.no_flush,
        unmap=True,
        force_share=flags.force_share,
    )


def for_backing(flags: OpenFlags) -> OpenFlags:
    """What an overlay hands down to its backing image: cache modes, and never to write."""
    return OpenFlags(
        read_only=True,
        direct=flags.direct,
        no_flush=flags.no_flush,
        force_share=flags.force_share,
    )


class ForceShareNotReadOnly(RequestError):
    template = "force-share=on can only be used with read-only images"


def check_detect_zeroes(options: BlockdevOptions, flags: OpenFlags) -> DetectZeroes:
    """What is to become of writes of zeroes. Raises Refused."""
    detect: DetectZeroes = given(options.detect_zeroes, "off")
    if detect == "unmap" and not flags.unmap:
        raise Refused(
            "setting detect-zeroes to unmap is not allowed without setting discard operation to "
            "unmap"
        )
    return detect
