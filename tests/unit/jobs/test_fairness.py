"""Jobs of one engine beside each other: what one waits for, the others do not."""

from __future__ import annotations

import random
import threading

import pytest

from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.jobs.carrying import CHUNK
from monitor.engine.schema.backup import BlockdevBackup
from monitor.engine.schema.job import BlockJobSetSpeed
from monitor.engine.schema.mirror import BlockdevMirror
from tests.support.backups import contents, memory
from tests.support.graphs import add, run
from tests.support.in_memory import Gate, MemoryBench, until

PIECES = 10


class Two(MemoryBench):
    """Two disks, a and b, each with a target."""

    def __init__(self) -> None:
        super().__init__()
        for name in "ab":
            data = random.Random(name).randbytes(PIECES * CHUNK)
            add(self.graph, name, MemoryDriver(data=data))
            add(self.graph, f"{name}-copy", MemoryDriver(len(data)))

    async def begin(self, kind: str, name: str, speed: int = 0) -> None:
        options = {"job_id": name, "device": name, "target": f"{name}-copy", "sync": "full"}
        make = BlockdevBackup if kind == "backup" else BlockdevMirror
        await self.engine.execute(make(**options, speed=speed, auto_dismiss=False))

    def target(self, name: str) -> MemoryDriver:
        return memory(self.graph.nodes[f"{name}-copy"])

    def is_copied(self, name: str) -> bool:
        return contents(self.graph.nodes[f"{name}-copy"]) == contents(self.graph.nodes[name])


KINDS = [("backup", "backup"), ("backup", "mirror"), ("mirror", "mirror")]


@pytest.mark.parametrize(("first", "second"), KINDS)
def test_two_jobs_go_on_piece_by_piece(first: str, second: str) -> None:
    """No piece of one is written before as many pieces of the other have been begun: whichever had
    to wait for the other's end would wait for ever."""

    async def main() -> None:
        bench = Two()
        begun = {name: threading.Semaphore(0) for name in "ab"}

        def meet(mine: str, other: str) -> None:
            def before(operation: str, offset: int, length: int) -> None:
                if operation == "write":
                    begun[mine].release()
                    assert begun[other].acquire(timeout=15)

            bench.target(mine).before = before

        meet("a", "b")
        meet("b", "a")
        await bench.begin(first, "a")
        await bench.begin(second, "b")
        for name in "ab":
            await bench.engine.job_ended(name)
            assert bench.is_copied(name)
        await bench.engine.shut_down()

    run(main())


@pytest.mark.parametrize(("first", "second"), KINDS)
def test_a_job_whose_target_hangs_holds_up_no_other(first: str, second: str) -> None:
    async def main() -> None:
        bench = Two()
        gate = Gate("write")
        bench.target("a").before = gate
        await bench.begin(first, "a")
        await gate.wait()
        await bench.begin(second, "b")
        assert (await bench.engine.job_ended("b")).error is None
        assert bench.is_copied("b")
        gate.opened.set()
        assert (await bench.engine.job_ended("a")).error is None
        assert bench.is_copied("a")
        await bench.engine.shut_down()

    run(main())


def test_a_slow_job_gets_what_it_is_due_beside_a_fast_one() -> None:
    """The clock stands while the fast one runs to its end; the slow one has had its credit by then,
    and goes on with the clock."""

    async def main() -> None:
        bench = Two()
        await bench.begin("backup", "a", speed=CHUNK)
        await bench.begin("backup", "b")
        assert (await bench.engine.job_ended("b")).error is None
        began = bench.engine.clock.monotonic()
        assert _current(bench) <= CHUNK
        await until(lambda: _advanced(bench) == PIECES * CHUNK)
        assert bench.engine.clock.monotonic() - began >= PIECES - 2
        assert bench.is_copied("a")
        await bench.engine.shut_down()

    run(main())


def _current(bench: Two) -> int:
    """Bytes that job a has copied."""
    (current,) = [job.current for job in bench.engine.jobs() if job.id == "a"]
    return current


def _advanced(bench: Two) -> int:
    """The same, a little later."""
    bench.engine.clock.advance(0.25)
    return _current(bench)


def test_a_limit_that_goes_lets_the_job_go_at_once() -> None:
    async def main() -> None:
        bench = Two()
        await bench.begin("backup", "a", speed=512)
        await until(lambda: _current(bench) > 0)
        await bench.engine.execute(BlockJobSetSpeed(device="a", speed=0))
        assert (await bench.engine.job_ended("a")).error is None
        assert bench.is_copied("a")

    run(main())
