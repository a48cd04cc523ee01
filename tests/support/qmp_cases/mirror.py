"""Commits and mirrors: what they leave behind, filters while they run, and what is refused."""

from __future__ import annotations

from typing import Any

from tests.support.qmp_cases import Never
from tests.support.qmp_cases.words import Requests, add, do, file, wait

TOP: Requests = [add("n0", "top.qcow2")]
NAMED: Requests = [
    add("low", "base.qcow2"),
    add("middle", "mid.qcow2", backing="low"),
    add("n0", "top.qcow2", backing="middle"),
]
TARGET = add("t0", "empty.qcow2")


def commit(**arguments: Any) -> dict[str, Any]:
    return do("block-commit", job_id="c", device="n0", **arguments)


def mirror(**arguments: Any) -> dict[str, Any]:
    return do(
        "blockdev-mirror",
        **{"job_id": "m", "device": "n0", "target": "t0", "sync": "full", **arguments},
    )


def copy(**arguments: Any) -> dict[str, Any]:
    return do(
        "drive-mirror",
        **{"job_id": "m", "device": "n0", "target": "copy.img", "sync": "full", **arguments},
    )


def overwritten(name: str) -> dict[str, Any]:
    """Puts a filter of the user's on a node."""
    return do("blockdev-add", driver="blkdebug", node_name=f"on-{name}", image=name)


COMPLETED: Requests = [do("job-complete", id="m"), wait("m", "null")]

