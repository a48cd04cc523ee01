"""query-qmp-schema: what we share with qemu-storage-daemon has its types, names resolved."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from tests.support import tools
from tests.support.qmp_schema import Schema, differences, names
from tests.support.side_by_side import OURS, QSD, converse

EXPECTED = {
    "blockdev-add driver: no value '*'": "drivers that are not there yet",
    "blockdev-add (qcow2): no member 'encrypt'": "there is no encryption",
    "blockdev-create options driver: no value '*'": "drivers that are not there yet",
    "blockdev-create options (qcow2): no member 'encrypt'": "there is no encryption",
    "blockdev-add (qcow2): no member 'data-file'": "external data files are refused",
    "block-export-add type: no value '*'": "NBD and FUSE are served",
    "object-add qom-type: no value '*'": "secrets, x509 credentials and iothreads only",
    "query-blockstats ->[] driver-specific driver: no value 'nvme'": "no such driver",
    "query-block ->[] inserted image format-specific type: no value 'vmdk'": "no such driver",
    "query-block ->[] inserted image format-specific type: no value 'luks'": "no such driver",
    "query-block ->[] inserted image format-specific type: no value 'rbd'": "no such driver",
    "query-block ->[] inserted image format-specific (qcow2) data: no member 'encrypt'": (
        "there is no encryption"
    ),
}
"""Differences that are meant, each with its reason."""


QUESTIONS = {
    "query-status", "query-name", "query-kvm", "query-cpus-fast", "query-tpm", "query-iothreads",
    "block_set_io_throttle",
}  # fmt: skip
"""Of the system emulator only."""

EMULATOR = (
    "qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio",
)  # fmt: skip


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> tuple[Schema, Schema]:
    tools.need("qemu-storage-daemon")
    folder = tmp_path_factory.mktemp("schema")
    return _schema(OURS, folder), _schema(QSD, folder)


def _schema(command: tuple[str, ...], folder: Path) -> Schema:
    requests: list[dict[str, Any]] = [{"execute": "query-qmp-schema"}]
    schema: Schema = converse(command, folder, requests).replies[0]["return"]
    return schema


def test_shared_commands_and_events_have_the_same_types(schemas: tuple[Schema, Schema]) -> None:
    found = list(differences(*schemas))
    unexplained = [line for line in found if not any(fnmatchcase(line, e) for e in EXPECTED)]
    assert not unexplained
    stale = [pattern for pattern in EXPECTED if not any(fnmatchcase(f, pattern) for f in found)]
    assert not stale


def test_the_commands_are_among_the_daemons(schemas: tuple[Schema, Schema], tmp_path: Path) -> None:
    """query-commands lists what query-qmp-schema describes, a name each, on both sides."""
    for command, schema in zip((OURS, QSD), schemas, strict=True):
        (reply,) = converse(command, tmp_path, [{"execute": "query-commands"}]).replies[:1]
        listed = [entry["name"] for entry in reply["return"]]
        assert all(set(entry) == {"name"} for entry in reply["return"])
        assert len(listed) == len(set(listed))
        assert set(listed) == names(schema, "command")


def test_what_is_there_beside_qemus_is_named_as_ours(schemas: tuple[Schema, Schema]) -> None:
    ours, theirs = schemas
    more = names(ours, "command") - names(theirs, "command")
    assert {name for name in more if not name.startswith("x-blkmon-")} == {
        "human-monitor-command",
        "snapshot-save",  # these three are the system emulator's: test_internal_snapshots.py
        "snapshot-load",
        "snapshot-delete",
        *QUESTIONS,
        "block_passwd",  # QEMU 7.2 has forgotten it; the reference refuses it
    }
    assert names(ours, "event") <= names(theirs, "event")


def test_questions_about_a_machine_have_the_emulators_types(
    schemas: tuple[Schema, Schema], tmp_path: Path
) -> None:
    """What qemu-storage-daemon does not know, clients of the system emulator ask."""
    tools.need("qemu-system-x86_64")
    ours, theirs = schemas[0], _schema(EMULATOR, tmp_path)
    assert names(theirs, "command") >= QUESTIONS
    found = [d for d in differences(ours, theirs) if d.split()[0].rstrip(":") in QUESTIONS]
    assert not found


def test_the_walk_finds_what_differs(schemas: tuple[Schema, Schema]) -> None:
    """Each kind of change to a schema shows as a difference."""
    _, theirs = schemas
    assert list(differences(theirs, theirs)) == []
    for path, change in CHANGES.items():
        changed = [dict(entry) for entry in theirs]
        by_name = {entry["name"]: entry for entry in changed}
        resize = by_name[by_name["block_resize"]["arg-type"]]
        change(by_name, resize)
        assert list(differences(changed, theirs)) == [path]


def _drop(by_name: dict[str, Any], resize: dict[str, Any]) -> None:
    resize["members"] = resize["members"][1:]


def _demand(by_name: dict[str, Any], resize: dict[str, Any]) -> None:
    first = {key: value for key, value in resize["members"][0].items() if key != "default"}
    resize["members"] = [first, *resize["members"][1:]]


def _retype(by_name: dict[str, Any], resize: dict[str, Any]) -> None:
    resize["members"] = [*resize["members"][:2], {"name": "size", "type": "str"}]


def _mark(by_name: dict[str, Any], resize: dict[str, Any]) -> None:
    by_name["block_resize"]["features"] = ["unstable"]


CHANGES = {
    "block_resize: no member 'device'": _drop,
    "block_resize device: default": _demand,
    "block_resize size: str instead of int": _retype,
    "block_resize: features": _mark,
}
