"""Every QMP-level request, result, event and option, as typed structs; one file a topic."""

from __future__ import annotations

TOPICS = (
    "backup",
    "bitmap",
    "blockdev",
    "commit",
    "create",
    "export",
    "graph",
    "introspect",
    "job",
    "machine",
    "mirror",
    "monitor",
    "node",
    "objects",
    "query",
    "snapshot",
    "stats",
    "stream",
    "transaction",
    "extra",
    "breakpoints",
)


def load() -> None:
    """Imports every topic, so that all requests are declared."""
    from importlib import import_module

    for topic in TOPICS:
        import_module(f"{__name__}.{topic}")
