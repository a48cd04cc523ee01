"""What the values of enumerations mean, in a few words: the prompt shows them beside each value.

By the field's name on the wire; a value that reads the same everywhere stands under "".
"""

from __future__ import annotations

MEANINGS: dict[str, dict[str, str]] = {
    "": {
        "on": "yes",
        "off": "no",
        "auto": "whichever fits",
        "none": "none at all",
        "base64": "in letters and digits",
    },
    "driver": {
        "blkdebug": "requests that fail or wait when told to",
        "copy-before-write": "a filter that keeps old data",
        "copy-on-read": "a filter that takes over what is read",
        "file": "a file of the host",
        "host_device": "a block device of the host",
        "nbd": "a disk that another process serves",
        "null-aio": "a disk that forgets what is written",
        "null-co": "a disk that forgets what is written",
        "qcow2": "QEMU's image format",
        "raw": "the bytes as they are",
    },
    "fix": {
        "none": "look, and change nothing",
        "leaks": "free what nothing refers to",
        "all": "mend wrong counts and flags too",
    },
    "discard": {
        "ignore": "drop discards",
        "unmap": "pass discards on",
        "on": "as unmap",
        "off": "as ignore",
    },
    "detect-zeroes": {
        "off": "write them as they come",
        "on": "write zeroes the cheap way",
        "unmap": "and give their storage back",
    },
    "cache": {
        "writeback": "writes are done when the host has them",
        "none": "bypass the host's cache",
        "off": "as none",
        "writethrough": "each write is flushed",
        "directsync": "bypass the cache, and flush each write",
        "unsafe": "ignore flushes: data is lost when the host dies",
    },
    "media": {"disk": "a disk", "cdrom": "a disc, read-only"},
    "if": {"none": "a drive without a device"},
    "on-error": {
        "report": "the job fails",
        "ignore": "go on; the job fails in the end",
        "enospc": "stop when the disk is full, else report",
        "stop": "pause the job",
        "auto": "as report",
    },
    "on-target-error": {
        "report": "the job fails",
        "ignore": "go on, and try again later",
        "enospc": "stop when the disk is full, else report",
        "stop": "pause the job",
        "auto": "as enospc",
    },
    "sync": {
        "top": "what the top image holds",
        "full": "the whole disk",
        "none": "only what is about to change",
        "incremental": "what is dirty in a bitmap, which is clean afterwards",
        "bitmap": "what is dirty in a bitmap",
    },
    "bitmap-mode": {
        "on-success": "holds what was written since; as it was after a failure",
        "never": "as it was, and what was written since",
        "always": "holds what was written since, and what was not copied",
    },
    "on-cbw-error": {
        "break-guest-write": "the guest's write fails",
        "break-snapshot": "the old contents are lost",
    },
    "werror": {
        "report": "tell the guest",
        "ignore": "go on",
        "enospc": "stop when the disk is full, else report",
        "stop": "stop the machine",
    },
    "rerror": {"report": "tell the guest", "ignore": "go on", "stop": "stop the machine"},
    "copy-mode": {
        "background": "writes are copied when there is time",
        "write-blocking": "writes wait for the target",
    },
    "mode": {
        "existing": "use an image that is there",
        "absolute-paths": "create the image",
        "safe": "refused while clients use it",
        "hard": "clients are hung up on",
    },
    "preallocation": {
        "off": "nothing",
        "metadata": "the tables",
        "falloc": "space, without writing",
        "full": "space, written with zeroes",
    },
    "aio": {
        "threads": "a pool of threads",
        "native": "the kernel's asynchronous I/O",
        "io_uring": "the kernel's rings",
    },
    "version": {"v2": "compat 0.10, for old tools", "v3": "compat 1.1"},
    "operation": {
        "read": "bytes, and compare them with a pattern",
        "write": "a pattern",
        "zero": "zeroes",
        "discard": "give storage back",
        "flush": "what was written is on the disk",
        "length": "the disk's size",
        "map": "what is allocated",
        "alloc": "how much of a range is allocated",
        "set": "the next request at the event stands still",
        "remove": "forget it, and let go what stands at it",
        "resume": "let one request go on",
        "wait": "until a request stands there",
    },
    "type": {
        "inet": "a host and a port",
        "unix": "a socket of the file system",
        "vsock": "a virtual machine's socket",
        "fd": "a descriptor that is open already",
        "nbd": "by the NBD server",
        "fuse": "as a file that any program can open",
    },
    "qom-type": {
        "iothread": "a pool of threads with a name",
        "secret": "a password",
        "tls-creds-x509": "certificates and keys for TLS",
    },
    "endpoint": {"client": "connects", "server": "is connected to"},
    "completion-mode": {
        "individual": "each job ends by itself",
        "grouped": "all jobs end well, or none",
    },
    "compression-type": {"zlib": "readable everywhere", "zstd": "faster"},
    "overlap-check": {
        "none": "no checks",
        "constant": "what costs nothing",
        "cached": "what is in memory",
        "all": "everything",
    },
}

SAME_AS = {
    "format": "driver",
    "backing-fmt": "driver",
    "on-source-error": "on-target-error",
    "read-only": "",
    "template": "overlap-check",
}


def meaning(field: str, value: str) -> str:
    """A few words on ``value`` of the field called ``field``; "" when nobody wrote any."""
    name = SAME_AS.get(field, field)
    return MEANINGS.get(name, {}).get(value) or MEANINGS[""].get(value, "")
