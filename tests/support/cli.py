"""The program as another program runs it; the fixtures are in tests/shell/conftest.py."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

BLKMON = [sys.executable, "-m", "monitor"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

CREATE = "create -f qcow2 a.qcow2 1M\n"
OPEN = "drive_add 0 if=none,id=d0,file=a.qcow2,format=qcow2\n"
FAILING_JOB = (
    "blockdev-create job-id=c0 options.driver=file options.filename=none/a options.size=1M\n"
)