CASES: dict[str, Requests] = {
    "commit: an image of the middle": [*TOP, commit(top="mid.qcow2"), wait("c", "null")],
    "commit: by nodes": [
        *NAMED,
        commit(top_node="middle", base_node="low", backing_file="elsewhere.qcow2"),
        wait("c", "null"),
    ],
    "commit: kept": [
        *NAMED,
        commit(top_node="middle", auto_finalize=False, auto_dismiss=False, filter_node_name="f"),
        wait("c", "pending"),
        do("job-finalize", id="c"),
        wait("c", "concluded"),
        do("job-dismiss", id="c"),
    ],
    "commit: cancelled": [
        *NAMED,
        commit(top_node="middle", speed=65536, filter_node_name="f"),
        do("block-job-cancel", device="c"),
        wait("c", "null"),
    ],
    "commit: the active image": [
        *TOP,
        commit(),
        wait("c", "ready"),
        do("job-complete", id="c"),
        wait("c", "null"),
    ],
    "commit: completed by its old verb": [
        *TOP,
        commit(),
        do("block-job-complete", device="c"),
        wait("c", "ready"),
        do("block-job-complete", device="c"),
        wait("c", "null"),
        do("block-job-complete", device="c"),
    ],
    "commit: the active image, down to a base, cancelled": [
        *TOP,
        commit(base="mid.qcow2", filter_node_name="f"),
        wait("c", "ready"),
        do("block-job-cancel", device="c"),
        wait("c", "null"),
    ],
    "commit: the active image, by force": [
        *TOP,
        commit(),
        wait("c", "ready"),
        do("job-cancel", id="c"),
        wait("c", "null"),
    ],
    **{
        f"commit: the active image, with filters, {what}": [
            add("low", "base.qcow2"),
            overwritten("low"),
            add("n0", "mid.qcow2", backing="on-low"),
            overwritten("n0"),
            do("block-commit", job_id="c", device="n0"),
            do("block-commit", job_id="c", device="on-n0", **options),
            wait("c", "ready"),
            do("job-complete", id="c"),
            wait("c", "null"),
        ]
        for what, options in (
            ("down to the image", {"base_node": "low"}),
            ("down to its filter", {"base_node": "on-low"}),
            ("from the image", {"top_node": "n0"}),
        )
    },
    "commit: the active image that is only read": [
        add("low", "base.qcow2", read_only=True),
        add("middle", "mid.qcow2", backing="low", read_only=True),
        add("n0", "top.qcow2", backing="middle", read_only=True),
        commit(on_error="stop"),
        wait("c", "ready"),
        do("job-complete", id="c"),
        wait("c", "null"),
    ],
    "commit: the active image with bitmaps": [
        *NAMED,
        do("block-dirty-bitmap-add", node="n0", name="a"),
        do("block-dirty-bitmap-add", node="middle", name="b"),
        commit(base_node="middle"),
        wait("c", "ready"),
        do("job-complete", id="c"),
        wait("c", "null"),
    ],
    "commit refusals": [
        *NAMED,
        TARGET,
        do("block-commit", job_id="c", device="no"),
        do("block-commit", job_id="c", device="low"),
        commit(top="mid.qcow2", top_node="middle"),
        commit(top_node="no"),
        commit(top_node="t0"),
        commit(top="no.qcow2"),
        commit(base="base.qcow2", base_node="low"),
        commit(base_node="no"),
        commit(base_node="t0"),
        commit(base="no.qcow2"),
        commit(top="base.qcow2", base="mid.qcow2"),
        commit(top_node="low", base_node="low"),
        commit(base_node="n0"),
        commit(backing_file="x"),
        commit(top_node="middle", filter_node_name="low"),
        commit(filter_node_name="9"),
        do("block-commit", device="n0"),
        do("block-commit", job_id="0", device="n0"),
        commit(speed=-1),
        commit(top_node="middle", speed=-1),
        commit(on_error="no"),
        do("block-commit", job_id="c", device="t0"),
    ],
    "commit: while a job runs": [
        *NAMED,
        commit(top_node="middle", speed=65536),
        do("block-commit", job_id="d", device="n0"),
        do("block-stream", job_id="d", device="n0"),
        do("blockdev-del", node_name="middle"),
        do("job-cancel", id="c"),
        wait("c", "null"),
    ],
    "mirror: full": [*TOP, TARGET, mirror(), wait("m", "ready"), *COMPLETED],
    "mirror: top": [
        *NAMED,
        do("blockdev-add", driver="qcow2", node_name="t0", file=file("empty.qcow2"), backing=None),
        mirror(sync="top", filter_node_name="f"),
        wait("m", "ready"),
        *COMPLETED,
    ],
    "mirror: none": [*TOP, TARGET, mirror(sync="none"), wait("m", "ready"), *COMPLETED],
    "mirror: cancelled when ready": [
        *TOP,
        TARGET,
        mirror(granularity=4096, buf_size=1 << 20),
        wait("m", "ready"),
        do("block-job-cancel", device="m"),
        wait("m", "null"),
    ],
    "mirror: by force": [
        *TOP,
        TARGET,
        mirror(),
        wait("m", "ready"),
        do("block-job-cancel", device="m", force=True),
        wait("m", "null"),
    ],
    "mirror: kept": [
        *TOP,
        TARGET,
        mirror(auto_finalize=False, auto_dismiss=False),
        wait("m", "ready"),
        do("job-complete", id="m"),
        wait("m", "pending"),
        do("job-finalize", id="m"),
        wait("m", "concluded"),
        do("job-dismiss", id="m"),
    ],
    "mirror: replaces what is below a filter": [
        *TOP,
        overwritten("n0"),
        TARGET,
        do("blockdev-mirror", job_id="m", device="on-n0", target="t0", sync="full", replaces="n0"),
        wait("m", "ready"),
        *COMPLETED,
    ],
    "mirror: around filters": [
        *TOP,
        TARGET,
        overwritten("n0"),
        overwritten("t0"),
        mirror(target="on-n0"),
        mirror(replaces="on-n0"),
        mirror(replaces="on-t0"),
        do("blockdev-mirror", job_id="m", device="on-n0", target="t0", sync="full", replaces="t0"),
        mirror(device="on-n0", target="on-t0", filter_node_name="f", replaces="on-n0"),
        wait("m", "ready"),
        *COMPLETED,
    ],
    "mirror: onto a filter in the chain": [*NAMED, overwritten("low"), mirror(target="on-low")],
    "mirror: replaces itself": [
        *NAMED,
        TARGET,
        mirror(replaces="low"),
        mirror(replaces="middle"),
        mirror(replaces="n0", filter_node_name="f"),
        wait("m", "ready"),
        *COMPLETED,
    ],
    "mirror: names and policies": [
        *TOP,
        TARGET,
        mirror(filter_node_name="t0"),
        mirror(filter_node_name="1x"),
        mirror(filter_node_name=""),
        mirror(job_id="1x"),
        mirror(job_id=""),
        mirror(on_source_error="enospc", on_target_error="stop", auto_finalize=True, buf_size=0),
        wait("m", "ready"),
        *COMPLETED,
    ],
    "mirror: too early": [
        *TOP,
        TARGET,
        mirror(speed=65536),
        do("job-complete", id="m"),
        do("block-job-complete", device="m"),
        do("job-finalize", id="m"),
        do("job-dismiss", id="m"),
        do("block-job-cancel", device="m"),
        wait("m", "null"),
    ],
    "mirror: cancelled, and then": [
        *TOP,
        TARGET,
        mirror(auto_dismiss=False),
        wait("m", "ready"),
        do("block-job-cancel", device="m"),
        wait("m", "concluded"),
        do("block-job-cancel", device="m"),
        do("job-cancel", id="m"),
        do("job-complete", id="m"),
        do("job-dismiss", id="m"),
    ],
    "mirror: completed, and then": [
        *TOP,
        TARGET,
        mirror(auto_dismiss=False),
        wait("m", "ready"),
        do("block-job-set-speed", device="m", speed=-1),
        do("block-job-set-speed", device="m", speed=1000),
        do("job-complete", id="m"),
        wait("m", "concluded"),
        do("job-complete", id="m"),
        do("job-pause", id="m"),
        do("job-dismiss", id="m"),
    ],
    "mirror: completed while it is paused": [
        *TOP,
        TARGET,
        mirror(),
        wait("m", "ready"),
        do("job-pause", id="m"),
        wait("m", "standby"),
        do("job-pause", id="m"),
        do("job-complete", id="m"),
        do("job-complete", id="m"),
        do("job-resume", id="m"),
        wait("m", "null"),
    ],
    **{
        f"mirror: waits to be finalized, and is {how}": [
            *TOP,
            TARGET,
            mirror(auto_finalize=False),
            wait("m", "ready"),
            begins,
            wait("m", "pending"),
            do("job-complete", id="m"),
            ends,
            wait("m", "null"),
        ]
        for how, begins, ends in (
            ("cancelled", do("job-complete", id="m"), do("job-cancel", id="m")),
            ("cancelled softly", do("job-complete", id="m"), do("block-job-cancel", device="m")),
            ("cancelled again", do("block-job-cancel", device="m"), do("job-cancel", id="m")),
            ("finalized", do("block-job-cancel", device="m"), do("job-finalize", id="m")),
        )
    },
    "mirror: of a disk that is only read": [
        add("n0", "top.qcow2", read_only=True),
        TARGET,
        mirror(),
        wait("m", "ready"),
        *COMPLETED,
    ],
    "mirror: into what is only read": [
        *TOP,
        add("t0", "empty.qcow2", read_only=True),
        mirror(),
        add("t1", "empty.qcow2", read_only=True, auto_read_only=True),
        mirror(target="t1"),
    ],
    "mirror: sizes stay": [
        *TOP,
        TARGET,
        mirror(filter_node_name="f"),
        wait("m", "ready"),
        *(do("block_resize", node_name=name, size=64 << 20) for name in ("n0", "t0", "f")),
        *COMPLETED,
        do("block_resize", node_name="t0", size=64 << 20),
    ],
    "mirror: bitmaps stay with the source": [
        *TOP,
        TARGET,
        do("block-dirty-bitmap-add", node="n0", name="a"),
        do("block-dirty-bitmap-add", node="n0", name="p", persistent=True),
        mirror(filter_node_name="f"),
        wait("m", "ready"),
        *COMPLETED,
    ],
    **{
        f"mirror: {what}": [*TOP, TARGET, mirror(**options), wait("m", "ready"), *COMPLETED]
        for what, options in (
            ("in sectors", {"granularity": 512}),
            ("in more than there is", {"granularity": 64 << 20}),
            ("with no buffer to speak of", {"buf_size": 1}),
        )
    },
    **{
        f"mirror: null, {size} bytes, {ends['execute']}": [
            do("blockdev-add", driver="null-co", node_name="n0", size=size, read_zeroes=True),
            do("blockdev-add", driver="null-co", node_name="t0", size=size),
            mirror(),
            wait("m", "ready"),
            ends,
            wait("m", "null"),
        ]
        for size in (0, 1 << 20)
        for ends in (do("job-complete", id="m"), do("block-job-cancel", device="m"))
    },
    "mirror refusals": [
        *NAMED,
        TARGET,
        add("small", "a.img", driver="raw"),
        mirror(device="no"),
        mirror(device="low"),
        mirror(target="no"),
        mirror(target="n0"),
        mirror(target="low"),
        mirror(granularity=100),
        mirror(granularity=128 << 20),
        mirror(granularity=5000),
        mirror(buf_size=-1),
        mirror(replaces="no"),
        mirror(replaces="t0"),
        mirror(sync="incremental"),
        mirror(sync="bitmap"),
        mirror(filter_node_name="low"),
        mirror(speed=-1),
        mirror(job_id="0"),
        mirror(copy_mode="no"),
        do("blockdev-mirror", device="n0", target="t0", sync="full"),
        mirror(target="small"),
        wait("m", "null"),
    ],
    "mirror: while a mirror runs": [
        *TOP,
        TARGET,
        mirror(filter_node_name="f"),
        wait("m", "ready"),
        mirror(job_id="n"),
        mirror(job_id="n", device="f"),
        do("blockdev-del", node_name="t0"),
        do("blockdev-del", node_name="f"),
        do("block-stream", job_id="s", device="n0"),
        do("job-cancel", id="m"),
        wait("m", "null"),
    ],
    "drive-mirror: a new image": [*TOP, copy(), wait("m", "ready"), *COMPLETED],
    "drive-mirror: a new overlay": [
        *TOP,
        copy(sync="top", format="qcow2", node_name="new"),
        wait("m", "ready"),
        *COMPLETED,
    ],
    "drive-mirror: new writes only": [
        *TOP,
        copy(sync="none", node_name="new"),
        wait("m", "ready"),
        *COMPLETED,
    ],
    "drive-mirror: raw": [*TOP, copy(format="raw"), wait("m", "ready"), *COMPLETED],
    "drive-mirror: existing": [
        *TOP,
        copy(target="empty.qcow2", mode="existing", format="qcow2"),
        wait("m", "ready"),
        do("block-job-cancel", device="m"),
        wait("m", "null"),
    ],
    "drive-mirror: existing, of no format": [
        *TOP,
        copy(target="empty.qcow2", mode="existing", unmap=False),
        wait("m", "ready"),
        *COMPLETED,
    ],
    "drive-mirror: replaces what is below a filter": [
        *TOP,
        overwritten("n0"),
        copy(device="on-n0", node_name="new", replaces="n0", format="qcow2", unmap=False),
        wait("m", "ready"),
        *COMPLETED,
    ],
    "drive-mirror: an overlay that is cancelled": [
        *TOP,
        copy(sync="top"),
        wait("m", "ready"),
        do("block-job-cancel", device="m"),
        wait("m", "null"),
    ],
    "drive-mirror: onto itself": [
        *TOP,
        copy(target="top.qcow2"),
        copy(target="top.qcow2", mode="existing"),
        copy(target="mid.qcow2"),
        copy(target="mid.qcow2", mode="existing"),
        copy(format=""),
        copy(sync="none", format="raw"),
        copy(sync="top", format="raw"),
        copy(target="."),
        copy(target=""),
        copy(target="x", sync="bitmap"),
        copy(target="x", sync="incremental"),
        copy(target="x", mode="no"),
    ],
    "drive-mirror refusals": [
        *NAMED,
        copy(device="no"),
        copy(device="low"),
        copy(replaces="n0"),
        copy(format="no"),
        copy(target="no/where.img"),
        copy(mode="existing", target="nowhere.img"),
        copy(mode="existing", target="empty.qcow2", granularity=100),
        copy(mode="existing", target="empty.qcow2", granularity=128 << 20),
        copy(mode="existing", target="empty.qcow2", granularity=5000),
        copy(node_name="low", mode="existing", target="empty.qcow2"),
        copy(node_name="x", replaces="no", mode="existing", target="empty.qcow2"),
    ],
}

