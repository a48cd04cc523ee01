"""Programs that have the terminal for a while: a pager, the host's shell. They block."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from monitor.language.syntax import columns_of


def height(text: str, columns: int) -> int:
    """Rows that ``text`` takes on a terminal."""
    width = max(1, columns)
    return sum(max(1, -(-columns_of(line) // width)) for line in text.split("\n")) if text else 0


def page(text: str) -> None:
    """Shows ``text`` by $PAGER (``less`` where that is not set, ``more`` where there is no less).

    What was looked at stays on the screen: -X keeps less from clearing it. Raises OSError.
    """
    environment = {**os.environ, "LESS": os.environ.get("LESS", "-FRX")}
    data = f"{text}\n".encode("utf-8", "replace")
    wanted = os.environ.get("PAGER", "")
    if wanted:
        subprocess.run(wanted, shell=True, input=data, env=environment, check=False)
        return
    try:
        subprocess.run(["less"], input=data, env=environment, check=False)
    except FileNotFoundError:
        subprocess.run(["more"], input=data, env=environment, check=False)


def run_in_shell(command: str, text: str, variables: Mapping[str, str]) -> int:
    """The host shell's ``command`` on the terminal, with ``text`` to read; its status."""
    ended = subprocess.run(
        command,
        shell=True,
        input=(f"{text}\n" if text else "").encode("utf-8", "surrogateescape"),
        env={**os.environ, **variables},
        check=False,
    )
    return ended.returncode
