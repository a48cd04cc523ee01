"""The options of new images as ``qemu-img create -o`` spells them.

They are the members of QMP's BlockdevCreateOptions under other names: underscores for hyphens, and
``compat`` for ``version``. What ``create`` takes otherwise (``-b``, ``-F``, the size) is none.
"""

from __future__ import annotations

import functools
from typing import Literal

from msgspec.structs import replace

from monitor.engine.schema.base import Field, fields_of
from monitor.engine.schema.blockdev import BlockdevCreateOptionsFile, BlockdevCreateOptionsQcow2

VERSIONS = {"0.10": "v2", "v2": "v2", "1.1": "v3", "v3": "v3"}
"""``compat`` -> QMP's ``version``."""

ELSEWHERE = ("file", "size", "backing_file", "backing_fmt")
"""Members that are set by other arguments of ``create``."""

LATER = ("data_file", "data_file_raw", "extended_l2")
"""Refused by name until they are there."""

USUAL = {
    "cluster_size": ("64k", "128k", "256k", "512k", "1M", "2M"),
    "refcount_bits": ("1", "2", "4", "8", "16", "32", "64"),
}
"""Values worth offering where any number may be typed."""

_OF_RAW = ("preallocation",)
"""A raw image's options are those of its file, as far as ``create`` knows them."""


def member_name(option: str) -> str:
    """QMP's name of an option."""
    return "version" if option == "compat" else option.replace("_", "-")


@functools.cache
def image_options(format: str) -> dict[str, Field]:
    """The options that an image of this format can be given, by their names after ``-o``."""
    if format != "qcow2":
        return {m.name: m for m in fields_of(BlockdevCreateOptionsFile) if m.name in _OF_RAW}
    found: dict[str, Field] = {}
    for member in fields_of(BlockdevCreateOptionsQcow2):
        if member.name == "version":
            member = replace(member, name="compat", type=Literal["0.10", "1.1"])
        elif member.attribute in (*ELSEWHERE, *LATER):
            continue
        found[member.name.replace("-", "_")] = member
    return found
