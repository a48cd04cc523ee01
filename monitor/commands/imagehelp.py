"""``create -o help``: the options of new images, as ``qemu-img create -o help`` lists them."""

from __future__ import annotations

from monitor.engine.errors import RequestError
from monitor.engine.schema.imageopts import image_options, is_of_the_file

_QCOW2 = {
    "backing_file": ("str", "File name of a base image"),
    "backing_fmt": ("str", "Image format of the base image"),
    "cluster_size": ("size", "qcow2 cluster size"),
    "compat": ("str", "Compatibility level (v2 [0.10] or v3 [1.1])"),
    "compression_type": ("str", "Compression method used for image cluster compression"),
    "lazy_refcounts": ("bool (on/off)", "Postpone refcount updates"),
    "preallocation": (
        "str",
        "Preallocation mode (allowed values: off, metadata, falloc, full)",
    ),
    "refcount_bits": ("num", "Width of a reference count entry in bits"),
}
_FILE = {
    "extent_size_hint": ("size", "Extent size hint for the image file, 0 to disable"),
    "nocow": ("bool (on/off)", "Turn off copy-on-write (valid only on btrfs)"),
    "preallocation": ("str", "Preallocation mode (allowed values: off, falloc, full)"),
    "size": ("size", "Virtual disk size"),
}
TEXTS = {"raw": _FILE, "file": _FILE, "qcow2": _FILE | _QCOW2}
"""By format and name: the value in short, and what the option is."""

_MORE = (
    "\n\nThe protocol level may support further options.\n"
    "Specify the target filename to include those options."
)


class UnknownImageFormat(RequestError):
    template = "Unknown file format '{format}'"
    format: str


def option_list(format: str, *, with_file: bool) -> str:
    """The options of an image of ``format``; those that the file below takes when it is named.
    Raises UnknownImageFormat."""
    texts = TEXTS.get(format)
    if texts is None:
        raise UnknownImageFormat(format)
    lines = [
        f"  {name}=<{texts[name][0]}>".ljust(24) + f" - {texts[name][1]}"
        for name in sorted(image_options(format))
        if with_file or format == "file" or _is_of_the_format(name, format)
    ]
    head = "Supported options:" if with_file else f"Supported {format} options:"
    return "\n".join([head, *lines]) + ("" if with_file else _MORE)


def _is_of_the_format(name: str, format: str) -> bool:
    """Whether an image of ``format`` takes it, whatever is below."""
    return name == "size" if format == "raw" else not is_of_the_file(name)
