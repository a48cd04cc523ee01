"""The filter: asks the rules about each request, then hands it on in the sizes asked for."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Final

from msgspec import UNSET

from monitor.engine import permissions
from monitor.engine.drivers.base import Child, Driver, DriverKind, Extent, OpenContext
from monitor.engine.drivers.blkdebug.config import offset_of, read_rules
from monitor.engine.drivers.blkdebug.rules import ALL_BUT_STATUS, Injection, Rules, StateChange
from monitor.engine.drivers.buffers import write_zeroes
from monitor.engine.drivers.ranges import RangeLocks
from monitor.engine.errors import RequestError
from monitor.engine.schema.blkdebug import BlkdebugInjectErrorOptions
from monitor.engine.schema.blockdev import BlockdevOptionsBlkdebug
from monitor.engine.schema.mistakes import UnsignedExpected, UnsupportedProtocolOption

_LARGEST: Final = (1 << 31) - 1
_ANY_LENGTH: Final = 1 << 63
_BY_NAME: Final = {name: bit for bit, name in permissions.QMP_NAMES.items()}


_SPECIAL: Final = (
    "align",
    "max_transfer",
    "opt_write_zero",
    "max_write_zero",
    "opt_discard",
    "max_discard",
    "inject_error",
    "set_state",
)
"""Options that a plain file name has no place for."""


class UnmetConstraint(RequestError):
    template = "Cannot meet constraints with {option} {value}"
    option: str
    value: int


class BlkdebugDriver(Driver):
    name = "blkdebug"
    kind = DriverKind.FILTER
    is_protocol = True
    child_roles: ClassVar[tuple[str, ...]] = ("image",)

    image: Child
    rules: Rules

    # -- life --------------------------------------------------------------------------------

    def open(self, context: OpenContext) -> None:
        options: BlockdevOptionsBlkdebug = context.options
        self.image = context.children["image"]
        self._only_config = all(getattr(options, name) is UNSET for name in _SPECIAL)
        self._config = options.config if isinstance(options.config, str) else ""
        injections, changes = ([], []) if options.config is UNSET else read_rules(self._config)
        for given in _listed(options.inject_error):
            injections.append(_injection(given))
        for given in _listed(options.set_state):
            state = _number(given.state, 0)
            changes.append(StateChange(given.event, state, given.new_state))
        self._refuse_empty(options)
        self.rules = Rules(injections, changes, self._suspended)
        self._ranges = RangeLocks()
        self._written = False
        self._set_sizes(options)
        self._taken = _bits(options.take_child_perms)
        self._unshared = _bits(options.unshare_child_perms)
        self.rules.happen("none")

    def _refuse_empty(self, options: BlockdevOptionsBlkdebug) -> None:
        """QEMU reads the members of lists, and what has none is an option that nobody knows."""
        for name in ("set_state", "inject_error", "take_child_perms", "unshare_child_perms"):
            if getattr(options, name) == []:
                raise UnsupportedProtocolOption(self.name, name.replace("_", "-"))

    def _suspended(self, tag: str) -> None:
        if self.on_suspend is not None:
            self.on_suspend(tag)

    def _set_sizes(self, options: BlockdevOptionsBlkdebug) -> None:
        """Sizes of requests, bytes; each a multiple of the one that it is built on."""
        align = _number(options.align, 0)
        if align < 0:
            raise UnsignedExpected("align")
        if align and (align >= _LARGEST or align & (align - 1)):
            raise UnmetConstraint("align", align)
        self._align = align or 1
        unit = max(align, self.image.alignment)
        self._transfer = _checked("max-transfer", options.max_transfer, unit)
        self._zero_unit = _checked("opt-write-zero", options.opt_write_zero, unit)
        self._zeroes = _checked(
            "max-write-zero", options.max_write_zero, max(self._zero_unit or 1, unit)
        )
        self._discard_unit = _checked("opt-discard", options.opt_discard, unit)
        self._discards = _checked(
            "max-discard", options.max_discard, max(self._discard_unit or 1, unit)
        )

    def close(self) -> None:
        self.rules.release()

    def let_go(self) -> None:
        self.rules.release()

    def event_sink(self) -> Callable[[str], None] | None:
        return self.rules.happen

    def child_permissions(
        self, role: str, taken: int, shared: int, writable: bool
    ) -> tuple[int, int]:
        taken, shared = super().child_permissions(role, taken, shared, writable)
        # While it is being opened it is asked before it has read its options.
        return taken | getattr(self, "_taken", 0), shared & ~getattr(self, "_unshared", 0)

    # -- data --------------------------------------------------------------------------------

    def length(self) -> int:
        return self.image.length()

    def read(self, buffer: memoryview, offset: int) -> None:
        start, end = self._whole(offset, len(buffer))
        if (start, end) == (offset, offset + len(buffer)):
            self._read_aligned(buffer, offset)
        else:
            block = memoryview(bytearray(end - start))
            self._read_aligned(block, start)
            buffer[:] = block[offset - start : offset - start + len(buffer)]

    def write(self, buffer: memoryview, offset: int) -> None:
        start, end = self._whole(offset, len(buffer))
        aligned = (start, end) == (offset, offset + len(buffer))
        with self._writing(), self._ranges.hold(start, end, exclusive=not aligned):
            if aligned:
                self._write_aligned(buffer, offset)
            else:
                self._mend(buffer, offset, start, end)

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        """Whole units of ``opt-write-zero`` as zeroes, what is around them as data."""
        first, last = _inside(offset, offset + length, self._zero_unit or self._align)
        around = [(offset, first), (last, offset + length)]
        if no_fallback and any(low < high for low, high in around):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        for low, high in around:
            if low < high:
                write_zeroes(self.write, low, high - low)
        if first < last:
            with self._writing(), self._ranges.hold(first, last, exclusive=False):
                self.rules.happen("pwritev_zero")
                for at, size in _pieces(first, last - first, self._zeroes):
                    self._zero(at, size, may_unmap, no_fallback)
                self.rules.happen("pwritev_done")

    def _zero(self, offset: int, length: int, may_unmap: bool, no_fallback: bool) -> None:
        """An injected ENOTSUP has zeroes written as data, where that is allowed."""
        try:
            self.rules.check(offset, length, "write-zeroes")
        except OSError as error:
            if error.errno != errno.ENOTSUP or no_fallback:
                raise
            write_zeroes(self._write_pieces, offset, length)
        else:
            self.image.write_zeroes(offset, length, may_unmap, no_fallback)

    def discard(self, offset: int, length: int) -> None:
        """Whole units of ``opt-discard``; what is around them is left."""
        first, last = _inside(offset, offset + length, self._discard_unit or self._align)
        if first < last:
            with self._writing():
                for at, size in _pieces(first, last - first, self._discards):
                    self.rules.check(at, size, "discard")
                    self.image.discard(at, size)

    def flush(self) -> None:
        """A flush of nothing is not for the rules, as QEMU asks a driver for no such."""
        written, self._written = self._written, False
        try:
            if written:
                self.rules.check(0, 0, "flush")
            self.image.flush()
        except OSError:
            self._written = self._written or written
            raise

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A request that there is something to flush after, be it that it fails."""
        try:
            yield
        finally:
            self._written = True

    def truncate(self, size: int) -> None:
        with self._writing():
            self.image.truncate(size)

    def map(self, offset: int, length: int) -> list[Extent]:
        """The runs of the image. No host file is offered: whoever read it would pass the rules."""
        self.rules.check(offset, length, "block-status")
        return [
            run._replace(host=-1, host_offset=0) if run.host >= 0 else run
            for run in self.image.map(offset, length)
        ]

    # -- alignment ---------------------------------------------------------------------------

    @property
    def alignment(self) -> int:  # type: ignore[override]  # the child's may change when reopened
        return max(self._align, self.image.alignment)

    def _whole(self, offset: int, length: int) -> tuple[int, int]:
        """The range in whole units of ``align``; an empty one stays as it is."""
        if not length:
            return offset, offset
        mask = self._align - 1
        return offset & ~mask, (offset + length + mask) & ~mask

    def _read_aligned(self, buffer: memoryview, offset: int) -> None:
        at = 0
        for place, size in _pieces(offset, len(buffer), self._transfer):
            self.rules.check(place, size, "read")
            self.image.read(buffer[at : at + size], place)
            at += size

    def _write_aligned(self, buffer: memoryview, offset: int) -> None:
        self.rules.happen("pwritev")
        self._write_pieces(buffer, offset)
        self.rules.happen("pwritev_done")

    def _write_pieces(self, buffer: memoryview, offset: int) -> None:
        at = 0
        for place, size in _pieces(offset, len(buffer), self._transfer):
            self.rules.check(place, size, "write")
            self.image.write(buffer[at : at + size], place)
            at += size

    def _mend(self, buffer: memoryview, offset: int, start: int, end: int) -> None:
        """Reads the first and last unit, and writes whole units, but not beyond the old end or
        the request's: the file keeps its exact length. The range is held alone."""
        block = memoryview(bytearray(end - start))
        unit, stop = self._align, offset + len(buffer)
        if start < offset:
            self.rules.happen("pwritev_rmw_head")
            self._read_aligned(block[:unit], start)
            self.rules.happen("pwritev_rmw_after_head")
        if stop < end and not (start < offset and end - start == unit):
            self.rules.happen("pwritev_rmw_tail")
            self._read_aligned(block[-unit:], end - unit)
            self.rules.happen("pwritev_rmw_after_tail")
        block[offset - start : stop - start] = buffer
        kept = min(end, max(stop, self.image.length()))
        self._write_aligned(block[: kept - start], start)

    # -- facts -------------------------------------------------------------------------------

    def filename_over(self, exact: str, shown: str) -> str:
        return f"{self.name}:{self._config}:{exact}" if exact and self._only_config else ""


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any, default: int) -> int:
    return default if value is UNSET else int(value)


