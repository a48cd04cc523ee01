"""Names that users give."""

from __future__ import annotations

from monitor.engine.errors import RequestError


class NotAnIdentifier(RequestError):
    template = "Parameter 'id' expects an identifier"
    hint = "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter."
    id: str


def well_formed(name: str) -> bool:
    """QEMU's rule for user-given ids: a letter, then letters, digits, '-', '.' and '_'."""
    return bool(
        name
        and name[0].isascii()
        and name[0].isalpha()
        and all(c.isascii() and (c.isalnum() or c in "-._") for c in name)
    )
