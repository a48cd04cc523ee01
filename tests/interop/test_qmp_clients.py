"""The QMP server in the hands of clients that nobody here wrote: qmp-shell and the library
qemu.qmp."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from qemu.qmp import ExecuteError, QMPClient

from tests.support.terminal import Terminal

QMP_SHELL = Path(sys.executable).with_name("qmp-shell")


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    """A socket at which a monitor listens until somebody says ``quit``."""
    path = tmp_path / "qmp.sock"
    process = subprocess.Popen(
        [sys.executable, "-m", "monitor", "--qmp", f"unix:{path}", "--qmp", "stdio"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    assert process.stdout
    assert "QMP" in process.stdout.readline()  # by then the socket is there
    yield str(path)
    process.communicate(timeout=20)
    watchdog.cancel()
    assert process.returncode == 0
    assert not path.exists()


def test_qmp_shell(path: str) -> None:
    lines = """\
blockdev-add driver=null-co node-name=n0 size=1048576
transaction(
blockdev-snapshot-sync node-name=nowhere snapshot-file=x.qcow2 snapshot-node-name=x
)
query-named-block-nodes flat=true
quit
"""
    shell = subprocess.run(
        [QMP_SHELL, "-p", path], input=lines, capture_output=True, text=True, timeout=30
    )
    assert '"virtual-size": 1048576' in shell.stdout
    assert "Cannot find device='' nor node-name='nowhere'" in shell.stdout


def test_qmp_shell_in_the_human_language(path: str) -> None:
    lines = "drive_add 0 if=none,id=d0,driver=null-co\ninfo block\nnonsense\nquit\n"
    shell = subprocess.run(
        [QMP_SHELL, "-H", path], input=lines, capture_output=True, text=True, timeout=30
    )
    assert "d0: [not inserted]" in shell.stdout or "d0 (" in shell.stdout
    assert "unknown command: 'nonsense'" in shell.stdout


def test_the_library_several_at_once(path: str) -> None:
    async def main() -> None:
        clients = [QMPClient(f"c{number}") for number in range(8)]
        for client in clients:
            await client.connect(path)
        answers = await asyncio.gather(
            *(
                client.execute("blockdev-add", {"driver": "null-co", "node-name": f"n{number}"})
                for number, client in enumerate(clients)
            )
        )
        assert answers == [{}] * 8
        with pytest.raises(ExecuteError, match="Duplicate nodes with node-name='n0'"):
            await clients[1].execute("blockdev-add", {"driver": "null-co", "node-name": "n0"})
        nodes = await clients[2].execute("query-named-block-nodes", {"flat": True})
        assert len(nodes) == 8  # type: ignore[arg-type]
        for client in clients[1:]:
            await client.disconnect()
        await clients[0].execute("quit")
        with contextlib.suppress(EOFError):  # the library tells that the server hung up
            await clients[0].disconnect()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_qmp_tui(path: str) -> None:
    """The terminal interface of qemu.qmp connects, negotiates, and shows what we say."""
    terminal = Terminal([str(QMP_SHELL.with_name("qmp-tui")), path], columns=100, rows=50)

    def shows(text: str) -> Callable[[Terminal], bool]:
        """It draws what has come only when a key is pressed, so one is."""

        def look(screen: Terminal) -> bool:
            if text in screen.text:
                return True
            screen.send(" ")
            return False

        return look

    try:
        terminal.until("\u250c")  # its frame
        for text in ("[Connected", '"capabilities"', '"return": {}'):
            terminal.until(shows(text))
    finally:
        terminal.kill()
    subprocess.run([QMP_SHELL, path], input="quit\n", text=True, capture_output=True, timeout=30)
