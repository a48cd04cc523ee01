"""block-stream when requests fail, under each policy."""

from __future__ import annotations

import errno

import pytest

from monitor.engine.schema.job import (
    BlockJobResume,
    JobDismiss,
    QueryBlockJobs,
)
from tests.support.graphs import run
from tests.support.in_memory import MIB, BadPlace
from tests.support.layers import overlay
from tests.support.streams import Bench


@pytest.mark.parametrize(
    ("where", "operation"), [("mid", "read"), ("mid", "map"), ("top", "map"), ("top", "write")]
)
def test_report_fails_the_job(operation: str, where: str) -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain(4 * MIB)
        seen = overlay(top).contents()
        bad = BadPlace(operation, MIB, errno.EIO)
        overlay({"mid": mid, "top": top}[where]).before = bad
        snapshot = await bench.streamed(auto_dismiss=False)
        assert snapshot.error == "Input/output error"
        assert bench.named("BLOCK_JOB_ERROR") == [
            {"device": "s0", "operation": "read", "action": "report"}
        ]
        (done,) = bench.named("BLOCK_JOB_COMPLETED")
        assert done["error"] == "Input/output error"
        assert done["offset"] == MIB
        assert top.backing is mid
        bad.mended = True
        assert overlay(top).contents() == seen
        await bench.engine.execute(JobDismiss(id="s0"))
        assert not top.blockers
        assert (await bench.streamed()).status == "null"  # and once more, without the error
        assert overlay(top).contents() == seen
        assert top.backing is None

    run(main())


def test_ignore_goes_on_and_fails_in_the_end() -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain(4 * MIB)
        overlay(mid).before = BadPlace("read", MIB, errno.EIO)
        snapshot = await bench.streamed(on_error="ignore", auto_dismiss=False)
        assert (snapshot.current, snapshot.total) == (4 * MIB, 4 * MIB)
        assert snapshot.error == "Input/output error"
        assert bench.named("BLOCK_JOB_ERROR")[0]["action"] == "ignore"
        assert top.backing is mid

    run(main())


@pytest.mark.parametrize(
    ("policy", "code", "io_status"),
    [
        ("stop", errno.EIO, "failed"),
        ("stop", errno.ENOSPC, "nospace"),
        ("enospc", errno.ENOSPC, "nospace"),
        ("auto", errno.ENOSPC, "nospace"),
    ],
)
def test_stop_waits_and_tries_again(policy: str, code: int, io_status: str) -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain(4 * MIB)
        seen = overlay(top).contents()
        overlay(mid).before = bad = BadPlace("read", MIB, code)
        assert (await bench.streamed(on_error=policy)).status == "paused"
        (info,) = await bench.engine.execute(QueryBlockJobs())
        assert (info.io_status, info.paused, info.status) == (io_status, True, "paused")
        assert info.offset == MIB
        await bench.engine.execute(BlockJobResume(device="s0"))
        assert (await bench.engine.job_ended("s0")).status == "paused"  # it is still broken
        bad.mended = True
        await bench.engine.execute(BlockJobResume(device="s0"))
        assert (await bench.engine.job_ended("s0")).error is None
        assert top.backing is None
        assert overlay(top).contents() == seen
        assert [data["action"] for data in bench.named("BLOCK_JOB_ERROR")] == ["stop"] * 2

    run(main())


@pytest.mark.parametrize("policy", ["enospc", "auto"])
def test_other_errors_than_a_full_disk_are_reported(policy: str) -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, _top = bench.chain(MIB)
        overlay(mid).before = BadPlace("read", MIB // 4, errno.EIO)
        await bench.streamed(on_error=policy)
        assert bench.named("BLOCK_JOB_ERROR")[0]["action"] == "report"

    run(main())


def test_a_header_that_cannot_be_written_leaves_the_chain() -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain()
        seen = overlay(top).contents()
        overlay(top).before = BadPlace("set_backing", 0, errno.ENOSPC)
        snapshot = await bench.streamed(auto_dismiss=False)
        assert snapshot.error == "No space left on device"
        assert top.backing is mid
        assert top.children["backing"].frozen is False
        overlay(top).before = None
        assert overlay(top).contents() == seen

    run(main())
