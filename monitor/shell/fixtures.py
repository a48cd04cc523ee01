"""Fixtures: what a transcript finds before its first command, from the lines of its head.

    image NAME FORMAT [SIZE] [backing=FILE] [backing-format=FORMAT] [OPTION=VALUE…]
        QEMU-IO COMMAND      (indented: the image's contents)
    file NAME
        TEXT                 (indented: its lines, blank ones and comments too)
    drive OPTIONS            as --drive
    blockdev OPTIONS         as --blockdev

Images are made by an engine of their own, so that the transcript's engine starts untouched.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monitor.engine.api import Engine
from monitor.engine.errors import MonitorError
from monitor.engine.schema.base import UNSET, optional
from monitor.engine.schema.extra import CreateImage
from monitor.shell.dialogue import Dialogue
from monitor.shell.failures import error_text
from monitor.shell.transcript import Transcript, TranscriptError, is_free
from monitor.sizes import EXPECTED, read_size


@dataclass
class ImageFixture:
    """One image: ``arguments`` as typed, and the commands that fill it, with their lines."""

    line: int
    arguments: list[str]
    contents: list[tuple[int, str]] = field(default_factory=list)

    def request(self) -> CreateImage:
        """Raises ValueError with the reason."""
        plain = [word for word in self.arguments if "=" not in word]
        options = dict(word.split("=", 1) for word in self.arguments if "=" in word)
        if not 2 <= len(plain) <= 3:
            raise ValueError("expected: image NAME FORMAT [SIZE] [KEY=VALUE...]")
        backing = options.pop("backing", None)
        backing_format = options.pop("backing-format", None)
        return CreateImage(
            filename=plain[0],
            format=plain[1],
            size=_size(plain[2]) if len(plain) == 3 else UNSET,
            backing_file=optional(backing),
            backing_format=optional(backing_format),
            options=",".join(f"{key}={value}" for key, value in options.items()) or UNSET,
        )


def _size(text: str) -> int:
    size = read_size(text)
    if size is None:
        raise ValueError(f"'{text}' is not {EXPECTED}")
    return size


@dataclass
class TextFixture:
    """A file of text; ``lines`` are indented by four blanks, or a tab, in the transcript."""

    line: int
    name: str
    lines: list[str] = field(default_factory=list)

    def write(self) -> None:
        text = "".join(f"{line}\n" for line in self.lines)
        Path(self.name).write_text(text, encoding="utf-8", errors="surrogateescape")


@dataclass
class Fixtures:
    """A head, understood. ``disks`` are (line, one of ``OPTIONS``, its value)."""

    files: list[TextFixture] = field(default_factory=list)
    images: list[ImageFixture] = field(default_factory=list)
    disks: list[tuple[int, str, str]] = field(default_factory=list)


def parse_fixtures(transcript: Transcript) -> Fixtures:
    """Reads a head. Raises TranscriptError."""
    fixtures, last = Fixtures(), None
    for number, line in enumerate(transcript.head, 1):
        inner = _INDENT.match(line)
        if inner and isinstance(last, TextFixture):
            last.lines.append(line[inner.end() :].rstrip())
        elif is_free(line):
            continue
        elif inner and isinstance(last, ImageFixture):
            last.contents.append((number, line.strip()))
        else:
            last = _add_fixture(fixtures, transcript.path, number, line)
    return fixtures


OPTIONS = ("drive", "blockdev", "object", "nbd-server", "export")
"""Those of the command line that a head may hold."""

_INDENT = re.compile(r" {4}|\t")


def _add_fixture(
    fixtures: Fixtures, path: str, number: int, line: str
) -> ImageFixture | TextFixture | None:
    word, _, rest = line.strip().partition(" ")
    if word in ("image", "file") and not _stays_inside((shlex.split(rest) or [""])[0]):
        raise TranscriptError(path, number, "a fixture stays in the folder of the replay")
    if word == "image":
        fixtures.images.append(ImageFixture(number, shlex.split(rest)))
        return fixtures.images[-1]
    if word == "file" and rest:
        fixtures.files.append(TextFixture(number, rest.strip()))
        return fixtures.files[-1]
    if word in OPTIONS:
        fixtures.disks.append((number, word, rest.strip()))
        return None
    reason = f"'{word}' is no fixture: expected image, file, {', '.join(OPTIONS)}, or a prompt"
    raise TranscriptError(path, number, reason)


def _stays_inside(name: str) -> bool:
    """Whether a file's name leads nowhere else: a replay must not write over anybody's images."""
    return not os.path.isabs(name) and ".." not in name.split("/")


def write_files(path: str, files: Sequence[TextFixture]) -> None:
    """Writes files of text into the current folder. Raises TranscriptError."""
    for file in files:
        try:
            file.write()
        except OSError as error:
            reason = f"'{file.name}' cannot be written: {error.strerror}"
            raise TranscriptError(path, file.line, reason) from error


async def make_images(path: str, images: Sequence[ImageFixture], engine: Engine) -> None:
    """Creates and fills images in the current folder. Raises TranscriptError."""
    for image in images:
        try:
            request = image.request()
            await engine.execute(request)
        except (MonitorError, ValueError) as error:
            raise TranscriptError(path, image.line, str(error)) from error
        await _fill(path, image, request, engine)


async def _fill(path: str, image: ImageFixture, request: CreateImage, engine: Engine) -> None:
    if not image.contents:
        return
    writer = _Writer(engine)
    file = request.filename.replace(",", ",,")
    opening = f'drive_add 0 "if=none,id=fixture,file={file},format={request.format}"'
    if not await writer.enter(opening):
        raise TranscriptError(path, image.line, writer.said())
    for line, command in image.contents:
        escaped = command.replace("\\", "\\\\").replace('"', '\\"')
        if not await writer.enter(f'qemu-io fixture "{escaped}"'):
            raise TranscriptError(path, line, writer.said())
    if not await writer.enter("drive_del fixture"):
        raise TranscriptError(path, image.line, writer.said())


class _Writer(Dialogue):
    """Runs the commands that fill images; speaks only when one fails."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._failure = ""

    def show(self, text: str) -> None:
        """Nobody reads it."""

    def print_error(self, error: MonitorError) -> None:
        self._failure = error_text(error)

    def said(self) -> str:
        return self._failure
