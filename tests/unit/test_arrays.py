"""How numpy is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("told", [None, "3"])
@pytest.mark.parametrize(
    "use",
    [
        "import monitor.engine.drivers.qcow2.image",
        "from monitor.engine import bitmap, bitmapwords; "
        "bitmapwords.sha256(bitmap.DirtyBitmap(1 << 30, 512))",
        "from monitor.engine.drivers.buffers import is_zero; is_zero(memoryview(bytes(64)))",
    ],
)
def test_numpy_brings_no_threads_and_changes_nothing(use: str, told: str | None) -> None:
    look = "import os, sys; print(len(os.listdir('/proc/self/task')), 'numpy' in sys.modules)"
    say = "print(os.environ.get('OPENBLAS_NUM_THREADS'))"
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    if told is not None:
        environment["OPENBLAS_NUM_THREADS"] = told
    done = subprocess.run(
        [sys.executable, "-c", f"{use}\n{look}\n{say}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1", "True", str(told)]
