"""info bitmaps and bitmap doctor: what is read out of QMP's answers."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from monitor.commands.bitmaps import bar, percent
from monitor.engine.errors import RequestError
from monitor.engine.schema.image import (
    BlockDirtyInfo,
    ImageInfoQcow2,
    ImageInfoSpecificQcow2,
    Qcow2BitmapInfo,
)
from monitor.engine.schema.query import (
    BlockGraph,
    GraphEdge,
    GraphNode,
    QueryBlock,
    QueryBlockGraph,
    QueryNamedBlockNodes,
)
from tests.support.answers import MIB, device, drive, image
from tests.support.commands import typed

NO_GRAPH = BlockGraph(nodes=[], edges=[])


def dirty(name: str | None, count: int = 0, **changes: Any) -> BlockDirtyInfo:
    facts = {"granularity": 65536, "recording": True, "busy": False, "persistent": False}
    named: Any = UNSET if name is None else name
    return BlockDirtyInfo(name=named, count=count, **facts | changes)


def ask(line: str, *bitmaps: BlockDirtyInfo, **changes: Any) -> str:
    node = device(dirty_bitmaps=list(reversed(bitmaps)), **changes)
    graph = changes.pop("graph", NO_GRAPH)
    answers = {QueryNamedBlockNodes: [node], QueryBlock: [drive("d0", inserted=node)]}
    return typed(line, answers | {QueryBlockGraph: graph})[0]


def test_each_is_a_line_with_a_bar_and_its_state_in_words() -> None:
    text = ask(
        "info bitmaps d0",
        dirty("monday", 16 * MIB, persistent=True),
        dirty("a b", 64 * MIB, granularity=1 << 20, recording=False),
        dirty(None, 512, granularity=512),
        dirty("old", inconsistent=True, recording=False, persistent=True),
        dirty("job", busy=True),
    )
    assert text == (
        "d0 (n0): qcow2, 64 MiB\n"
        "  monday       64 KiB  [#####...............]  25.0%    16 MiB  recording, "
        "kept by the image\n"
        '  "a b"         1 MiB  [####################] 100.0%    64 MiB  not recording\n'
        "  (a job's)     512 B  [#...................]  <0.1%     512 B  recording\n"
        "  old          64 KiB  [....................]   0.0%       0 B  "
        "inconsistent: it may miss writes (see bitmap doctor)\n"
        "  job          64 KiB  [....................]   0.0%       0 B  recording, "
        "in use by a job"
    )


def test_none() -> None:
    answers = {QueryNamedBlockNodes: [device()], QueryBlock: []}
    assert typed("info bitmaps", answers)[0] == "No dirty bitmaps"
    assert ask("bitmap doctor n0") == "n0 has no dirty bitmaps"


def test_a_node_that_is_not_there() -> None:
    with pytest.raises(RequestError, match="Cannot find device='d9' nor node-name='d9'"):
        ask("info bitmaps d9")


def test_only_all_of_it_fills_the_bar() -> None:
    assert bar(99_999, 100_000) == "[" + "#" * 19 + ".]"
    assert percent(99_999, 100_000) == "99.9%"
    assert bar(0, 0) == "[" + "." * 20 + "]"


def test_the_doctor_has_a_line_for_each() -> None:
    text = ask(
        "bitmap doctor n0",
        dirty("fine"),
        dirty("old", inconsistent=True, recording=False, persistent=True),
        dirty("a b", recording=False),
    )
    assert text == (
        "fine: nothing is wrong\n"
        "old: the image was not closed, so writes may be missing; it can only be removed\n"
        "    block-dirty-bitmap-remove node=n0 name=old ; block-dirty-bitmap-add node=n0 name=old "
        "granularity=65536 persistent=on\n"
        '"a b": it does not record, so writes are missing from now on\n'
        '    block-dirty-bitmap-enable node=n0 name="a b"'
    )


def test_the_doctor_knows_the_job() -> None:
    graph = BlockGraph(
        nodes=[
            GraphNode(id=1, type="block-driver", name="n0"),
            GraphNode(id=2, type="block-job", name="backup0"),
            GraphNode(id=3, type="block-job", name="elsewhere"),
        ],
        edges=[GraphEdge(parent=2, child=1, name="main node", perm=[], shared_perm=[])],
    )
    node = device(dirty_bitmaps=[dirty("b0", busy=True)])
    answers = {QueryNamedBlockNodes: [node], QueryBlockGraph: graph}
    assert typed("bitmap doctor n0", answers)[0] == (
        "b0: a job or an export uses it\n    wait backup0"
    )


def test_the_doctor_and_a_read_only_image() -> None:
    text = ask("bitmap doctor n0", dirty("b0", persistent=True), ro=True)
    assert text == (
        "b0: the image is read-only, so it can be read and not changed\n"
        "    blockdev-reopen options.0.driver=qcow2 options.0.node-name=n0 "
        "options.0.file.driver=file options.0.file.filename=a.qcow2"
    )


def test_the_doctor_tells_of_those_that_nobody_can_load() -> None:
    specific = ImageInfoSpecificQcow2(
        data=ImageInfoQcow2(
            compat="1.1",
            refcount_bits=16,
            compression_type="zlib",
            bitmaps=[Qcow2BitmapInfo(name="b0", granularity=65536, flags=["auto"])],
        )
    )
    text = ask("bitmap doctor n0", image=image("a.qcow2", format_specific=specific))
    assert text == "b0: it has data that this program does not know; it is kept"
