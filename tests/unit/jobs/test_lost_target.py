"""Jobs whose target's server has gone, and may come back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.drivers.nbd.driver import NbdDriver
from tests.support.bench import Bench
from tests.support.graphs import run
from tests.support.nbd import MemoryServer

MIB = 1 << 20


@pytest.mark.parametrize("kind", ["mirror", "backup"])
@pytest.mark.parametrize("way", ["cancel", "quit"])
def test_cancelled_by_force_it_waits_no_longer(tmp_path: Path, kind: str, way: str) -> None:
    """For a server that is to be waited for an hour."""

    async def main() -> None:
        bench = Bench()
        (tmp_path / "disk").write_bytes(b"x" * MIB)
        await bench.open(tmp_path / "disk", "raw")
        server = MemoryServer(tmp_path / "nbd", MemoryDriver(MIB))
        where = {"type": "unix", "path": str(tmp_path / "nbd")}
        nbd = {"driver": "nbd", "server": where, "export": "disk", "reconnect-delay": 3600}
        await bench.do("blockdev-add", node_name="target", driver="raw", file=nbd)
        (driver,) = (node.driver for node in bench.nodes() if node.driver.name == "nbd")
        assert isinstance(driver, NbdDriver)
        server.close()
        given = {"job_id": "j", "device": "d0", "target": "target", "sync": "full"}
        await bench.do(f"blockdev-{kind}", **given)
        session = driver._session
        while session._connection is not None:
            await asyncio.sleep(0)
        if way == "cancel":
            await bench.do("block-job-cancel", device="j", force=True)
            await bench.ended()
        await bench.engine.shut_down()
        assert bench.named("BLOCK_JOB_CANCELLED")

    run(main())
