"""How ``--qmp`` spells a door. Nothing here opens one."""

from __future__ import annotations

from typing import Final, NamedTuple


class Door(NamedTuple):
    """One ``--qmp``: a ``path``, or a ``host`` and ``port``; neither for standard input and output.

    ``server``: clients connect to it; otherwise the one client is connected to.
    """

    path: str | None = None
    host: str = ""
    port: str = ""
    server: bool = True

    @property
    def text(self) -> str:
        """How QEMU writes it."""
        if self == STDIO:
            return "stdio"
        where = f"unix:{self.path}" if self.path is not None else f"tcp:{self.host}:{self.port}"
        return f"{where},server=on" if self.server else where


STDIO: Final = Door()
EXPECTED: Final = "expected stdio, unix:PATH[,server=on|off] or tcp:HOST:PORT[,server=on|off]"


def parse_door(text: str) -> Door:
    """``text`` as ``--qmp`` has it; ``wait=off`` is taken and means nothing, since nobody is
    waited for. Without a host TCP is this machine's alone. Raises ValueError."""
    if text == "stdio":
        return STDIO
    address, *options = text.split(",")
    server = True
    for option in options:
        key, _, value = option.partition("=")
        if value not in ("", "on", "off") or key not in ("server", "wait", "nowait"):
            raise ValueError(EXPECTED)
        if key == "server":
            server = value != "off"
    kind, _, rest = address.partition(":")
    if kind == "unix" and rest:
        return Door(path=rest, server=server)
    host, separator, port = rest.rpartition(":")
    if kind != "tcp" or not separator or not port:
        raise ValueError(EXPECTED)
    return Door(host=host.strip("[]") or "127.0.0.1", port=port, server=server)
