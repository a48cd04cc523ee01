"""Dirty bitmaps: the requests and their refusals. More, with contents, in test_bitmaps.py."""

from __future__ import annotations

from typing import Any

from tests.support.qmp_cases import Never
from tests.support.qmp_cases.words import Requests, add, do


def bitmap(verb: str, name: str = "b0", node: str = "n0", **options: Any) -> dict[str, Any]:
    return do(f"block-dirty-bitmap-{verb}", node=node, name=name, **options)


def merge(target: str, *sources: Any, node: str = "n0") -> dict[str, Any]:
    return do("block-dirty-bitmap-merge", node=node, target=target, bitmaps=list(sources))


def digest(name: str, node: str = "n0") -> dict[str, Any]:
    return do("x-debug-block-dirty-bitmap-sha256", node=node, name=name)


VERBS = ("remove", "clear", "enable", "disable")

CASES: dict[str, Requests] = {
    "bitmaps: what is done with them": [
        add("n0", "empty.qcow2"),
        bitmap("add"),
        bitmap("add", "b1", granularity=4096, disabled=True),
        bitmap("enable", "b1"),
        bitmap("disable", "b1"),
        bitmap("clear", "b1"),
        merge("b0", "b1"),
        merge("b0", {"node": "n0", "name": "b1"}),
        digest("b0"),
        bitmap("remove", "b1"),
        bitmap("remove"),
    ],
    "bitmaps: which one": [
        add("n0", "empty.qcow2"),
        bitmap("add"),
        *(bitmap(verb, node="no") for verb in VERBS),
        *(bitmap(verb, "no") for verb in VERBS),
        merge("b0", "b0", node="no"),
        merge("no", "b0"),
        merge("b0", "no"),
        merge("b0", {"node": "no", "name": "b0"}),
        merge("b0", {"node": "n0", "name": "no"}),
        digest("b0", node="no"),
        digest("no"),
        bitmap("add", ""),
        bitmap("add", node="no"),
        bitmap("add", "b1", granularity=1000),
    ],
}

SUCCEEDS: dict[str, str | Never] = {
    **{f"block-dirty-bitmap-{verb}": "bitmaps: what is done with them" for verb in VERBS},
    "block-dirty-bitmap-add": "bitmaps: what is done with them",
    "block-dirty-bitmap-merge": "bitmaps: what is done with them",
    "x-debug-block-dirty-bitmap-sha256": "bitmaps: what is done with them",
}

WHICH: dict[str, str | Never] = {
    "Node '%' not found": "bitmaps: which one",
    "Dirty bitmap '%' not found": "bitmaps: which one",
}
STATES = "unit/handlers/test_bitmap.py::test_busy_read_only_and_inconsistent_ones_are_refused"
BUSY: dict[str, str | Never] = {
    "Bitmap '%' is currently in use by another operation and cannot be used": STATES,
}
READ_ONLY: dict[str, str | Never] = {"Bitmap '%' is readonly and cannot be modified": STATES}
BROKEN: dict[str, str | Never] = {"Bitmap '%' is inconsistent and cannot be used": STATES}

REFUSALS: dict[str, dict[str, str | Never]] = {
    "block-dirty-bitmap-add": {
        "Bitmap name cannot be empty": "bitmaps: which one",
        "Cannot find device=% nor node-name=%": "bitmaps: which one",
        "Granularity must be power of 2 and at least 512": "bitmaps: which one",
    },
    "block-dirty-bitmap-remove": WHICH | BUSY,
    "block-dirty-bitmap-clear": WHICH | BUSY | READ_ONLY | BROKEN,
    "block-dirty-bitmap-enable": WHICH | BUSY | BROKEN,
    "block-dirty-bitmap-disable": WHICH | BUSY | BROKEN,
    "block-dirty-bitmap-merge": WHICH,
    "x-debug-block-dirty-bitmap-sha256": WHICH,
}
