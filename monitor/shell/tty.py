"""This process's terminal, for the screen."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from prompt_toolkit.input import Input, create_input
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output

_GONE = frozenset({errno.EIO, errno.EBADF, errno.EPIPE, errno.ENXIO})


class TerminalOutput(Vt100_Output):
    """Standard output. When the terminal has hung up, ``on_gone`` is called; no more is written."""

    on_gone: Callable[[], None] = staticmethod(lambda: None)
    gone = False

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            if error.errno not in _GONE:
                raise
            if not self.gone:
                self.gone = True
                self.on_gone()


def open_terminal() -> tuple[Input, TerminalOutput]:
    """Standard input and output, in as many colours as the terminal and NO_COLOR say.

    The cursor's position is never asked for: nothing that is drawn depends on it.
    """
    # from_env respects NO_COLOR.
    output = TerminalOutput.from_pty(sys.stdout, os.environ.get("TERM"), ColorDepth.from_env())
    assert isinstance(output, TerminalOutput)
    output.enable_cpr = False
    return create_input(sys.stdin), output
