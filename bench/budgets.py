"""Rows that no tool of QEMU's is beside: a start against a bare interpreter, and bounds."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from bench.sessions import OURS
from bench.work import row

Command = tuple[str, ...]
BARE = (sys.executable, "-I", "-c", "pass")


def _least_cpu(command: Command, folder: Path, typed: bytes = b"") -> float:
    """Seconds of CPU of a whole run, the least of ten."""
    found = []
    for _ in range(10):
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert process.stdin
        process.stdin.write(typed)
        process.stdin.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        found.append(usage.ru_utime + usage.ru_stime)
    return min(found)


@row("first QMP reply, beside a bare interpreter (CPU)", goal="7", stretch="5")
def first_reply(command: Command, folder: Path) -> float:
    if command != OURS:
        return _least_cpu(BARE, folder)
    return _least_cpu(OURS, folder, b'{"execute": "qmp_capabilities"}\n')


@row("a command with -c, beside a bare interpreter (CPU)", goal="8")
def one_command(command: Command, folder: Path) -> float:
    words = (sys.executable, "-m", "monitor", "-c", "info version")
    return _least_cpu(words if command == OURS else BARE, folder)


@row("a script of 10,000 lines, beside 5 s", goal="1")
def long_script(command: Command, folder: Path) -> float:
    if command != OURS:
        return 5.0
    lines = "".join(f"echo line {i}\n" for i in range(10_000))
    (folder / "script").write_text(lines)
    began = time.perf_counter()
    words = [sys.executable, "-m", "monitor", "script"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - began


@row("a key's completion at 10,000 nodes, p99 of CPU, beside 20 ms", goal="1")
def completion(command: Command, folder: Path) -> float:
    if command != OURS:
        return 0.020
    return asyncio.run(_slowest_keys())


async def _slowest_keys() -> float:
    from monitor.engine.embedded import EmbeddedEngine
    from monitor.engine.schema.base import request_types
    from monitor.engine.schema.decode import decode
    from monitor.language.completion import suggest

    engine = EmbeddedEngine()
    add = request_types()["blockdev-add"]
    for number in range(10_000):
        options = {"driver": "null-co", "node-name": f"node{number}", "size": 1 << 20}
        await engine.execute(decode(add, options))
    took = []
    typed = ("block_stream n", "blockdev-snapshot node=node99", "qemu-io od42", "info block ")
    for text in typed:
        for end in range(1, len(text) + 1):
            suggest(text[:end], engine)  # what is loaded at the first key is there
    for _ in range(10):
        for text in typed:
            for end in range(1, len(text) + 1):
                began = time.thread_time()
                suggest(text[:end], engine)
                took.append(time.thread_time() - began)
    await engine.shut_down()
    return sorted(took)[len(took) * 99 // 100]
