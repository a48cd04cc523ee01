"""Texts that come in and go out: scripts as they are read, lines as they are shown."""

from __future__ import annotations

import os
import stat

# What a terminal or a reader of lines would act on: C0 controls but newline and tab, DEL, and C1.
_CONTROLS = {
    code: f"\\x{code:02x}"
    for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))
    if code not in b"\t\n"
}


def printable(text: str) -> str:
    """``text`` with control characters spelled out: a file's name must not move the cursor."""
    return text if text.isprintable() else text.translate(_CONTROLS)


def read_script(path: str) -> str:
    """A script's text. File names in it may be any bytes (surrogates stand for what is not UTF-8).

    Raises HostFailure.
    """
    from monitor.engine.errors import host_failure

    try:
        with open(path, "rb") as file:
            return decode_script(file.read())
    except OSError as error:
        raise host_failure(f"Could not open '{path}'", error) from error


def look_ahead(path: str) -> str:
    """The text that ``read_script`` will give, where it can be read twice and at once: a pipe's is
    for the command that reads it. Raises HostFailure."""
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        regular = True  # and reading it says what is wrong
    return read_script(path) if regular else ""


def decode_script(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape").replace("\r\n", "\n").removeprefix("\ufeff")
