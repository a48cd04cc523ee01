"""What both sides of a negotiation keep: bytes that came, and bytes that are to be sent."""

from __future__ import annotations


class Buffers:
    def __init__(self) -> None:
        self._in = bytearray()
        self._out = bytearray()

    @property
    def rest(self) -> bytes:
        """What has come and was not taken in yet."""
        return bytes(self._in)

    def take(self) -> bytes:
        """What is to be sent now."""
        out, self._out = self._out, bytearray()
        return bytes(out)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._in[:count])
        del self._in[:count]
        return taken
