"""Edits of the graph: permissions follow, conflicts are named, what fails changes nothing."""

from __future__ import annotations

import errno
import itertools
import random

import pytest

from monitor.engine import permissions
from monitor.engine.drivers.base import OpenFlags, Reopen
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.errors import Refused, RequestError
from monitor.engine.graph import edit
from monitor.engine.graph.client import Client
from monitor.engine.graph.edit import CyclicGraph, NodeIsReadOnly, PermissionConflict
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.modes import reopen
from monitor.engine.graph.transaction import Transaction
from tests.support.graphs import Events, LayerDriver, add, put_above, reader, run, shape


@pytest.fixture
def graph() -> Graph:
    async def make() -> Graph:
        return Graph(Events())

    return run(make())


def test_a_conflict_names_both_sides_and_changes_nothing(graph: Graph) -> None:
    node = add(graph, "n0")
    holder = Client("d0")
    graph.add_client(holder, node, permissions.CONSISTENT_READ, permissions.CONSISTENT_READ)
    before = shape(graph)
    with pytest.raises(PermissionConflict) as caught:
        graph.add_client(Client(), node, permissions.WRITE, permissions.ALL)
    assert caught.value.text == (
        "Permission conflict on node 'n0': permissions 'write' are both required by an unnamed "
        "block device (uses node 'n0' as 'root' child) and unshared by block device 'd0' "
        "(uses node 'n0' as 'root' child)."
    )
    assert shape(graph) == before


def test_a_backing_image_is_read_consistently_and_not_written(graph: Graph) -> None:
    base, top = add(graph, "base"), add(graph, "top")
    put_above(graph, top, base)
    edge = top.children["backing"]
    # Nobody reads the top yet, and nobody minds writers: QEMU 7.2 shows the same.
    assert (edge.taken, edge.shared) == (0, permissions.ALL)
    reader(graph, top, shared=permissions.ALL & ~permissions.WRITE)
    assert edge.taken == permissions.CONSISTENT_READ
    assert edge.shared == permissions.CONSISTENT_READ | permissions.WRITE_UNCHANGED
    with pytest.raises(PermissionConflict, match="unshared by node 'top'"):
        graph.add_client(Client(), base, permissions.WRITE, permissions.ALL)


def test_a_read_only_node_takes_no_writer(graph: Graph) -> None:
    node = add(graph, "n0", read_only=True)
    for taken in (permissions.WRITE, permissions.WRITE_UNCHANGED):
        with pytest.raises(NodeIsReadOnly, match="Block node is read-only"):
            graph.add_client(Client(), node, taken, permissions.ALL)
    assert not node.parents


def test_no_cycles(graph: Graph) -> None:
    base, top = add(graph, "base"), add(graph, "top")
    put_above(graph, top, base)
    with pytest.raises(CyclicGraph), Transaction() as transaction:
        edit.attach(transaction, base, "backing", top)
    assert base.backing is None


class Locks(MemoryDriver):
    """A driver whose host may refuse permissions, and that counts what became of each check."""

    def __init__(self) -> None:
        super().__init__(1 << 16)
        self.refuse = False
        self.ended: list[str] = []

    def check_permissions(self, taken: int, shared: int) -> Reopen | None:
        if self.refuse:
            raise Refused('Failed to get "write" lock')
        driver = self

        class Prepared:
            def commit(self) -> None:
                driver.ended.append("commit")

            def abort(self) -> None:
                driver.ended.append("abort")

        return Prepared()


def test_host_locks_are_prepared_and_undone_with_the_rest(graph: Graph) -> None:
    driver, other = Locks(), Locks()
    first, second = add(graph, "first", driver), add(graph, "second", other)
    other.refuse = True
    client = Client("both")
    with pytest.raises(Refused), Transaction() as transaction:
        for node in (first, second):
            edge = edit.attach(transaction, client, "root", node)
            edit.set_permissions(transaction, edge, permissions.WRITE, permissions.ALL)
            edit.refresh(transaction, [node])
    assert driver.ended == ["abort"]
    assert not first.parents
    assert not client.roots


def test_replace_moves_parents_but_not_the_overlays_own_edge(graph: Graph) -> None:
    base, overlay = add(graph, "base"), add(graph, "overlay")
    client = reader(graph, base)
    with Transaction() as transaction:
        edit.attach(transaction, overlay, "backing", base)
        edit.replace(transaction, base, overlay)
        edit.refresh(transaction, [overlay, base])
        graph.commit(transaction)
    assert client.roots[0].child is overlay
    assert overlay.backing is base
    client.roots[0].read(memoryview(bytearray(16)), 0)  # bound to the overlay's pipeline
    assert client.roots[0].length() == overlay.length()


@pytest.mark.parametrize("seed", range(30))
def test_a_failed_transaction_leaves_every_edge_as_it_was(graph: Graph, seed: int) -> None:
    """Random edits that end in an error: edges and permissions are as before."""
    rng = random.Random(seed)
    nodes = [add(graph, f"n{i}", read_only=rng.random() < 0.2) for i in range(8)]
    for above, below in itertools.pairwise(nodes):
        if rng.random() < 0.6:
            put_above(graph, above, below)
    clients = [reader(graph, rng.choice(nodes)) for _ in range(4)]
    before = shape(graph)
    with pytest.raises(RequestError), Transaction() as transaction:
        for _ in range(rng.randrange(1, 12)):
            _edit(rng, transaction, nodes, clients)
        edit.refresh(transaction, nodes)
        raise Refused("the end")
    assert shape(graph) == before


