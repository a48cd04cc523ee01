"""``json:{…}`` where a request gives an image's name."""

from __future__ import annotations

import json
from typing import Any

from tests.support.qmp_cases.words import Requests, add, do, wait

TOP = [add("n0", "top.qcow2")]


def named(**options: Any) -> str:
    """The name that stands for options; an underscore is a dot."""
    return "json:" + json.dumps({key.replace("_", "."): value for key, value in options.items()})


def mirror(target: str, **arguments: Any) -> dict[str, Any]:
    asked = {"job_id": "m", "device": "n0", "sync": "full", "mode": "existing", **arguments}
    return do("drive-mirror", target=target, **asked)


def backup(target: str, **arguments: Any) -> dict[str, Any]:
    asked = {"job_id": "m", "device": "n0", "sync": "full", "mode": "existing", **arguments}
    return do("drive-backup", target=target, **asked)


CANCELLED = [wait("m", "ready"), do("block-job-cancel", device="m"), wait("m", "null")]
EMPTY = named(driver="qcow2", file={"driver": "file", "filename": "empty.qcow2"})

CASES: dict[str, Requests] = {
    "json names: mirrored to": [
        *TOP,
        mirror(EMPTY, node_name="new"),
        *CANCELLED,
        mirror(named(file_filename="empty.qcow2")),  # probed
        *CANCELLED,
        mirror(named(driver="raw", file_filename="empty.qcow2"), format="qcow2"),  # which wins
        *CANCELLED,
        mirror(named(driver="null-co", size=8 << 20, node_name="in-name")),
        *CANCELLED,
        mirror(named(driver="null-co", size=8 << 20, **{"node-name": "n1"}), node_name="new"),
        *CANCELLED,
        mirror(named(driver="qcow2", file_filename="empty.qcow2", backing=None)),
        *CANCELLED,
        mirror(
            named(
                driver="raw",
                size=8 << 20,
                cache={"direct": False},
                file={"driver": "file", "filename": "empty.qcow2", "locking": "off"},
            )
        ),
        *CANCELLED,
    ],
    "json names: backed up to": [
        *TOP,
        backup(EMPTY),
        wait("m", "null"),
        backup(EMPTY, sync="none"),
        do("block-job-cancel", device="m"),
        wait("m", "null"),
    ],
    "json names: a snapshot that is there": [
        *TOP,
        do("blockdev-add", driver="raw", node_name="user", file="n0"),
        do("blockdev-snapshot-sync", node_name="n0", snapshot_node_name="s", mode="existing",
           snapshot_file=EMPTY),
    ],
    "json names: refused": [
        *TOP,
        mirror(EMPTY, mode="absolute-paths"),
        backup(EMPTY, mode="absolute-paths"),
        do("blockdev-snapshot-sync", node_name="n0", snapshot_node_name="s", snapshot_file=EMPTY),
        *[
            mirror(target)
            for target in (
                "json:",
                "json: ",
                "json:[1]",
                "json:3",
                "json:{",
                'json:{"driver',
                'json:{"driver": "raw", "driver": "raw"}',
                'json:{"driver": "raw"} x',
                'json:{"driver": "raw"} {}',
                "json:x",
                "json:{}",
                named(driver="raw"),
                named(driver="raw", file=None),
                named(driver="raw", file=[]),
                named(driver="raw", file="nowhere"),
                named(driver="no"),
                named(filename="a.img"),
                named(driver="file"),
                named(driver="file", filename=""),
                named(driver="raw", file={"driver": "file"}),
                named(driver="raw", file_filename="nowhere.img"),
                named(driver="raw", file_filename="json:{}"),
                named(driver="raw", file_filename="a.img", no=1),
                named(driver="raw", file_filename="a.img", size="no"),
                named(driver="raw", file_filename="a.img", size=1.5),
                named(driver="raw", file_filename="a.img", cache={"direct": 3}),
                named(driver="nbd", server={"type": "unix", "path": "nobody"}),
            )
        ],
        mirror("json:{}", format="raw"),
        mirror("json:{}", format="file"),
    ],
}  # fmt: skip
