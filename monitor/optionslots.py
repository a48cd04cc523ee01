"""Slots inside an option string, as ``-drive`` takes it: ``if=none,file=a.img,format=``."""

from __future__ import annotations

from monitor import fields
from monitor.cursor import Cursor
from monitor.engine.schema.blockdev import AnyBlockdevOptions
from monitor.fields import Tree
from monitor.slots import Place, Slot, Word, keys_slots, value_slots
from monitor.syntax import Kind, Token

_SWITCH = ("on", "off")
_ERRORS = ("ignore", "report", "stop", "enospc")
_DRIVE: dict[str, tuple[str, tuple[str, ...]]] = {
    "if": ("the bus; none for a drive without a device", ("none",)),
    "id": ("the drive's name", ()),
    "file": ("the image's file", ()),
    "format": ("the image's format (guessed if not given)", ()),
    "cache": ("cache mode", ("writeback", "none", "writethrough", "directsync", "unsafe")),
    "aio": ("how requests reach the host", ("threads", "native", "io_uring")),
    "media": ("what the guest sees", ("disk", "cdrom")),
    "snapshot": ("write to a temporary overlay", _SWITCH),
    "readonly": ("open without writing", _SWITCH),
    "copy-on-read": ("keep what is read from the backing file", _SWITCH),
    "werror": ("what a failing write does", _ERRORS),
    "rerror": ("what a failing read does", _ERRORS),
}


_CREATE: dict[str, tuple[str, tuple[str, ...]]] = {
    "cluster_size": ("bytes in a cluster", ("64k", "128k", "256k", "512k", "1M", "2M")),
    "compat": ("the version of the format", ("0.10", "1.1")),
    "compression_type": ("how clusters are compressed", ("zlib", "zstd")),
    "data_file": ("a file for the guest's data", ()),
    "data_file_raw": ("the data file is a raw image by itself", _SWITCH),
    "extended_l2": ("subclusters", _SWITCH),
    "lazy_refcounts": ("put off updates of reference counts", _SWITCH),
    "preallocation": ("what is allocated at once", ("off", "metadata", "falloc", "full")),
    "refcount_bits": ("width of a reference count", ("1", "2", "4", "8", "16", "32", "64")),
}


def in_option_string(cursor: Cursor, *, creating: bool = False) -> Place:
    """The place at the end of an unfinished option string: a drive's, or a new image's."""
    items = split_items(cursor.text)
    if creating:
        return _in_create_options(cursor, items)
    item = items[-1]
    tree = _tree(items[:-1])
    start = cursor.start + len(cursor.text) - len(item)
    key, equals, value = item.partition("=")
    if not equals:
        slots = _keys(tree, item)
        return Place(item, start, slots, commas=True, quoted=cursor.quoted)
    slots = _values(tree, key)
    start += len(key) + 1
    return Place(value.replace(",,", ","), start, slots, commas=True, quoted=cursor.quoted)


def _in_create_options(cursor: Cursor, items: list[str]) -> Place:
    item = items[-1]
    start = cursor.start + len(cursor.text) - len(item)
    key, equals, value = item.partition("=")
    if equals:
        slots = _choices(*_CREATE.get(key, ("", ())))
        start += len(key) + 1
        return Place(value.replace(",,", ","), start, slots, commas=True, quoted=cursor.quoted)
    given = {other.partition("=")[0] for other in items[:-1]}
    words = tuple(Word(f"{k}=", meta) for k, (meta, _) in _CREATE.items() if k not in given)
    slots = (Slot("key", "an option of the new image", words),)
    return Place(item, start, slots, commas=True, quoted=cursor.quoted)


def _choices(meta: str, choices: tuple[str, ...]) -> tuple[Slot, ...]:
    if not choices:
        return (Slot("free", meta),)
    return (Slot("value", meta, tuple(Word(choice) for choice in choices)),)


def split_items(text: str) -> list[str]:
    """The items of an option string as typed; a doubled comma does not end one."""
    items, at = [""], 0
    while at < len(text):
        if text.startswith(",,", at):
            items[-1] += ",,"
            at += 2
        elif text[at] == ",":
            items.append("")
            at += 1
        else:
            items[-1] += text[at]
            at += 1
    return items


def _tree(items: list[str]) -> Tree:
    """What the whole items set; ``format`` chooses as ``driver`` does."""
    tree = Tree()
    for item in items:
        key, _, value = item.partition("=")
        here = tree
        for part in ("driver" if key == "format" else key).split("."):
            here = here.branches.setdefault(part, Tree())
        here.token = Token(Kind.WORD, value.replace(",,", ","), 0, 0)
    return tree


def _keys(tree: Tree, typed: str) -> tuple[Slot, ...]:
    words = {
        f"{key}=": meta
        for key, (meta, _) in _DRIVE.items()
        if (key if key != "format" else "driver") not in tree.branches
    }
    named = tree.branches.get("file")
    for slot in keys_slots(AnyBlockdevOptions, tree, typed):
        for word in slot.words:
            if word.text != "file=" and not (word.text == "file." and named and named.token):
                words.setdefault(word.text, word.meta.removesuffix(" (needed)"))
    return (Slot("key", "an option", tuple(Word(text, meta) for text, meta in words.items())),)


def _values(tree: Tree, key: str) -> tuple[Slot, ...]:
    if key == "file":
        return (Slot("file", "the image's file"),)
    if key == "format":
        tags = fields.branches_of(fields.structs_of(AnyBlockdevOptions))
        return (Slot("value", "the image's format", tuple(Word(tag) for tag in tags)),)
    if key in _DRIVE:
        return _choices(*_DRIVE[key])
    return value_slots(AnyBlockdevOptions, tree, key.split("."))
