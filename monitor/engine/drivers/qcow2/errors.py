"""Why a qcow2 image cannot be opened, created or resized. Texts are QEMU's where it has one."""

from __future__ import annotations

from errno import EIO

from monitor.engine.errors import RequestError


class BadImage(RequestError):
    """The file is not an image that this driver can open."""


class NotQcow2(BadImage):
    template = "Image is not in qcow2 format"


class UnsupportedVersion(BadImage):
    template = "Unsupported qcow2 version {version}"
    version: int


class UnsupportedClusterSize(BadImage):
    template = "Unsupported cluster size: 2^{bits}"
    bits: int


class BadHeader(BadImage):
    """A field of the header, or of an extension, that makes no sense."""

    template = "{message}"
    message: str


class UnsupportedFeatures(BadImage):
    template = "Unsupported qcow2 feature(s): {features}"
    features: str


class TableTooLarge(BadImage):
    template = "{table} too large"
    table: str


class TableOffsetInvalid(BadImage):
    template = "{table} offset invalid"
    table: str


class TableOutsideFile(BadImage):
    """A table that begins past the end of the file: the file was truncated, or is crafted."""

    template = "{table} lies beyond the end of the file"
    table: str


class CorruptForWriting(BadImage):
    template = "qcow2: Image is corrupt; cannot be opened read/write"


class TooLargeToRepair(BadImage):
    """The dirty bit is set and the refcounts are more than may be rebuilt while opening."""

    template = (
        "The image was not closed and is too large to repair while it is opened; "
        "run 'qemu-img check -r all' on it, or open it read-only"
    )


class BadBitmaps(BadImage):
    """What the image says of its bitmaps makes no sense."""

    template = "{message}"
    message: str


class CannotKeepBitmaps(RequestError):
    """A limit of the format, or a bitmap that stands in the way."""

    template = "{reason}"
    reason: str


class TablesDamaged(RequestError):
    """More is wrong than counts and flags."""

    template = "Tables of the image are damaged; close it and run 'qemu-img check -r all' on it"


class BadOption(RequestError):
    """An option, or a combination of options, that QEMU refuses as well."""

    template = "{message}"
    message: str


class SizeOutOfRange(RequestError):
    template = "Could not resize image: offset({size}) exceeds maximum({maximum})"
    size: int
    maximum: int


class PreallocationFailed(RequestError):
    template = "Could not resize image: {reason}"
    reason: str


class CannotResize(RequestError):
    template = "{message}"
    message: str


class CorruptionError(OSError):
    """EIO because the image contradicts itself; ``message`` says where."""

    def __init__(self, message: str) -> None:
        super().__init__(EIO, message)
        self.message = message
