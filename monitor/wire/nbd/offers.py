"""What a server offers to its clients: exports by name, and their metadata contexts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from monitor.wire.nbd import layout as n

ALLOCATION: Final = "base:allocation"
DEPTH: Final = "qemu:allocation-depth"
BITMAP: Final = "qemu:dirty-bitmap:"


class Offer(NamedTuple):
    """An export as it is at this moment. Sizes in bytes.

    ``contexts`` are the full names of its metadata contexts, in the order of their ids (from 0).
    """

    name: str
    size: int
    flags: int
    description: str = ""
    minimum_block: int = 1
    preferred_block: int = n.PREFERRED_BLOCK
    maximum_block: int = n.MAX_PAYLOAD
    contexts: tuple[str, ...] = (ALLOCATION,)


class Offers(Protocol):
    """Where a negotiation looks exports up. Asked from the connection's thread."""

    def names(self) -> Mapping[str, str]:
        """Descriptions by name, of all exports that a client may see."""

    def find(self, name: str) -> Offer | None: ...


def matching(contexts: tuple[str, ...], query: str, *, listing: bool) -> list[str]:
    """The contexts that a query of a client means (section 'Metadata querying'). When ``listing``,
    a namespace (``base:``) or a whole kind (``qemu:dirty-bitmap:``) means all that are in it."""
    if listing and query in ("base:", "qemu:", BITMAP):
        return [context for context in contexts if context.startswith(query)]
    return [context for context in contexts if context == query]
