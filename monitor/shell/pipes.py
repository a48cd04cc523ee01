"""Output that goes elsewhere: into a file, or through a command of the host's shell."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from monitor.engine.errors import HostFailure, RequestError, host_failure
from monitor.language.outputs import Output

_IMAGE_MAGIC = b"QFI\xfb"


class ShellCommandFailed(RequestError):
    template = "'{command}' ended with status {status}"
    command: str
    status: int


class WouldReplaceImage(RequestError):
    """Output was to be written over a disk image."""

    template = "'{path}' is a disk image: its data would be lost"
    path: str


def write_file(output: Output, text: str) -> None:
    """Writes ``text`` as ``output`` says. Raises HostFailure, WouldReplaceImage.

    A file that is there is replaced, as a shell does it, unless it is an image.
    """
    data = (text + "\n" if text else "").encode("utf-8", "surrogateescape")
    if not output.append and is_image(output.file):
        raise WouldReplaceImage(output.file)
    try:
        with open(output.file, "ab" if output.append else "wb") as file:
            file.write(data)
    except OSError as error:
        raise host_failure(f"Could not write '{output.file}'", error) from error


def is_image(path: str) -> bool:
    """Whether a file begins as an image that holds something does; False if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == _IMAGE_MAGIC
    except OSError:
        return False


async def through_shell(command: str, text: str, variables: Mapping[str, str]) -> str:
    """What the host shell's ``command`` makes of ``text``; its stderr is ours.

    Raises ShellCommandFailed, HostFailure.
    """
    try:
        process = await asyncio.create_subprocess_shell(
            command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **variables},
        )
    except OSError as error:
        raise _cannot_run(command, error) from error
    data = (text + "\n" if text else "").encode("utf-8", "surrogateescape")
    try:
        out, _ = await process.communicate(data)
    except BaseException:
        if process.returncode is None:
            process.kill()
        raise
    if process.returncode:
        raise ShellCommandFailed(command, process.returncode)
    return out.decode("utf-8", "surrogateescape").removesuffix("\n")


def _cannot_run(command: str, error: OSError) -> HostFailure:
    return host_failure(f"Could not run '{command}'", error)
