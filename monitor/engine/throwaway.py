"""``snapshot=on`` of a drive: what is written goes to an overlay that nobody keeps."""

from __future__ import annotations

import contextlib
import os
import tempfile

from monitor.engine import images
from monitor.engine.errors import RequestError, host_failure
from monitor.engine.graph.node import Node
from monitor.engine.graph.opening import Opening
from monitor.engine.units import whole_sectors


class OverlayNotCreated(RequestError):
    template = "Could not create temporary overlay '{filename}': {reason}"
    filename: str
    reason: str


async def on_top_of(opening: Opening, base: Node, *, read_only: bool) -> Node:
    """A new overlay on ``base``. Its file has no name any more once it is open, so that nothing is
    left whatever ends this process. Raises RequestError."""
    graph = opening.graph
    path = await graph.in_worker(_temporary_file)
    try:
        image = images.NewImage(path, "qcow2", whole_sectors(base.length()))
        try:
            await images.create(graph, image)
        except RequestError as error:
            raise OverlayNotCreated(path, error.text) from error
        loose = {
            "driver": "qcow2",
            "file": {"driver": "file", "filename": path},
            "cache": {"direct": "off", "no-flush": "on"},  # it need not outlive the host
            "read-only": "on" if read_only else "off",
            "auto-read-only": "on",
        }
        overlay = await opening.open_loose(loose, None, follow_backing=False)
    finally:
        await graph.in_worker(_unlink, path)
    opening.attach_backing(overlay, base)
    return overlay


def _temporary_file() -> str:
    folder = os.environ.get("TMPDIR") or "/var/tmp"
    try:
        descriptor, path = tempfile.mkstemp(prefix="vl.", dir=folder)
    except OSError as error:
        what = f"Could not open temporary file '{error.filename or folder}'"
        raise host_failure(what, error) from error
    os.close(descriptor)
    return path


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # an image that could not be made is gone
        os.unlink(path)
