"""One QMP session, the server's side: bytes in, commands and replies out. No sockets.

    bytes ──> feed ──> Reply     what the session answers itself: send it
                  └──> Command   for the engine: answer with reply() or error(), in order

A session begins with ``greeting`` and in capabilities negotiation, where every command but
``qmp_capabilities`` is refused and no event is sent. Requests are looked at as QEMU 7.2 does it,
member by member in the order of its dictionaries, and answered in its words.

    --> {"execute": NAME, "arguments": {…}, "id": anything}       or "exec-oob"
    <-- {"return": anything, "id": the same}
    <-- {"id": the same, "error": {"class": "…", "desc": "…"}}
    <-- {"timestamp": {"seconds": …, "microseconds": …}, "event": NAME, "data": {…}}

Specification: docs/interop/qmp-spec.txt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from monitor.wire.qmpjson import JSONParseError, encode, member_order, quote, respell
from monitor.wire.qmpstream import JSONStream

__all__ = ["Command", "QmpSession", "Reply", "Version"]

LINE_END = "\r\n"
NEGOTIATE = "qmp_capabilities"
_PLAIN_MEMBERS = frozenset({"execute", "arguments", "id"})
CAPABILITIES = ("oob",)


class Version(NamedTuple):
    """What the greeting says: the QEMU version whose protocol is spoken, and the program."""

    major: int
    minor: int
    micro: int
    package: str


class Command(NamedTuple):
    """A well-formed request. ``id`` is JSON text, None when the client sent none.

    An ``oob`` command is to be answered before those that came earlier and still wait.
    """

    name: str
    arguments: dict[str, Any]
    id: str | None = None
    oob: bool = False


class Reply(NamedTuple):
    """Bytes for the client, in place of an answer to a command; ``oob`` as in ``Command``."""

    data: bytes
    oob: bool = False


class _Refusal(Exception):
    """``str()`` is the desc."""

    def __init__(self, desc: str, qmp_class: str = "GenericError") -> None:
        super().__init__(desc)
        self.qmp_class = qmp_class


class QmpSession:
    """The state of one client's session."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._stream = JSONStream()
        self._negotiated = False
        self._oob = False

    def greeting(self) -> bytes:
        """The first line of a session."""
        v = self._version
        qemu = {"major": v.major, "minor": v.minor, "micro": v.micro}
        about = {"qemu": qemu, "package": v.package}
        return _line(encode({"QMP": {"version": about, "capabilities": CAPABILITIES}}))

    def feed(self, data: bytes) -> list[Command | Reply]:
        """What ``data`` brings, in order."""
        return [self._receive(value) for value in self._stream.feed(data)]

    def reply(self, id: str | None, result: Any = None) -> bytes:
        """The answer to a command that succeeded; ``result`` None stands for an empty object."""
        return self.reply_json(id, "{}" if result is None else encode(result))

    def reply_json(self, id: str | None, result: str) -> bytes:
        """As ``reply``, with the result as JSON text (on one line, with QEMU's blanks)."""
        tail = "}" if id is None else f', "id": {id}}}'
        return _line(f'{{"return": {respell(result)}{tail}')

    def error(self, id: str | None, qmp_class: str, desc: str) -> bytes:
        """The answer to a command that failed."""
        head = "{" if id is None else f'{{"id": {id}, '
        return _line(f'{head}"error": {{"class": "{qmp_class}", "desc": {quote(desc)}}}}}')

    def event(self, name: str, data: Mapping[str, Any], timestamp: tuple[int, int]) -> bytes:
        """An event's line; nothing while capabilities are negotiated."""
        if not self._negotiated:
            return b""
        seconds, microseconds = timestamp
        time = f'{{"seconds": {seconds}, "microseconds": {microseconds}}}'
        tail = f', "data": {encode(data)}}}' if data else "}"
        return _line(f'{{"timestamp": {time}, "event": {quote(name)}{tail}')

    def _receive(self, value: Any) -> Command | Reply:
        if isinstance(value, JSONParseError):
            return Reply(self.error(None, "GenericError", str(value)))
        id = None
        oob = False
        try:
            if not isinstance(value, dict):
                raise _Refusal("QMP input must be a JSON object")
            id = encode(value["id"]) if "id" in value else None
            oob = self._oob and "exec-oob" in value and "execute" not in value
            name = self._check(value)
            if name == NEGOTIATE and not oob:
                self._negotiate(value.get("arguments", {}))
                return Reply(self.reply(id))
            if not self._negotiated:
                desc = f"Expecting capabilities negotiation with '{NEGOTIATE}'"
                raise _Refusal(desc, "CommandNotFound")
        except _Refusal as refusal:
            return Reply(self.error(id, refusal.qmp_class, str(refusal)), oob)
        return Command(name, value.get("arguments", {}), id, oob)

    def _check(self, request: dict[str, Any]) -> str:
        """The command's name, if the members of ``request`` are what a request has."""
        name: str | None = request.get("execute")
        plain = request.keys() <= _PLAIN_MEMBERS and isinstance(request.get("arguments", {}), dict)
        if plain and isinstance(name, str):
            return name
        name = None  # something is wrong or unusual: members are looked at in QEMU's order
        for member in member_order(request) if len(request) > 1 else request:
            value = request[member]
            if member == "execute" or (member == "exec-oob" and self._oob):
                if not isinstance(value, str):
                    raise _Refusal(f"QMP input member '{member}' must be a string")
                if name is not None:
                    raise _Refusal("QMP input member 'execute' clashes with 'exec-oob'")
                name = value
            elif member == "arguments":
                if not isinstance(value, dict):
                    raise _Refusal("QMP input member 'arguments' must be an object")
            elif member != "id":
                raise _Refusal(f"QMP input member '{member}' is unexpected")
        if name is None:
            raise _Refusal("QMP input lacks member 'execute'")
        return name

    def _negotiate(self, arguments: dict[str, Any]) -> None:
        enable = arguments.get("enable", [])
        if not isinstance(enable, list):
            raise _Refusal("Invalid parameter type for 'enable', expected: array")
        for index, capability in enumerate(enable):
            if not isinstance(capability, str):
                place = f"enable[{index}]"
                raise _Refusal(f"Invalid parameter type for '{place}', expected: string")
            if capability not in CAPABILITIES:
                raise _Refusal(f"Parameter 'null' does not accept value '{capability}'")
        for member in arguments:
            if member != "enable":
                raise _Refusal(f"Parameter '{member}' is unexpected")
        if self._negotiated:
            desc = "Capabilities negotiation is already complete, command ignored"
            raise _Refusal(desc, "CommandNotFound")
        self._negotiated = True
        self._oob = "oob" in enable


def _line(text: str) -> bytes:
    return f"{text}{LINE_END}".encode("ascii")
