"""What qemu-io prints: sizes, times, the two lines after a request, dumps."""

from __future__ import annotations

from collections.abc import Iterator

_UNITS = ("EiB", "PiB", "TiB", "GiB", "MiB", "KiB")


def size_text(value: float) -> str:
    """``64 KiB``, ``1.500 KiB``, ``40 bytes``."""
    for index, unit in enumerate(_UNITS):
        scale = 1 << 10 * (len(_UNITS) - index)
        if value >= scale:
            return f"{_trimmed(f'{value / scale:.3f}')} {unit}"
    return f"{_trimmed(f'{value:f}')} bytes"


def _trimmed(number: str) -> str:
    """Without a fraction that begins with three zeros."""
    whole, dot, fraction = number.partition(".")
    return whole if fraction.startswith("000") else whole + dot + fraction


def time_text(seconds: float, *, fixed: bool = False) -> str:
    """``00.00 sec`` below a second, else (and when ``fixed``) ``0:00:02.50``."""
    if seconds < 1 and not fixed:
        return f"{seconds:05.2f} sec"
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60 + seconds - whole:05.2f}"


def report(
    action: str, offset: int, length: int, total: int, seconds: float, *, machine: bool = False
) -> str:
    """The lines after a request of ``length`` bytes of which ``total`` were done; ``machine`` is
    the form for programs: bytes, requests, time, bytes a second, requests a second."""
    spent = max(seconds, 1e-9)  # the clock's grain: a request takes some time
    if machine:
        rates = f"{total / spent:.3f},{1 / spent:.3f}"
        return f"{total},1,{time_text(seconds, fixed=True)},{rates}"
    return (
        f"{action} {total}/{length} bytes at offset {offset}\n"
        f"{size_text(total)}, 1 ops; {time_text(seconds)} "
        f"({size_text(total / spent)}/sec and {1 / spent:.4f} ops/sec)"
    )


def dump(data: bytes, offset: int) -> Iterator[str]:
    """Sixteen bytes a line: offset, hexadecimal, characters."""
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        numbers = row.hex(" ")
        characters = "".join(chr(byte) if _is_shown(byte) else "." for byte in row)
        yield f"{offset + start:08x}:  {numbers}  {characters}"


def _is_shown(byte: int) -> bool:
    """Letters and digits of ASCII: isalnum() in the C locale."""
    return byte < 128 and chr(byte).isalnum()
