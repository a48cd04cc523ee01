"""Room in the file for clusters that are about to be allocated.

    file   | in use ... |   taken up ahead    |
                        file_end              length

What lies behind ``file_end`` holds zeroes and belongs to nobody, whether the file reaches so far or
not. So it can be given back at any time, and is left in an image whose process was killed.
"""

from __future__ import annotations

from contextlib import suppress

from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.errors import RequestError


def expect(image: Image, length: int) -> None:
    """See ``Driver.expect``."""
    if not length:
        give_back(image)
    elif image.file.alignment > 1:  # else there is nothing to gain
        image.reserved = True
        image.file.reserve(image.refcounts.file_end + length)


def give_back(image: Image) -> None:
    """The file ends where it did, or with the last cluster that is in use."""
    if image.reserved:
        # Nobody allocates meanwhile. Where it fails the file is only longer than it need be.
        with image.lock, suppress(OSError, RequestError):
            # The file may have ended too early, and have been written to in place since.
            used = image.refcounts.last_used() + 1 << image.bits
            end = max(used, image.refcounts.file_end)
            if end < image.file.length():
                image.file.truncate(end)
            image.reserved = False
