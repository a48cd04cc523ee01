"""An engine with drives on images of its own."""

from __future__ import annotations

from pathlib import Path

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.schema.extra import CreateImage, DriveAdd


async def with_drives(folder: Path, *names: str) -> EmbeddedEngine:
    """Each name is a drive's, and with ``.qcow2`` its image's, of 1 MiB, in ``folder``."""
    engine = EmbeddedEngine()
    for name in names:
        path = str(folder / f"{name}.qcow2")
        await engine.execute(CreateImage(filename=path, format="qcow2", size=1 << 20))
        await engine.execute(DriveAdd(options=f"if=none,id={name},format=qcow2,file={path}"))
    return engine
