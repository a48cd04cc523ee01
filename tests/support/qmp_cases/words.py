"""What cases are written with: requests in short, and the images that each case finds."""

from __future__ import annotations

from typing import Any

Requests = list[dict[str, Any]]

IMAGES = [
    ["qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", "8M"],
    ["qemu-io", "-f", "qcow2", "-c", "write -P 1 0 3M", "base.qcow2"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "mid.qcow2"],
    ["qemu-io", "-f", "qcow2", "-c", "write -P 2 1M 1M", "mid.qcow2"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", "top.qcow2"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "empty.qcow2", "8M"],
    ["qemu-img", "create", "-q", "-f", "raw", "a.img", "1M"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-o", "refcount_bits=1", "narrow.qcow2", "1M"],
    ["qemu-io", "-f", "qcow2", "-c", "write 0 64k", "narrow.qcow2"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "cluster.qcow2", "64k"],
    ["qemu-io", "-f", "qcow2", "-c", "write 0 64k", "cluster.qcow2"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "blank.qcow2", "64k"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "over.qcow2", "64k"],
]
"""Commands that make the images of a case."""


def do(command: str, **arguments: Any) -> dict[str, Any]:
    """A request; an underscore in the name of an argument is a dash."""
    return {
        "execute": command,
        "arguments": {name.replace("_", "-"): value for name, value in arguments.items()},
    }


def file(filename: str, **options: Any) -> dict[str, Any]:
    """The options of a file node."""
    return {"driver": "file", "filename": filename, **options}


def add(name: str, filename: str, driver: str = "qcow2", **options: Any) -> dict[str, Any]:
    """``blockdev-add`` of an image in a file."""
    return do("blockdev-add", driver=driver, node_name=name, file=file(filename), **options)


def wait(job: str, until: str) -> dict[str, Any]:
    """Reads on until the job has come to the status ``until``; ``null``: until it is gone."""
    return {"wait": job, "until": until}


USER = do("blockdev-add", driver="raw", node_name="user", file="n0")
"""A parent for n0: without one, QEMU drops a snapshot's overlay at once."""
