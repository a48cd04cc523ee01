"""What a person can type; one file a topic, each command declared once (``registry``)."""

from __future__ import annotations

TOPICS = (
    "bitmaps",
    "drives",
    "exports",
    "help",
    "history",
    "images",
    "info",
    "jobs",
    "macros",
    "qemuio",
    "session",
    "settings",
    "snapshots",
    "waiting",
    "watching",
)


def load() -> None:
    """Imports every topic, so that all commands are declared."""
    from importlib import import_module

    for topic in TOPICS:
        import_module(f"{__name__}.{topic}")