def _edit(rng: random.Random, transaction: Transaction, nodes: list, clients: list) -> None:  # type: ignore[type-arg]
    what = rng.randrange(4)
    node = rng.choice(nodes)
    if what == 0 and node.backing is not None:
        edit.detach(transaction, node.children["backing"])
    elif what == 1 and node.backing is None:
        edit.attach(transaction, node, "backing", rng.choice(nodes))
    elif what == 2:
        edit.replace(transaction, node, rng.choice(nodes))
    elif clients[0].roots:
        edge = rng.choice(clients).roots[0]
        edit.set_permissions(transaction, edge, rng.randrange(16), rng.randrange(16))


def test_requests_are_checked_once_at_the_client(graph: Graph) -> None:
    node = add(graph, "n0")
    root = graph.add_client(Client(), node, permissions.CONSISTENT_READ, permissions.ALL)
    buffer = memoryview(bytearray(512))
    root.read(buffer, node.length() - 512)
    for offset in (-1, node.length() - 511, 1 << 64):
        with pytest.raises(OSError) as caught:
            root.read(buffer, offset)
        assert caught.value.errno == errno.EIO
    with pytest.raises(PermissionError):
        root.write(buffer, 0)


def test_long_chains_need_no_recursion(graph: Graph) -> None:
    below = add(graph, "n0")
    for number in range(1, 3000):
        above = add(graph, f"n{number}")
        with Transaction() as transaction:
            edit.attach(transaction, above, "backing", below)
            graph.commit(transaction)
        below = above
    assert len(edit.top_down([below])) == 3000
    assert edit.reaches(below, graph.nodes["n0"])
    reader(graph, below)
    edge = graph.nodes["n1"].children["backing"]
    assert edge.taken == permissions.CONSISTENT_READ


@pytest.mark.parametrize("kept", [True, False])
def test_a_step_that_fails_keeps_no_other_from_being_taken(graph: Graph, kept: bool) -> None:
    """The end of a change cannot be undone any more; and requests find what has changed."""
    base, other, client = add(graph, "base"), add(graph, "other"), Client()
    graph.add_client(client, base, permissions.CONSISTENT_READ, permissions.ALL)
    taken: list[str] = []

    def fail() -> None:
        raise IndexError

    transaction = Transaction()
    for name in ("first", "second"):
        transaction.add(
            commit=lambda name=name: taken.append(name),
            abort=lambda name=name: taken.append(name),
            clean=lambda: taken.append("clean"),
        )
        transaction.add(commit=fail, abort=fail)
    edit.replace(transaction, base, other)
    edit.refresh(transaction, [base, other])
    with pytest.raises(IndexError):
        graph.commit(transaction) if kept else transaction.abort()
    assert taken == [*(["first", "second"] if kept else ["second", "first"]), "clean", "clean"]
    assert client.roots[0].child is (other if kept else base)
    if kept:
        assert client.roots[0].flush == other.flush


def test_what_lies_below_what_whatever_the_shape(graph: Graph) -> None:
    """``reaches`` against the set of all that lies below, in graphs with shared children."""
    chance = random.Random(7)
    nodes = [add(graph, f"n{number}") for number in range(24)]
    below = [{number} for number in range(24)]
    with Transaction() as transaction:
        for number in range(1, 24):
            for role in ("backing", "file")[: chance.randrange(3)]:
                child = chance.randrange(number)
                edit.attach(transaction, nodes[number], role, nodes[child])
                below[number] |= below[child]
        transaction.commit()
    found = [
        {other for other in range(24) if edit.reaches(nodes[number], nodes[other])}
        for number in range(24)
    ]
    assert found == below
    assert any(1 < len(each) < 24 for each in below)


def test_a_switch_of_several_layers_is_prepared_wholly_or_not_at_all(graph: Graph) -> None:
    prepared: list[str] = []

    class Change:
        def commit(self) -> None:
            raise AssertionError

        def abort(self) -> None:
            prepared.append("aborted")

    class Willing(LayerDriver):
        def prepare_reopen(self, flags: OpenFlags, options: object = None) -> Reopen:
            prepared.append("prepared")
            return Change()

    class Unwilling(Willing):
        child_roles = ("file",)

        def prepare_reopen(self, flags: OpenFlags, options: object = None) -> Reopen:
            raise OSError(errno.EIO, "no")

    async def work() -> None:
        top, bottom = add(graph, "top", Top(1 << 20)), add(graph, "bottom", Unwilling(1 << 20))
        with Transaction() as transaction:
            edit.attach(transaction, top, "file", bottom)
            transaction.commit()
        bottom.inherits_from = top
        with pytest.raises(OSError, match="no"), Transaction() as transaction:
            await reopen(graph, transaction, top, read_only=True)
        assert prepared == ["prepared", "aborted"]
        assert not top.read_only
        assert not bottom.read_only

    class Top(Willing):
        child_roles = ("file",)

    run(work())
