"""A file system of one file, mounted and unmounted through ``fusermount3``.

The helper is there for users who may not mount. It hands over the connection to the kernel on a
socket (``_FUSE_COMMFD``), and with ``auto_unmount`` it stays until the socket is closed, by a kill
too, and unmounts then. So a file never stays behind without its server.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from typing import Final

from monitor.engine.errors import RequestError
from monitor.wire.fuse import MAX_DATA

HELPER: Final = "fusermount3"
DEVICE: Final = "/dev/fuse"


class NoHelper(RequestError):
    template = "Exports of type 'fuse' need the program fusermount3"
    hint = "It is in the package fuse3"


class NoDevice(RequestError):
    template = "Exports of type 'fuse' need /dev/fuse"
    hint = "Where the kernel has it: modprobe fuse"


class MountFailed(RequestError):
    template = "Failed to mount FUSE session to export{reason}"
    reason: str


def check() -> None:
    """Raises RequestError where nothing can be mounted here."""
    if not os.path.exists(DEVICE):
        raise NoDevice()
    if shutil.which(HELPER) is None:
        raise NoHelper()


class Mount:
    """One mounted file; ``descriptor`` is the connection to the kernel, and does not block."""

    def __init__(self, path: str, *, allow_other: bool) -> None:
        """Waits for the helper. Raises RequestError."""
        self.path = path
        self._socket, theirs = socket.socketpair()
        options = f"fsname=blkmon,subtype=blkmon,max_read={MAX_DATA},default_permissions"
        options += ",auto_unmount" + (",allow_other" if allow_other else "")
        with theirs:
            self._helper = subprocess.Popen(
                [HELPER, "-o", options, "--", path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
                start_new_session=True,  # Ctrl-C at the prompt is not meant for it
            )
        _, descriptors, _, _ = socket.recv_fds(self._socket, 1, 1)
        if not descriptors:
            raise MountFailed(self._reason())
        self.descriptor = descriptors[0]
        os.set_inheritable(self.descriptor, False)
        os.set_blocking(self.descriptor, False)

    def _reason(self) -> str:
        self._socket.close()
        _, said = self._helper.communicate()
        lines = said.decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""

    def unmount(self) -> None:
        """Nobody finds the file any more; who has it open is still served. Waits."""
        subprocess.run(
            [HELPER, "-u", "-z", "-q", "--", self.path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )

    def close(self) -> None:
        """Hangs up on the kernel: who still has the file open gets errors. Waits."""
        os.close(self.descriptor)
        self._socket.close()
        self._helper.communicate()
