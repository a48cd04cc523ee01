"""Every job in every mode, from and into every format, while guests write at random.

The guests keep a model of the disk. It is held against what QEMU's tools read in the images in the
end; every image is sound, and chains are those that QEMU's daemon leaves when it is asked the same.
A run has some of the formats with each mode, all with all of them where BLKMON_MATRIX=all is set.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.graph.client import Client
from monitor.engine.graph.graph import Graph
from monitor.engine.jobs.backup import BackupJob
from monitor.engine.jobs.commit import CommitJob
from monitor.engine.jobs.mirror import MirrorJob
from tests.support import disks, tools
from tests.support.disks import CHAINS, DISKS, GARBAGE, RAW, TARGETS
from tests.support.guests import SIZE, Guests, contents
from tests.support.playing import Played
from tests.support.qmp_cases.words import Requests, add, do

ALL = os.environ.get("BLKMON_MATRIX") == "all"


def sample(modes: list[Any], *formats: list[str], each: int = 2) -> list[Any]:
    """All modes with all formats; or each mode with ``each`` of them, in turn all of them."""
    pairs = list(itertools.product(*formats))
    if ALL:
        return [(*mode, *pair) for mode in modes for pair in pairs]
    step = next(n for n in range(len(pairs) * 5 // 13, len(pairs) + 1) if _coprime(n, len(pairs)))
    chosen = itertools.cycle(pairs[at * step % len(pairs)] for at in range(len(pairs)))
    return [(*mode, *next(chosen)) for mode in modes for _ in range(each)]


def _coprime(a: int, b: int) -> bool:
    while b:
        a, b = b, a % b
    return a == 1


@dataclass(frozen=True)
class Moment:
    """What the disk was to show, and how many writes there had been."""

    model: bytes
    written: int


class Case:
    """Images in a folder of their own, and a copy of the folder for QEMU's daemon."""

    def __init__(self, folder: Path, seed: str, layers: tuple[disks.Image, ...]) -> None:
        tools.need("qemu-storage-daemon", "qemu-nbd")
        self.ours, self.theirs = folder / "ours", folder / "theirs"
        self.ours.mkdir()
        self.layers = layers
        self.kind = "raw"
        self.creates = False
        """Whether the job makes its target."""
        self.since = 0
        """How many writes there had been when the job had begun."""
        self.below: str | None = None
        """The node that the target is opened on."""
        disks.make(self.ours, layers)
        self.seed = zlib.crc32(seed.encode())
        self.moments: list[Moment] = []
        """The model at the beginning of each backup, and at the end of each other job."""
        self.guests: Guests | None = None

    def file(self) -> tuple[str, str]:
        return disks.file_of(self.layers)

    def target(self, kind: str, holds: str, backing: tuple[str, disks.Image] | None = None) -> None:
        """Makes the target ``to``: with garbage, or what an image shows, or nothing."""
        self.kind = kind
        image, path = TARGETS[kind], self.ours / "to"
        if holds not in ("", "garbage"):
            fmt = ["-O", image.driver] + (["-o", image.options] if image.options else [])
            tools.run("qemu-img", "convert", *fmt, self.ours / holds, path)
            tools.run("qemu-img", "resize", "-q", "-f", image.driver, path, str(SIZE))
            return
        image.make(path, backing=backing)
        if holds:
            disks.fill(path, image)

    def play(
        self,
        monkeypatch: pytest.MonkeyPatch,
        body: Callable[[Played], Awaitable[None]],
        opened: Requests | None = None,
    ) -> None:
        """``body`` goes on while guests write to the node ``disk``."""
        self._note_moments(monkeypatch)
        shutil.copytree(self.ours, self.theirs)

        async def main() -> None:
            played = Played(self.seed)
            for request in opened or disks.opened(self.layers):
                await played.ask(request)
            played.use("disk")
            with Guests(played.drive, self.seed) as self.guests:
                played.guests = self.guests
                try:
                    await self.guests.busy()
                    await body(played)
                finally:
                    self.guests.stop()
                    await played.engine.shut_down()
            self.played = played

        with self._in(self.ours, monkeypatch):
            asyncio.run(asyncio.wait_for(main(), 120))
        with self._in(self.theirs, monkeypatch):
            self.played.as_qemu(self.ours, self.theirs)
        for path in self.ours.iterdir():
            if path.is_file() and path.read_bytes()[:4] == b"QFI\xfb":
                tools.run("qemu-img", "check", "-q", "-f", "qcow2", path)

    @contextmanager
    def _in(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.chdir(folder)
        with disks.offered(folder, self.kind):
            yield

    def _note_moments(self, monkeypatch: pytest.MonkeyPatch) -> None:
        admit = Graph.admit

        def begins(graph: Graph, client: Client) -> None:
            if isinstance(client, BackupJob):
                self.note()  # drained: nobody writes
            admit(graph, client)

        monkeypatch.setattr(Graph, "admit", begins)
        for kind in (MirrorJob, CommitJob):

            def ends(job: Any, commit: Any = kind.commit) -> None:
                commit(job)
                self.note()

            monkeypatch.setattr(kind, "commit", ends)

    def note(self) -> None:
        """A moment that counts."""
        assert self.guests is not None
        self.moments.append(Moment(self.model, len(self.guests.written)))

    @property
    def written(self) -> list[tuple[int, int]]:
        assert self.guests is not None
        return self.guests.written

    # -- afterwards --------------------------------------------------------------------------

    @property
    def model(self) -> bytes:
        assert self.guests is not None
        return bytes(self.guests.model)

    def shows(self, name: str, fmt: str, expected: bytes) -> None:
        """QEMU reads ``expected`` in an image, with what is below it."""
        model = self.ours / "model"
        model.write_bytes(expected)
        tools.run("qemu-img", "compare", "-q", "-f", fmt, "-F", "raw", self.ours / name, model)

    def holds_new_writes(self, written: list[tuple[int, int]], expected: bytes) -> None:
        """All of these writes is in ``to`` as expected; the rest is that, or what was there."""
        fmt = TARGETS[self.kind].driver
        raw = self.ours / "raw"
        tools.run("qemu-img", "convert", "-f", fmt, "-O", "raw", self.ours / "to", raw)
        held = raw.read_bytes()
        assert written
        for offset, length in written:
            part = slice(offset, offset + length)
            assert held[part] == expected[part], offset
        for at in range(0, len(expected), 512):
            if held[at : at + 512] != expected[at : at + 512]:
                assert not held[at : at + 512].strip(bytes([GARBAGE, 0])), at


# Backups

BITMAPS = [("incremental", "on-success")]
BITMAPS += [("bitmap", mode) for mode in ("on-success", "never", "always")]
BACKUPS = [(sync, "") for sync in ("full", "top", "none")] + BITMAPS


def below_disk(layers: tuple[disks.Image, ...]) -> tuple[str, disks.Image] | None:
    """The disk's backing image."""
    if len(layers) < 2 or layers[-1] is RAW:
        return None
    return disks.names_of(layers)[-2], layers[-2]


def copy(what: str, case: Case, **options: Any) -> dict[str, Any]:
    """The request for a copy: into a new file, or into the node ``to``."""
    options = {"job_id": "j", "device": "disk", **options}
    if case.creates:
        return do(f"drive-{what}", target="to", format="qcow2", **options)
    return do(f"blockdev-{what}", target="to", **options)


def prepared(case: Case, sync: str, target: str, holds: str = "garbage") -> None:
    """The target for a copy of ``sync``; qcow2 with the usual options is left to the job."""
    below, linked = below_disk(case.layers), TARGETS[target] is not RAW
    case.creates = target == "qcow2" and not (sync == "none" and case.file()[0] != "disk")
    if case.creates:
        return
    if sync == "top" and below is not None:
        case.target(target, "" if linked else below[0], below if linked else None)
        case.below = below[0] if linked else None
    else:
        case.target(target, holds)


def whole(case: Case) -> Requests:
    """The disk alone is opened, and leads to all that is below it."""
    return [add("disk", "disk", case.layers[-1].driver, discard="unmap")]


async def target_opened(case: Case, played: Played) -> None:
    if not case.creates:
        more = {"backing": case.below} if case.below is not None else {}
        await played.ask(disks.target_node(case.kind, **more))


@pytest.mark.parametrize(
    ("sync", "mode", "source", "target"), sample(BACKUPS, list(DISKS), list(TARGETS))
)
def test_backups(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sync: str,
    mode: str,
    source: str,
    target: str,
) -> None:
    """The target is the disk at the beginning."""
    case = Case(tmp_path, f"{sync} {mode} {source} {target}", DISKS[source])
    opened = None

    async def once(played: Played) -> None:
        await target_opened(case, played)
        await played.begin(copy("backup", case, sync=sync))
        await played.until("null")

    if mode:
        case.target(target, "garbage")
        case.play(monkeypatch, lambda played: incremented(case, played, sync, mode))
    elif sync == "none":
        prepared(case, sync, target)
        case.play(monkeypatch, lambda played: fleeced(case, played))
    else:
        # What the topmost image does not hold is the target's own affair.
        prepared(case, sync, target, "" if sync == "top" else "garbage")
        if sync == "top" and case.creates and case.file()[0] == "disk":
            opened = whole(case)  # the new image opens what is below by itself, to read it alone
        case.play(monkeypatch, once, opened)
    begin = case.moments[-1]
    assert begin.model != case.model
    if sync == "none" and not case.creates:
        case.holds_new_writes(case.written[begin.written :], begin.model)
    else:
        case.shows("to", TARGETS[target].driver, begin.model)
    case.shows(*case.file(), case.model)


async def fleeced(case: Case, played: Played) -> None:
    """A target on top of the disk shows the disk at the beginning, all the while."""
    await target_opened(case, played)
    await played.begin(copy("backup", case, sync="none", auto_finalize=False))
    if case.creates:
        job: Any = played.engine.job_table.find("j")
        for _ in range(3):
            await played.guests.busy()
            async with played.engine.graph.drained(job.plan.source):
                assert contents(job.plan.target) == case.moments[0].model
    played.guests.stop()
    await played.cancelled()


async def incremented(case: Case, played: Played, sync: str, mode: str) -> None:
    """By a bitmap on what a full backup has left: cancelled, whole, and once more."""
    await played.ask(disks.target_node(case.kind))
    kept = case.layers[-1] not in (RAW, disks.OLD)
    await played.ask(do("block-dirty-bitmap-add", node="disk", name="m", persistent=kept))
    bitmap = {"bitmap": "m", "bitmap_mode": mode}
    full = {"sync": "full", "bitmap": "m", "bitmap_mode": "on-success"}
    await played.begin(copy("backup", case, **full))
    await played.until("null")
    since = case.moments[0].written
    await told_truly(case, played, since)
    for ending in ("cancelled", "well", "again"):
        await played.guests.busy()
        dropped = {"auto_finalize": False} if ending == "cancelled" else {}
        await played.begin(copy("backup", case, sync=sync, **bitmap, **dropped))
        if ending == "cancelled":
            await played.cancelled()
        else:
            await played.until("null")
            since = case.moments[-1].written if mode != "never" else since
        await told_truly(case, played, since)


async def told_truly(case: Case, played: Played, since: int) -> None:
    """What the target lacks is dirty, and nothing but what was written since then."""
    graph = played.engine.graph
    disk, to = graph.nodes["disk"], graph.nodes["to"]
    async with graph.drained(played.drive.inserted()):
        bitmap = disk.bitmaps.get("m")
        assert bitmap is not None
        unit, model, held = bitmap.granularity, case.model, contents(to)
        dirty = {at // unit for a, n in bitmap.areas(0, len(model)) for at in range(a, a + n, unit)}
        units = range(-(-len(model) // unit))
        lacking = {
            u for u in units if (p := slice(u * unit, (u + 1) * unit), model[p] != held[p])[1]
        }
        # What is copied as one thing is dirty as one where a mode tells how far a job has come.
        grain = max(unit, 64 << 10, to.cluster_size() or 1)
        written = {
            at // unit
            for a, n in case.written[since:]
            for at in range(a - a % grain, -(-(a + n) // grain) * grain, unit)
        }
    assert lacking <= dirty
    assert dirty <= written


# Mirrors

VERBS = ("complete", "cancel")
MIRRORS = [
    (sync, mode, verb)
    for sync in ("full", "top", "none")
    for mode in ("background", "write-blocking")
    for verb in VERBS
    if ALL or verb == VERBS[(mode == "background") == (sync == "top")]
]


@pytest.mark.parametrize(
    ("sync", "mode", "verb", "source", "target"), sample(MIRRORS, list(DISKS), list(TARGETS))
)
def test_mirrors(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sync: str,
    mode: str,
    verb: str,
    source: str,
    target: str,
) -> None:
    """The target is the disk at the end, and takes its place when the job completes."""
    case = Case(tmp_path, f"{sync} {mode} {source} {target}", DISKS[source])
    prepared(case, sync, target)
    if sync == "none" and not case.creates:
        verb = "cancel"  # garbage is no disk to go on with

    async def body(played: Played) -> None:
        await target_opened(case, played)
        case.since = await played.begin(copy("mirror", case, sync=sync, copy_mode=mode))
        await played.until("ready")
        await played.disturbed()
        if sync == "none" and verb == "cancel":
            played.guests.stop()  # what lies below a copy that was given up is written to no more
        await ended(case, played, verb, "disk")

    case.play(monkeypatch, body)
    (end,) = case.moments
    fmt = TARGETS[target].driver
    if sync == "none" and not case.creates:
        case.holds_new_writes(case.written[case.since : end.written], end.model)
    else:
        case.shows("to", fmt, case.model if verb == "complete" else end.model)
    if sync != "none" or verb == "cancel":  # else it is below what goes on
        case.shows(*case.file(), end.model if verb == "complete" else case.model)


async def ended(case: Case, played: Played, verb: str, node: str) -> None:
    """Completed or cancelled, and written to afterwards."""
    await played.guests.busy()
    await played.ask(do(f"block-job-{verb}", device="j"))
    await played.until("null")
    await played.guests.busy()
    assert played.drive.node is not None
    assert (played.drive.node.name == node) == (verb == "cancel")


# Streams and commits

STREAMS: dict[str, dict[str, Any]] = {
    "all": {},
    "to a base": {"base": "low"},
    "down to a bottom": {"bottom": "mid"},
    "with a link as wanted": {"base": "low", "backing_file": "./low"},
    "in the middle": {"device": "mid"},
}


@pytest.mark.parametrize(
    ("how", "chain"), sample([(how,) for how in STREAMS], list(CHAINS), each=1)
)
def test_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, chain: str) -> None:
    """The disk is what guests have made of it, and the middle what it was."""
    case = Case(tmp_path, f"{how} {chain}", CHAINS[chain])
    tools.run("qemu-img", "convert", "-O", "raw", case.ours / "mid", case.ours / "before")
    before = (case.ours / "before").read_bytes()
    options = {"device": "disk", **STREAMS[how]}

    async def body(played: Played) -> None:
        await played.begin(do("block-stream", job_id="j", **options))
        await played.until("null")

    named = options.keys() & {"bottom"} or options["device"] == "mid"
    case.play(monkeypatch, body, None if named else whole(case))
    case.shows("disk", "qcow2", case.model)
    case.shows("mid", "qcow2", before)


COMMITS = [("middle", "complete"), *(("active", verb) for verb in VERBS)]
COMMITS += [("active to the middle", verb) for verb in VERBS]


@pytest.mark.parametrize(("how", "verb", "chain"), sample(COMMITS, list(CHAINS), each=1))
def test_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, verb: str, chain: str
) -> None:
    """The disk is all there: on top, or in the base that has taken its place."""
    case = Case(tmp_path, f"{how} {verb} {chain}", CHAINS[chain])
    options = {"middle": {"top": "mid"}, "active": {}}.get(how, {"base": "mid"})

    async def body(played: Played) -> None:
        await played.begin(do("block-commit", job_id="j", device="disk", **options))
        if how == "middle":
            await played.until("null")
            return
        await played.until("ready")
        await played.disturbed()
        await ended(case, played, verb, "disk")

    case.play(monkeypatch, body, whole(case))
    base = "mid" if "middle" in how and how != "middle" else "low"
    fmt = case.layers[("low", "mid", "disk").index(base)].driver
    if how == "middle":
        case.shows("disk", "qcow2", case.model)
    elif verb == "complete":
        case.shows(base, fmt, case.model)
    else:
        case.shows("disk", "qcow2", case.model)
        case.shows(base, fmt, case.moments[-1].model)
