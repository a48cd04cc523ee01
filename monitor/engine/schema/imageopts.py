"""The options of new images as ``qemu-img create -o`` spells them.

They are the members of QMP's BlockdevCreateOptions under other names: underscores for hyphens, and
``compat`` for ``version``.
"""

from __future__ import annotations

import functools
from typing import Literal

from msgspec.structs import replace

from monitor.engine.schema.base import Field, fields_of
from monitor.engine.schema.blockdev import BlockdevCreateOptionsFile, BlockdevCreateOptionsQcow2

VERSIONS = {"0.10": "v2", "v2": "v2", "1.1": "v3", "v3": "v3"}
"""``compat`` -> QMP's ``version``."""

_OF_THE_FILE = ("size", "preallocation", "nocow", "extent_size_hint")
"""What a raw image can be given; the file below an image of another format takes the last two."""

LATER = ("data_file", "data_file_raw", "extended_l2")
"""Refused by name until they are there."""

USUAL = {
    "cluster_size": ("64k", "128k", "256k", "512k", "1M", "2M"),
    "extent_size_hint": ("0", "1M"),
    "size": ("1G", "10G", "100G"),
    "refcount_bits": ("1", "2", "4", "8", "16", "32", "64"),
}
"""Values worth offering where any number may be typed."""


SIZES = ("size", "cluster_size", "extent_size_hint")
SWITCHES = ("lazy_refcounts", "nocow")
"""Options that QEMU checks, and names, as they are spelled here."""


def asks_for_help(options: str | None) -> bool:
    """Whether an option string asks what could stand in it, as QEMU's tools have it. A comma in a
    value is written twice, and ends no option."""
    return not {"help", "?"}.isdisjoint((options or "").replace(",,", "").split(","))


def member_name(option: str) -> str:
    """QMP's name of an option."""
    return "version" if option == "compat" else option.replace("_", "-")


def is_of_the_file(option: str) -> bool:
    """Whether the file below takes it, whatever the image's format."""
    return option in _OF_THE_FILE[2:]


@functools.cache
def image_options(format: str) -> dict[str, Field]:
    """The options that an image of this format can be given, by their names after ``-o``."""
    of_the_file = {
        member.attribute: replace(member, name=member.attribute)
        for member in fields_of(BlockdevCreateOptionsFile)
        if member.attribute in _OF_THE_FILE
    }
    if format != "qcow2":
        return of_the_file
    found: dict[str, Field] = {}
    for member in fields_of(BlockdevCreateOptionsQcow2):
        if member.name == "version":
            member = replace(member, name="compat", type=Literal["0.10", "1.1"])
        elif member.attribute in ("file", *LATER):
            continue
        found[member.name.replace("-", "_")] = member
    return of_the_file | found
