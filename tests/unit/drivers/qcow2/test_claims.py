"""Who waits for whom where guest clusters are allocated."""

from __future__ import annotations

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.drivers.qcow2.claims import Claim, Claims
from tests.support import spin
from tests.support.children import MemoryChild
from tests.support.qcow2 import new_image, open_qcow2, read, write

CLUSTER = 4096


@st.composite
def some_claims(draw: st.DrawFn) -> tuple[Claim, set[int]]:
    clusters = sorted(draw(st.sets(st.integers(0, 40), min_size=1, max_size=12)))
    if draw(st.booleans()):
        return Claim(clusters[0], clusters[-1]), set(range(clusters[0], clusters[-1] + 1))
    return Claim(clusters[0], clusters[-1], np.array(clusters)), set(clusters)


@given(some_claims(), some_claims())
def test_claims_conflict_where_they_share_a_cluster(
    one: tuple[Claim, set[int]], other: tuple[Claim, set[int]]
) -> None:
    assert one[0].conflicts(other[0]) == other[0].conflicts(one[0]) == bool(one[1] & other[1])


def test_requests_wait_in_order_of_arrival() -> None:
    """Else one for many clusters would wait for as long as others take one of them after the
    other."""
    lock = threading.Lock()
    claims = Claims(lock)
    order: list[str] = []

    def request(name: str, first: int, count: int) -> threading.Thread:
        def body() -> None:
            with lock:
                claims.wait(first, count)
                order.append(name)

        thread = threading.Thread(target=body)
        thread.start()
        return thread

    with lock:
        claim = claims.take(0, 1)
    threads = []
    for number, (name, first, count) in enumerate(
        [("many", 0, 10), ("of these", 5, 1), ("again", 5, 1)], 1
    ):
        threads.append(request(name, first, count))
        spin.until(lambda wanted=number: len(claims._waiting) == wanted)  # type: ignore[misc]
    request("others", 10, 5).join()
    with lock:
        claims.give_up(claim)
    for thread in threads:
        thread.join(30)
    assert order == ["others", "many", "of these", "again"]
    assert not claims


class GatedChild(MemoryChild):
    """The first write of one thread stops at the gate."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.slow: threading.Thread | None = None
        self.reached = threading.Event()
        self.gate = threading.Event()

    def write(self, buffer: memoryview, offset: int) -> None:
        if threading.current_thread() is self.slow:
            self.slow = None
            self.reached.set()
            assert self.gate.wait(30)
        super().write(buffer, offset)


def test_a_scattered_write_holds_up_nobody_between_its_clusters() -> None:
    file = GatedChild(bytes(new_image(1 << 20, cluster_size=CLUSTER).content))
    disk = open_qcow2(file)
    write(disk, 20 * CLUSTER, b"the tables are in memory now")
    data = memoryview(b"B" * 2 * CLUSTER)
    ranges = [(4 * CLUSTER, CLUSTER), (8 * CLUSTER, CLUSTER)]
    file.slow = threading.Thread(target=lambda: disk.write_ranges(data, ranges))
    copier = file.slow
    copier.start()
    assert file.reached.wait(30)
    between = threading.Thread(target=lambda: write(disk, 6 * CLUSTER, b"C" * 100))
    between.start()
    between.join(30)
    assert not between.is_alive()
    disk.write_zeroes(5 * CLUSTER, 2 * CLUSTER)
    file.gate.set()
    copier.join(30)
    assert read(disk, 4 * CLUSTER, CLUSTER) == read(disk, 8 * CLUSTER, CLUSTER) == b"B" * CLUSTER
    assert read(disk, 5 * CLUSTER, 3 * CLUSTER) == bytes(3 * CLUSTER)
