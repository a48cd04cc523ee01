"""How a session went, told to whoever started the process."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Exit statuses; scripts of other people match them, so a number keeps its meaning."""

    OK = 0
    FAILED = 1  # a command failed
    USAGE = 2  # the command line itself is wrong
    SYNTAX = 3  # a script does not parse; of a file nothing ran
    JOB_FAILED = 4  # a job that was waited for failed
    LOST = 5  # the connection to the engine is lost
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it
    PIPE_CLOSED = 141  # 128 + SIGPIPE: nobody reads the output
