"""``copy-mode=write-blocking``: what a guest has changed is on the target when its request returns.

Threads make requests at random, each in stripes of the disk of its own, so that nobody else changes
what it looks at afterwards; stripes of all threads meet in units of the bitmap and in clusters.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from monitor.engine.graph.node import Node
from tests.support import tools
from tests.support.bench import Bench
from tests.support.graphs import run
from tests.support.guests import MIB

EVERYTHING = MIB + 70 * 512
"""Bytes of the disk: no whole number of anything."""


@dataclass(frozen=True)
class Request:
    kind: str
    stripe: int
    start: int
    length: int


@dataclass(frozen=True)
class Case:
    """``threads`` share the disk in stripes of ``stripe`` bytes, by turns; ``before`` are their
    requests while the disk is copied, ``after`` those once the mirror is ready."""

    target: str
    sync: str
    cluster: int
    source_cluster: int
    granularity: int
    stripe: int
    before: list[list[Request]]
    after: list[list[Request]]


@st.composite
def cases(draw: Any) -> Case:
    target = draw(st.sampled_from(["raw", "qcow2", "qcow2"]))
    sync = draw(st.sampled_from(["full", "top", "none"])) if target == "qcow2" else "full"
    threads = draw(st.integers(1, 3))
    stripe = draw(st.integers(512, 40_000)) if threads > 1 else EVERYTHING
    request = st.builds(
        Request,
        st.sampled_from(["write", "write", "write", "zero", "unmap", "discard"]),
        st.integers(0, 60),
        st.integers(0, stripe - 1),
        st.one_of(st.integers(1, 8000), st.integers(1, 300_000)),
    )
    requests = st.lists(
        st.lists(request, min_size=1, max_size=8), min_size=threads, max_size=threads
    )
    return Case(
        target,
        sync,
        draw(st.sampled_from([512, 4096, 65536, 2 * MIB])),
        draw(st.sampled_from([512, 65536])),
        draw(st.sampled_from([512, 4096, 65536, MIB])),
        stripe,
        draw(requests),
        draw(requests),
    )


class Guest:
    """One thread's requests. What the target shows afterwards is held against the source once
    ``ready`` says that the mirror is."""

    def __init__(self, bench: Bench, case: Case, number: int, threads: int) -> None:
        self._bench = bench
        self._case = case
        self._number, self._threads = number, threads
        self.ready = False

    def make(self, requests: list[Request]) -> None:
        drive = self._bench.drive
        lane = drive.lane()
        for count, request in enumerate(requests):
            size = drive.roots[0].length()
            begin = (request.stripe * self._threads + self._number) * self._case.stripe
            offset = (begin if self._threads > 1 else 0) + request.start
            if offset >= size:
                continue
            most = min(size - offset, self._case.stripe - request.start)
            length = min(request.length, most)
            with lane:
                self._do(request.kind, offset, length, count + 1)
                if self.ready:
                    self._look(offset, length)
        drive.drop_lane(lane)

    def _do(self, kind: str, offset: int, length: int, fill: int) -> None:
        root = self._bench.drive.roots[0]
        match kind:
            case "write":
                data = bytes([self._number * 50 + fill]) * length
                root.write(memoryview(data), offset)
            case "discard":
                root.discard(offset, length)
            case _:
                root.write_zeroes(offset, length, kind == "unmap", False)

    def _look(self, offset: int, length: int) -> None:
        nodes = self._bench.engine.graph.nodes
        assert shown(nodes["target"], offset, length) == shown(nodes["disk"], offset, length)


def shown(node: Node, offset: int, length: int) -> bytes:
    seen = bytearray(length)
    node.driver.read(memoryview(seen), offset)
    return bytes(seen)


async def together(guests: list[Guest], requests: list[list[Request]]) -> None:
    failures: list[BaseException] = []

    def main(guest: Guest, requests: list[Request]) -> None:
        try:
            guest.make(requests)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=main, args=pair) for pair in zip(guests, requests, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    if failures:
        raise failures[0]


def images(folder: Path, case: Case) -> None:
    """base <- disk, with data and zeroes; a target that leads to what it is to show below it."""
    create = ("qemu-img", "create", "-q", "-f", "qcow2")
    cluster = ("-o", f"cluster_size={case.source_cluster}")
    tools.run(*create, folder / "base", str(EVERYTHING))
    tools.run("qemu-io", "-f", "qcow2", "-c", "write -P 201 100k 500k", folder / "base")
    tools.run(*create, *cluster, "-b", folder / "base", "-F", "qcow2", folder / "disk")
    commands = ("-c", "write -P 202 300k 200k", "-c", "write -z 128k 64k")
    tools.run("qemu-io", "-f", "qcow2", *commands, folder / "disk")
    if case.target == "raw":
        tools.run("qemu-img", "create", "-q", "-f", "raw", folder / "copy", str(EVERYTHING))
        return
    below = {"full": (), "top": ("base",), "none": ("disk",)}[case.sync]
    backing = [part for name in below for part in ("-b", folder / name, "-F", "qcow2")]
    tools.run(
        *create, "-o", f"cluster_size={case.cluster}", *backing, folder / "copy", str(EVERYTHING)
    )


@given(cases())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_what_returned_is_on_the_target(case: Case) -> None:
    tools.need("qemu-img", "qemu-io")
    event(f"{case.target} {case.sync}")

    async def main(folder: Path) -> None:
        bench = Bench()
        await bench.open(folder / "disk", "qcow2", discard="unmap")
        file = {"driver": "file", "filename": str(folder / "copy"), "discard": "unmap"}
        blind = {"backing": None} if case.target == "qcow2" else {}
        await bench.do(
            "blockdev-add",
            node_name="target",
            driver=case.target,
            file=file,
            discard="unmap",
            **blind,
        )
        await bench.do(
            "blockdev-mirror",
            job_id="j",
            device="d0",
            target="target",
            sync=case.sync,
            granularity=case.granularity,
            copy_mode="write-blocking",
            speed=MIB,
        )
        guests = [Guest(bench, case, n, len(case.after)) for n in range(len(case.after))]
        await together(guests, case.before)
        await bench.do("block-job-set-speed", device="j", speed=0)
        assert (await bench.engine.job_ended("j")).status == "ready"
        for guest in guests:
            guest.ready = True
        await together(guests, case.after)
        await bench.do("block-job-cancel", device="j")
        await bench.ended()
        assert bench.named("BLOCK_JOB_ERROR") == []
        await bench.engine.shut_down()

    with TemporaryDirectory() as made:
        folder = Path(made)
        images(folder, case)
        run(main(folder))
        formats = ("-f", "qcow2", "-F", case.target)
        tools.run("qemu-img", "compare", *formats, folder / "disk", folder / "copy")
        if case.target == "qcow2":
            tools.run("qemu-img", "check", "-q", folder / "copy")
