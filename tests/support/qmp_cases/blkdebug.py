"""Options of blkdebug: sizes, rules, files of rules, permissions, and what of them can change."""

from __future__ import annotations

from typing import Any

from tests.support.qmp_cases.words import Requests, add, do

IMAGE = add("n0", "empty.qcow2")


def bug(name: str = "d", image: str = "n0", **options: Any) -> dict[str, Any]:
    return do("blockdev-add", driver="blkdebug", node_name=name, image=image, **options)


def each(*options: dict[str, Any]) -> Requests:
    """One node after the other, each deleted again."""
    gone = do("blockdev-del", node_name="d")
    return [request for given in options for request in (bug(**given), gone)]


def rule(**options: Any) -> dict[str, Any]:
    return {"event": "none", **options}


def reopen(**options: Any) -> dict[str, Any]:
    given = {"driver": "blkdebug", "node-name": "d", "image": "n0", **options}
    return do("blockdev-reopen", options=[given])


SIZES = (0, 1, 3, 512, 4096, 5000, 1 << 30, (1 << 31) - 1, 1 << 31, 1 << 40, -1)
NAMES = (
    "align", "max_transfer", "opt_write_zero", "max_write_zero", "opt_discard", "max_discard",
)  # fmt: skip

CASES: dict[str, Requests] = {
    "blkdebug: sizes": [
        IMAGE,
        *each(*({name: size} for name in NAMES for size in SIZES)),
    ],
    "blkdebug: sizes that fit each other": [
        IMAGE,
        *each(
            {"align": 512, "max_transfer": 256},
            {"align": 512, "max_transfer": 512, "opt_write_zero": 1024, "max_write_zero": 512},
            {"align": 512, "opt_write_zero": 1024, "max_write_zero": 2048},
            {"opt_discard": 1024, "max_discard": 512},
            {"opt_discard": 1024, "max_discard": 1536},
            {"opt_discard": 1024, "max_discard": 3072},
        ),
    ],
    "blkdebug: rules": [
        IMAGE,
        *each(
            {"inject_error": [{}]},
            {"inject_error": [rule(event="x")]},
            {"inject_error": [rule(state=-1)]},
            {"inject_error": [rule(errno=-1)]},
            {"inject_error": [rule(errno=1000)]},
            {"inject_error": [rule(sector=-1)]},
            {"inject_error": [rule(sector=-5)]},
            {"inject_error": [rule(sector=1 << 54)]},
            {"inject_error": [rule(sector=1 << 60)]},
            {"inject_error": [rule(iotype="x")]},
            {"inject_error": [rule(immediately=1)]},
            {"inject_error": [rule(immediately=True, once=True, iotype="flush")]},
            {"inject_error": rule()},
            {"set_state": [rule()]},
            {"set_state": [rule(new_state=0)]},
            {"set_state": [rule(new_state=-5, state=7)]},
            {"set_state": [{"event": "none", "new-state": 1}]},
            {"inject_error": []},
            {"set_state": []},
            {"take_child_perms": []},
            {"unshare_child_perms": []},
        ),
    ],
    "blkdebug: files of rules": [
        IMAGE,
        *each(*({"config": name} for name in ("nowhere", ".", "", "a.img", "base.qcow2"))),
    ],
    "blkdebug: permissions": [
        IMAGE,
        bug(take_child_perms=["write", "write", "resize"]),
        bug("e", take_child_perms=["x"]),
        bug("e", take_child_perms=["graph-mod"]),
        bug("e", unshare_child_perms=["write"]),
        bug("f", unshare_child_perms=["consistent-read"]),
        add("ro", "base.qcow2", read_only=True),
        bug("i", "ro", take_child_perms=["write-unchanged"]),
        bug("j", "ro", read_only=True, unshare_child_perms=["write", "resize"]),
        bug("k", "ro", read_only=True),
    ],
    "blkdebug: reopened": [
        IMAGE,
        bug(**{"inject-error": [rule()]}),
        reopen(),
        reopen(**{"inject-error": [rule()]}),
        reopen(**{"inject-error": [rule()], "read-only": True}),
        reopen(align=512),
        reopen(**{"inject-error": [rule(errno=6)]}),
    ],
}
