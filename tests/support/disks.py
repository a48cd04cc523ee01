"""Disks in many formats, chains among them, and targets for copies of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import tools
from tests.support.guests import MIB, SIZE
from tests.support.qmp_cases.words import Requests, add, do

GARBAGE = 0xEE
"""What a target holds before a copy that must not rely on what it holds."""


@dataclass(frozen=True)
class Image:
    """An image's format and the options that it is made with."""

    driver: str = "qcow2"
    options: str = ""

    def make(self, path: Path, size: int = SIZE, backing: tuple[str, Image] | None = None) -> None:
        words: list[str | Path] = ["-f", self.driver]
        words += ["-o", self.options] if self.options else []
        if backing is not None:
            words += ["-b", backing[0], "-F", backing[1].driver]
        tools.run("qemu-img", "create", "-q", *words, path, str(size))


RAW, QCOW2, OLD = Image("raw"), Image(), Image(options="compat=0.10,cluster_size=4k")
SMALL, LARGE = Image(options="cluster_size=512"), Image(options="cluster_size=2M")
MIDDLE = Image(options="cluster_size=8k,compression_type=zstd,lazy_refcounts=on")

DISKS: dict[str, tuple[Image, ...]] = {
    "raw": (RAW,),
    "qcow2": (QCOW2,),
    "old on qcow2": (QCOW2, OLD),
    "three on raw": (RAW, SMALL, MIDDLE, LARGE),
    "three": (OLD, QCOW2, MIDDLE),
    "raw on qcow2": (QCOW2, RAW),
}
"""Layers from the lowest up. ``raw`` on qcow2 is a raw node whose file is the qcow2 node."""
CHAINS: dict[str, tuple[Image, Image, Image]] = {
    "qcow2": (QCOW2, QCOW2, QCOW2),
    "on raw": (RAW, SMALL, LARGE),
    "old and new": (OLD, LARGE, MIDDLE),
    "new and old": (LARGE, MIDDLE, OLD),
}
"""low <- mid <- disk, for streams and commits."""
TARGETS: dict[str, Image] = {
    "raw": RAW,
    "qcow2": QCOW2,
    "old": OLD,
    "512": SMALL,
    "2M": LARGE,
    "nbd": RAW,
}
NAMES = {
    1: ("disk",),
    2: ("mid", "disk"),
    3: ("low", "mid", "disk"),
    4: ("low", "m", "mid", "disk"),
}
WRITES = ["write -P 1 0 3M", "write -z 1M 192k", "write -P 2 2M 1M", "write -P 3 2500k 100k"]
"""What each layer is written with, the lowest first."""


def names_of(layers: tuple[Image, ...]) -> tuple[str, ...]:
    return NAMES[len(layers)]


def file_of(layers: tuple[Image, ...]) -> tuple[str, str]:
    """The uppermost layer's file and its format."""
    at = len(layers) - (2 if layers[1:] and layers[-1] is RAW else 1)
    return names_of(layers)[at], layers[at].driver


def make(folder: Path, layers: tuple[Image, ...]) -> None:
    """The layers as images, each named as its node is to be. The lowest of several is short."""
    tools.need("qemu-img", "qemu-io")
    below: tuple[str, Image] | None = None
    last = len(layers) - 1
    for number, (name, image) in enumerate(zip(names_of(layers), layers, strict=True)):
        if number and image is RAW:
            continue  # it has no file of its own
        size = SIZE - 2 * MIB if number == 0 and last and layers[-1] is not RAW else SIZE
        image.make(folder / name, size, below)
        writes = WRITES[number : number + 1] if number < last else WRITES[number:]
        words = [word for write in writes for word in ("-c", write)]
        tools.run("qemu-io", "-f", image.driver, *words, folder / name)
        below = name, image


def opened(layers: tuple[Image, ...]) -> Requests:
    """Requests that open every layer as a node."""
    requests: Requests = []
    below: str | None = None
    for name, image in zip(names_of(layers), layers, strict=True):
        if below is not None and image is RAW:
            requests.append(do("blockdev-add", driver="raw", node_name=name, file=below))
        else:
            more: dict[str, Any] = {"backing": below} if below is not None else {}
            top = {"discard": "unmap"} if name == "disk" else {}
            requests.append(add(name, name, image.driver, **more, **top))
        below = name
    return requests


def fill(path: Path, image: Image, byte: int = GARBAGE) -> None:
    """Some of the image holds what nobody asked for."""
    writes = [f"write -P {byte} {at} 700k" for at in range(0, SIZE - MIB, 2 * MIB)]
    words = [word for write in writes for word in ("-c", write)]
    tools.run("qemu-io", "-f", image.driver, *words, path)


def target_node(kind: str, **options: Any) -> dict[str, Any]:
    """The request that opens a target, in the folder that it lies in, as ``to``."""
    if kind != "nbd":
        return add("to", "to", TARGETS[kind].driver, **options)
    server = {"type": "unix", "path": "s"}
    below = {"driver": "nbd", "server": server, "export": "to"}
    return do("blockdev-add", driver="raw", node_name="to", file=below, **options)


@contextmanager
def offered(folder: Path, kind: str) -> Iterator[None]:
    """The file ``to`` on an export of another process, where the target is to be one."""
    if kind != "nbd":
        yield
        return
    tools.need("qemu-nbd")
    command = ["qemu-nbd", "-t", "-f", "raw", "-x", "to", "-k", folder / "s", folder / "to"]
    ready = ["--fork", "--pid-file", folder / "pid"]
    subprocess.run([*command, *ready], check=True, timeout=20, capture_output=True)
    try:
        yield
    finally:
        tools.run("kill", (folder / "pid").read_text().strip())