def _bits(names: Any) -> int:
    return sum(_BY_NAME[name] for name in set(_listed(names)))


def _checked(option: str, value: Any, unit: int) -> int:
    """A size that is a multiple of ``unit``; 0 for none."""
    size = _number(value, 0)
    if size < 0:
        raise UnsignedExpected(option)
    if size >= _LARGEST or size % unit:
        raise UnmetConstraint(option, size)
    return size


def _injection(given: BlkdebugInjectErrorOptions) -> Injection:
    return Injection(
        given.event,
        state=_number(given.state, 0),
        code=_number(given.errno, errno.EIO),
        kinds=ALL_BUT_STATUS if given.iotype is UNSET else frozenset({str(given.iotype)}),
        offset=offset_of(_number(given.sector, -1)),
        once=given.once is True,
    )


def _inside(start: int, end: int, unit: int) -> tuple[int, int]:
    """The whole units within a range; an empty range at its end when there are none."""
    first, last = -(-start // unit) * unit, end // unit * unit
    return (first, last) if first < last else (end, end)


def _pieces(offset: int, length: int, most: int) -> Iterator[tuple[int, int]]:
    """The range in pieces of ``most`` bytes, 0 for one piece; an empty one is one too."""
    end = offset + length
    step = most or _ANY_LENGTH
    while True:
        size = min(step, end - offset)
        yield offset, size
        offset += size
        if offset >= end:
            return
