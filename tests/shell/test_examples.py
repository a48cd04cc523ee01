"""Every example that ``help`` shows for a command runs: each on its own, with what it needs made.

A new command's example needs nothing here when drive d0 (an overlay ``disk.qcow2`` on
``base.qcow2``), node n0 (``other.qcow2``) and its bitmap b0 are enough for it; else ``BEFORE`` says
what is. New files of an example lie in the current folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
from pathlib import Path

import pytest

from monitor.commands.registry import commands
from monitor.engine.embedded import EmbeddedEngine
from monitor.servers.nbd.server import NbdServer
from monitor.shell.script import ScriptOptions, ScriptSession

FILES = """\
create -f qcow2 base.qcow2 10M
drive_add 0 if=none,id=b0,file=base.qcow2,format=qcow2
qemu-io b0 "write -P 0x61 0 4M"
drive_del b0
create -f qcow2 -b base.qcow2 -F qcow2 disk.qcow2
create -f qcow2 other.qcow2 10M
"""
DRIVE = """\
drive_add 0 if=none,id=d0,file=disk.qcow2,format=qcow2
blockdev-add driver=qcow2 node-name=n0 file.driver=file file.filename=other.qcow2
block-dirty-bitmap-add node=n0 name=b0
"""
JOB = DRIVE + "block_stream d0 1\n"
NBD = DRIVE + "nbd_server_start unix:before.sock\n"
SNAPSHOT = DRIVE.splitlines()[0] + "\nsavevm before\n"  # an image with bitmaps goes not back

BEFORE: dict[str, str] = {
    "drive_add": "",
    "create": "",
    "source": "macros setup.blkmon\n",
    "block_job_cancel": JOB,
    "block_job_complete": JOB,
    "block_job_pause": JOB,
    "block_job_resume": JOB + "block_job_pause d0\n",
    "block_job_set_speed": JOB,
    "wait": DRIVE + "block_stream d0\n",
    "step": "",
    "nbd_server_add": NBD,
    "nbd_server_remove": NBD + "nbd_server_add d0\n",
    "nbd_server_stop": NBD,
    "snapshot_delete_blkdev_internal": DRIVE + "snapshot_blkdev_internal d0 before\n",
    "loadvm": SNAPSHOT,
    "delvm": SNAPSHOT,
    "rerun": "",
}
"""What has to be there before an example, where the usual drive is not it or not enough."""

REFUSED = {
    "block_job_complete": "Job 'd0' in state 'running' cannot accept command verb 'complete'",
    "step": "Block job 'd0' not found",
}
"""Examples about what no script can bring about, and what is said of it here."""


def run_script(before: str, example: str) -> tuple[int, str]:
    """The status of a script whose first part succeeds, and its errors."""

    async def main() -> tuple[int, str]:
        engine = EmbeddedEngine()
        engine.serve_exports("nbd", NbdServer)
        err = io.StringIO()
        session = ScriptSession(engine, ScriptOptions(yes=True), io.StringIO(), err)
        try:
            await session.run_all(session.parse(before, "before"))
            assert err.getvalue() == ""
            session.entered.clear()
            await session.run_all(session.parse(example, "example"))
        finally:
            session.close()
            await engine.shut_down()  # and cancels jobs
        return session.status, err.getvalue()

    return asyncio.run(main())


EXAMPLES = sorted({declared.name for declared in commands().values()})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files, made once."""
    folder = tmp_path_factory.mktemp("images")
    with contextlib.chdir(folder):
        assert run_script(FILES, "") == (0, "")
    return folder


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name: str, images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path, dirs_exist_ok=True)
    if name == "create":
        (tmp_path / "disk.qcow2").unlink()
    with contextlib.chdir(tmp_path):
        status, errors = run_script(BEFORE.get(name, DRIVE), commands()[name].example)
    if name in REFUSED:
        assert status == 1
        assert REFUSED[name] in errors
    else:
        assert (status, errors) == (0, "")
