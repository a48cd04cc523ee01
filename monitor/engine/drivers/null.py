"""``null-co`` and ``null-aio``: a disk that keeps nothing, for measuring and for tests.

The two differ in QEMU (coroutines, callbacks) and are the same here. Reads give zeroes whatever
``read-zeroes`` says, since a buffer that is left alone shows what was in it before; the option
decides whether ``map`` promises it.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Any, Final

from monitor.engine.drivers.base import (
    MAX_LENGTH,
    Driver,
    DriverKind,
    Extent,
    ExtentKind,
    OpenContext,
)
from monitor.engine.drivers.buffers import zero
from monitor.engine.errors import HostFailure, RequestError
from monitor.engine.schema.blockdev import BlockdevOptionsNullAio, BlockdevOptionsNullCo
from monitor.engine.schema.mistakes import UnsignedExpected

DEFAULT_SIZE: Final = 1 << 30


class InvalidLatency(RequestError):
    template = "latency-ns is invalid"


class NullNotResizable(RequestError):
    template = "Image format driver does not support resize"


class NullCoDriver(Driver):
    name = "null-co"
    kind = DriverKind.PROTOCOL
    is_protocol = True
    opens_at_once = True

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep

    def open(self, context: OpenContext) -> None:
        options: BlockdevOptionsNullCo | BlockdevOptionsNullAio = context.options
        size = options.size if isinstance(options.size, int) else DEFAULT_SIZE
        latency = options.latency_ns if isinstance(options.latency_ns, int) else 0
        if size < 0:
            # QEMU 7.2 takes a negative size from QMP and dies of it; this is its refusal elsewhere.
            raise UnsignedExpected("size")
        if size > MAX_LENGTH:
            raise HostFailure("Could not refresh total sector count", errno.EFBIG)
        if not 0 <= latency < 1 << 63:
            raise InvalidLatency()
        self._length = size
        self._latency = latency / 1e9
        self._read_zeroes = options.read_zeroes is True
        plain = not isinstance(options.size, int) and not isinstance(options.read_zeroes, bool)
        self._filename = f"{self.name}://" if plain else ""

    def close(self) -> None:
        """Nothing to let go of."""

    def length(self) -> int:
        return self._length

    def image_facts(self) -> dict[str, Any]:
        return {}  # no image, no dirty flag

    def read(self, buffer: memoryview, offset: int) -> None:
        self._wait()
        zero(buffer)

    def write(self, buffer: memoryview, offset: int) -> None:
        self._wait()

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        self._wait()

    def flush(self) -> None:
        self._wait()

    def truncate(self, size: int) -> None:
        raise NullNotResizable()

    def map(self, offset: int, length: int) -> list[Extent]:
        kind = ExtentKind.ZERO if self._read_zeroes else ExtentKind.DATA
        return [Extent(kind, length)] if length else []

    def _wait(self) -> None:
        if self._latency:
            self._sleep(self._latency)

    @property
    def filename(self) -> str:
        return self._filename

    def allocated_bytes(self) -> int:
        return 0


class NullAioDriver(NullCoDriver):
    name = "null-aio"