SUCCEEDS: dict[str, str | Never] = {
    "block-commit": "commit: an image of the middle",
    "blockdev-mirror": "mirror: full",
    "drive-mirror": "drive-mirror: a new image",
}

NOT_WITHOUT_DRIVES = Never("qemu-storage-daemon has no drives that could be empty")
NO_ROOT = Never("what a job is at work on is no root node, which is told before")
NO_OTHER_SIZE = Never("a filter's child is as long as the filter")

REFUSALS: dict[str, dict[str, str | Never]] = {
    "block-commit": {
        "Device '%' not found": "commit refusals",
        "Cannot find device=% nor node-name=%": "commit refusals",
        "Device '%' has no medium": Never("an empty drive is 'not found': unit/handlers"),
        "Need a root block node": "commit refusals",
        "Node '%' is busy: %": NO_ROOT,
        "'top-node' and 'top' are mutually exclusive": "commit refusals",
        "'%' is not in this backing file chain": "commit refusals",
        "Top image file % not found": "commit refusals",
        "'base-node' and 'base' are mutually exclusive": "commit refusals",
        "Can't find '%' in the backing chain": "commit refusals",
        "cannot commit an image into itself": "commit refusals",
        "'backing-file' specified, but 'top' is the active layer": "commit refusals",
    },
    "blockdev-mirror": {
        "Cannot find device=% nor node-name=%": "mirror refusals",
        "Device '%' has no medium": NOT_WITHOUT_DRIVES,
        "Need a root block node": "mirror refusals",
        "Node '%' is busy: %": "mirror refusals",
        "Parameter 'granularity' expects a value in range [512B, 64MB]": "mirror refusals",
        "Parameter 'granularity' expects a power of 2": "mirror refusals",
        "cannot replace image with a mirror image of different size": NO_OTHER_SIZE,
    },
    "drive-mirror": {
        "Cannot find device=% nor node-name=%": "drive-mirror refusals",
        "Device '%' has no medium": NOT_WITHOUT_DRIVES,
        "Need a root block node": "drive-mirror refusals",
        "Node '%' is busy: %": NO_ROOT,
        "Parameter 'granularity' expects a value in range [512B, 64MB]": "drive-mirror refusals",
        "Parameter 'granularity' expects a power of 2": "drive-mirror refusals",
        "cannot replace image with a mirror image of different size": NO_OTHER_SIZE,
        "a node-name must be provided when replacing a named node of the graph": (
            "drive-mirror refusals"
        ),
    },
}

UNLOOKED = {
    "commit: completed by its old verb",
    "commit: cancelled",
    "commit: kept",
    "commit: while a job runs",
    "mirror: kept",
    "mirror: too early",
    *(name for name in CASES if name.startswith("mirror: waits to be finalized")),
}
"""While a job runs, how far it is and what is busy is a matter of time; a mirror that waits to be
finalized holds up its guests in QEMU, which counts as a pause, and not here."""
