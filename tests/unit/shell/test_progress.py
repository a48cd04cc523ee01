"""``--progress=FD``: which figures are a line, and where the lines go."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from monitor.options import parse_arguments
from monitor.shell.progress import Meter, ProgressLines, json_line, text_line
from tests.support.fake_engine import MIB, FakeEngine, job

ROOT = Path(__file__).parents[3]


def told(*steps: tuple[float, int]) -> list[int]:
    """The progress in MiB of 64 that is told, of (time, progress) pairs."""
    meter = Meter()
    jobs = [(now, job(current=mib * MIB)) for now, mib in steps]
    return [each.current // MIB for now, each in jobs if meter.worth_telling(each, now)]


def test_a_line_for_every_five_per_cent() -> None:
    assert told(*((0.0, mib) for mib in range(65))) == [
        0, 4, 7, 10, 13, 16, 20, 23, 26, 29, 32, 36, 39, 42, 45, 48, 52, 55, 58, 61, 64,
    ]  # fmt: skip


def test_a_line_a_second_for_what_is_slow() -> None:
    assert told((0, 0), (0.5, 1), (1.0, 2), (1.9, 3), (2.0, 3), (2.1, 3)) == [0, 2, 3]
    assert told((0, 0), (1, 0), (5, 0)) == [0]  # nothing moves, nothing is said


def test_a_change_of_status_is_a_line() -> None:
    meter = Meter()
    statuses = ["running", "running", "paused", "running", "ready", "concluded", "concluded"]
    snapshots = [job(status=status) for status in statuses]
    assert [meter.worth_telling(each, 0.0) for each in snapshots] == [
        True, False, True, True, True, True, False,
    ]  # fmt: skip


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 4)), max_size=200))
def test_no_more_than_a_line_for_five_per_cent_or_a_second(steps: list[tuple[float, int]]) -> None:
    now, done, points = 0.0, 0, []
    for passed, more in steps:
        now, done = now + passed, min(64, done + more)
        points.append((now, done))
    assert len(told(*points)) <= 1 + 20 + now


def test_lines_of_a_job() -> None:
    async def main(as_json: bool) -> list[str]:
        engine = FakeEngine()
        read_end, write_end = os.pipe()
        lines = ProgressLines(engine, write_end, as_json=as_json)
        engine.start(job("a\r\x1b"))
        engine.end("a\r\x1b", error="No space left on device")
        lines.close()
        os.close(write_end)
        with os.fdopen(read_end, newline="\n") as reader:
            return reader.read().splitlines()

    assert asyncio.run(main(False)) == [
        r"a\x0d\x1b: stream, running, 0% (0 of 67108864)",
        r"a\x0d\x1b: stream, concluded, 0% (0 of 67108864): No space left on device",
    ]
    objects = [json.loads(line) for line in asyncio.run(main(True))]
    assert objects[0] == {
        "job": "a\r\x1b", "type": "stream", "status": "running",
        "percent": 0, "current": 0, "total": 64 * MIB,
    }  # fmt: skip
    assert objects[1]["error"] == "No space left on device"


def test_a_reader_that_is_gone_or_slow_holds_nothing_up() -> None:
    async def main() -> None:
        read_end, write_end = os.pipe()
        os.close(read_end)
        engine = FakeEngine()
        lines = ProgressLines(engine, write_end)
        for number in range(100):
            engine.start(job(f"j{number}"))
            engine.end(f"j{number}")
        lines.close()
        os.close(write_end)

    asyncio.run(main())


def test_the_timer_looks_while_a_job_moves() -> None:
    async def main() -> list[str]:
        engine = FakeEngine()
        read_end, write_end = os.pipe()
        lines = ProgressLines(engine, write_end)
        engine.start(job("s0"))
        engine._jobs["s0"] = replace(engine._jobs["s0"], current=32 * MIB)
        assert lines._timer is not None
        lines._look()
        assert lines._timer is not None
        engine.end("s0")
        lines._look()
        assert lines._timer is None
        lines.close()
        os.close(write_end)
        with os.fdopen(read_end) as reader:
            return reader.read().splitlines()

    told = asyncio.run(main())
    assert [line.split("%")[0] for line in told] == [
        "s0: stream, running, 0", "s0: stream, running, 50", "s0: stream, concluded, 50",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["seven", "99999999999999999999", "-1", "987"])
def test_no_descriptor(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(["--progress", text, "-c", "quit"])
    assert ended.value.code == 2
    assert f"'{text}' is no open file descriptor" in capsys.readouterr().err


SCRIPT = """\
create -f qcow2 a.qcow2 8M
drive_add 0 if=none,id=a,file=a.qcow2,format=qcow2
qemu-io a "write -q -P 1 0 8M"
snapshot_blkdev a b.qcow2
block_stream a
wait a
"""


def test_of_a_script(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(SCRIPT)
    ended = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m monitor --progress=3 s 3>lines"],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == b"OK\nJob 'a' completed\n"
    lines = (tmp_path / "lines").read_text().splitlines()
    assert lines[0].startswith("a: stream, running, ")
    assert lines[-1] == "a: stream, concluded, 100% (8388608 of 8388608)"
    assert len(lines) <= 23


def test_a_job_that_stands_still_at_an_error_says_at_which() -> None:
    error = "write error: No space left on device"
    stands = job("b0", type="backup", status="paused", stopped=error)
    assert text_line(stands) == f"b0: backup, paused, 0% (0 of 67108864): {error}"
    assert json.loads(json_line(stands))["stopped"] == error
