"""Counters of lanes and their sums."""

from __future__ import annotations

import threading

from monitor.engine.accounting import READ, UNMAP, WRITE, Account
from monitor.engine.graph.client import Client

MS = 1_000_000


def test_a_request_counts_by_kind_with_its_time() -> None:
    account = Account()
    counters = account.open()
    counters.done(READ, 4096, 100.0, 100.25)
    counters.done(UNMAP, 512, 100.25, 100.75)
    total = account.total()
    assert total.bytes == [4096, 0, 0, 512]
    assert total.operations == [1, 0, 0, 1]
    assert total.nanoseconds == [250 * MS, 0, 0, 500 * MS]
    assert total.failed == [0, 0, 0, 0]
    assert total.last == 100.75


def test_a_failed_request_counts_as_failed_and_takes_its_time() -> None:
    account = Account()
    account.open().has_failed(WRITE, 100.0, 100.25)
    total = account.total()
    assert (total.bytes, total.operations) == ([0, 0, 0, 0], [0, 0, 0, 0])
    assert total.failed == [0, 1, 0, 0]
    assert total.nanoseconds == [0, 250 * MS, 0, 0]
    assert total.last == 100.25


def test_threads_count_beside_each_other_and_leave_their_figures() -> None:
    """Nothing is lost between threads: each lane has counters of its own."""
    account = Account()
    clients = [Client(account=account) for _ in range(2)]

    def work(client: Client) -> None:
        lane = client.lane()
        for _ in range(2000):
            with lane:
                lane.counters.done(WRITE, 512, 1.0, 1.5)
        client.drop_lane(lane)

    threads = [threading.Thread(target=work, args=(clients[i % 2],)) for i in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert account.total().operations[WRITE] <= 8000
    total = account.total()
    assert total.operations[WRITE] == 8000
    assert total.bytes[WRITE] == 8000 * 512


def test_clients_have_accounts_of_their_own_unless_told() -> None:
    first, second = Client("a"), Client("b")
    assert first.account is not second.account
    assert Client(account=first.account).account is first.account
