"""The commands of qemu-io that there are here: what each takes, in qemu-io's words."""

from __future__ import annotations

from monitor.commands.io.words import Usage

_READS = "reads a number of bytes at a specified offset"
_WRITES = "writes a number of bytes at a specified offset"
_VECTOR = "[-P pattern] off len [len..]"

_TABLE = (
    # name, arguments, summary, getopt's letters, fewest and most words
    ("aio_flush", "", "completes all outstanding aio requests", "", 0, 0),
    ("aio_read", f"[-Ciqv] {_VECTOR}", "asynchronously reads a number of bytes", "CP:iqv", 2, None),
    (
        "aio_write",
        f"[-Cfiquz] {_VECTOR}",
        "asynchronously writes a number of bytes",
        "CfiP:quz",
        2,
        None,
    ),
    ("alloc", "offset [count]", "checks if offset is allocated in the file", "", 1, 2),
    (
        "break",
        "event tag",
        "sets a breakpoint on event and tags the stopped request as tag",
        "",
        2,
        2,
    ),
    (
        "discard",
        "[-Cq] off len",
        "discards a number of bytes at a specified offset",
        "Cq",
        2,
        None,
    ),
    ("flush", "", "flush all in-core file state to disk", "", 0, 0),
    ("length", "", "gets the length of the current file", "", 0, 0),
    ("map", "", "prints the allocated areas of a file", "", 0, 0),
    (
        "read",
        "[-abCqv] [-P pattern [-s off] [-l len]] off len",
        _READS,
        "bCl:pP:qs:v",
        2,
        None,
    ),
    ("readv", f"[-Cqv] {_VECTOR}", _READS, "CP:qv", 2, None),
    ("remove_break", "tag", "remove a breakpoint by tag", "", 1, 1),
    ("resume", "tag", "resumes the request tagged as tag", "", 1, 1),
    ("wait_break", "tag", "waits for the suspension of a request", "", 1, 1),
    (
        "write",
        "[-bcCfnquz] [-P pattern | -s source_file] off len",
        _WRITES,
        "bcCfnpP:qs:uz",
        2,
        None,
    ),
    ("writev", f"[-Cfq] {_VECTOR}", _WRITES, "CfqP:", 2, None),
)

USAGES = {row[0]: Usage(*row) for row in _TABLE}

SHORT = {
    "d": "discard",
    "f": "flush",
    "l": "length",
    "r": "read",
    "rv": "readv",
    "w": "write",
    "wv": "writev",
}
"""Short names of some."""
