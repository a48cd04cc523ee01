"""Headers that are written anew while the power may fail: they are the old one or the new one."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest

from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.header import Extension, Header, read_header
from monitor.engine.drivers.qcow2.unfinished import mark_of
from tests.support.children import MemoryChild, RecordingChild, power_cut
from tests.support.qcow2 import new_image, open_qcow2


class Told(NamedTuple):
    """What a header tells that may not be lost."""

    backing_file: bytes | None
    backing_format: str | None
    mark: str | None
    unknown: bytes | None

    @classmethod
    def by(cls, header: Header) -> Told:
        return cls(
            header.backing_file,
            header.backing_format,
            mark_of(header),
            header.extension(0x11223344),
        )


def told(content: bytes) -> Told:
    return Told.by(read_header(MemoryChild(content), read_only=True))


def change(child: RecordingChild, chance: random.Random, longest: int) -> None:
    """The backing link, or the mark of a job."""
    disk = open_qcow2(child)
    if chance.random() < 0.5:
        name = chance.choice("abcdef") * chance.choice([0, 1, 5, longest // 2, longest])
        disk.set_backing(name or None, "qcow2" if name else None)
    else:
        disk.mark_unfinished(chance.choice([None, "short", "long" * 40]))
    disk.close()


def with_unknown_extension(content: bytes) -> bytes:
    child = MemoryChild(content)
    header = read_header(child, read_only=True)
    header.extensions.append(Extension(0x11223344, b"12345"))
    child.write(memoryview(header.pack()), 0)
    return bytes(child.content)


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize(("cluster_size", "longest"), [(512, 20), (4096, 1000), (65536, 1000)])
def test_the_old_or_the_new(cluster_size: int, longest: int, unknown: bool) -> None:
    chance = random.Random(cluster_size)
    content = bytes(new_image(1 << 20, cluster_size=cluster_size).content)
    if unknown and cluster_size > 512:
        content = with_unknown_extension(content)
    for _ in range(40):
        child = RecordingChild(content)
        change(child, chance, longest)
        before, after = told(content), told(bytes(child.content))
        seen = set()
        for done in range(len(child.events) + 1):
            for _ in range(8):
                seen.add(told(power_cut(content, child.events, done, chance)))
        assert seen <= {before, after}
        assert told(power_cut(content, child.events, len(child.events), chance, 0)) == after
        content = bytes(child.content)
    if cluster_size > 4096:
        names = read_header(MemoryChild(content), read_only=True).extension(q.EXT_FEATURE_NAMES)
        assert names


def test_nothing_of_a_longer_header_stays() -> None:
    child = new_image(1 << 20)
    disk = open_qcow2(child)
    clean = bytes(child.content[:65536])
    disk.set_backing("secret" * 100, "raw")
    disk.mark_unfinished("backup 'b0' of 'd0'")
    disk.set_backing(None, None)
    disk.mark_unfinished(None)
    disk.close()
    assert child.content[:65536] == clean
