"""What a kill or a power cut leaves of an image that is being made, or filled by a job."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from monitor.engine.clock import ManualClock
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.drivers.qcow2 import CreateOptions, create_image
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.schema.blockdev import BlockdevOptionsQcow2
from monitor.engine.schema.graph import BlockdevAdd
from monitor.engine.schema.stream import BlockStream
from tests.support.children import MemoryChild, RecordingChild, killed, power_cut
from tests.support.graphs import add, run
from tests.support.qcow2 import open_qcow2, qemu_check, read
from tests.support.recording import RecordingDriver
from tests.support.tools import need

MIB = 1 << 20


@pytest.fixture(autouse=True)
def tools() -> None:
    need("qemu-img")


@pytest.mark.parametrize("cluster_size", [512, 65536])
@pytest.mark.parametrize("mode", ["off", "metadata", "full"])
def test_crash_while_an_image_is_made(tmp_path: Path, mode: str, cluster_size: int) -> None:
    """It is no image yet, or a sound one that reads as zeroes."""
    child = RecordingChild()
    create_image(child, CreateOptions(MIB, cluster_size=cluster_size, preallocation=mode))
    chance = random.Random(cluster_size)
    events = child.events
    left = [content for _, content in killed(b"", events)]
    left += [power_cut(b"", events, chance.randint(0, len(events)), chance) for _ in range(25)]
    images = 0
    for number, content in enumerate(left):
        try:
            disk = open_qcow2(MemoryChild(content), read_only=True)
        except RequestError:
            continue
        images += 1
        assert not any(read(disk))
        if number % 7 == 0:
            (tmp_path / "a.qcow2").write_bytes(content)
            assert qemu_check(tmp_path / "a.qcow2")["corruptions"] == 0
    assert images


@pytest.mark.parametrize("cluster_size", [512, 65536])
def test_crash_while_a_stream_fills_the_image(tmp_path: Path, cluster_size: int) -> None:
    """Whatever has been copied, and whether the backing link is still there: what the guest reads
    never changes."""
    size = 3 * MIB
    base = random.Random(1).randbytes(MIB) + bytes(MIB) + b"tail" * (MIB // 4)
    empty = MemoryChild()
    create_image(
        empty,
        CreateOptions(size, cluster_size=cluster_size, backing_file="base.raw", backing_fmt="raw"),
    )
    driver = RecordingDriver(bytes(empty.content))

    async def main() -> None:
        engine = EmbeddedEngine(ManualClock())
        add(engine.graph, "f0", driver)
        add(engine.graph, "base", MemoryDriver(data=base))
        options = BlockdevOptionsQcow2(node_name="n0", file="f0", backing="base")
        await engine.execute(BlockdevAdd(options=options))
        await engine.execute(BlockStream(job_id="s0", device="n0"))
        ended = await engine.job_ended("s0")
        assert ended.error is None

    run(main())
    events = driver.child.events
    path = tmp_path / "a.qcow2"
    (tmp_path / "base.raw").write_bytes(base)
    chance = random.Random(cluster_size)
    done = set(range(0, len(events), max(1, len(events) // 15)))
    left = [content for at, content in killed(driver.child.begin, events) if at in done]
    for _ in range(25):
        at = chance.randint(0, len(events))
        left.append(power_cut(driver.child.begin, events, at, chance))
    left.append(bytes(driver.child.content))
    alone = 0
    for number, content in enumerate(left):
        probe = open_qcow2(MemoryChild(content), read_only=True)
        below = MemoryChild(base) if probe.backing_filename else None
        alone += below is None
        disk = open_qcow2(MemoryChild(content), below, read_only=True)
        assert read(disk) == base
        if number % 4 == 0:
            path.write_bytes(content)
            assert qemu_check(path)["corruptions"] == 0
    assert alone
