"""Writing past the driver: whole clusters reserved, filled by somebody else, then linked.

The steps and their order are those of ``writing``; between *plan* and *link* the caller copies
straight into the host file that the image lies in. The claim is kept meanwhile, so other writers of
these clusters wait, and readers see what was there before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from monitor.engine.drivers.base import Reservation
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import mapping, writeback, writing
from monitor.engine.drivers.qcow2.image import Image


@contextmanager
def hold(image: Image) -> Iterator[None]:
    """No host cluster that is looked up inside gets another owner before the end."""
    with image.file.hold():
        with image.lock:
            epoch = image.enter()
        try:
            yield
        finally:
            image.leave(epoch)


def map_for_write(image: Image, offset: int, length: int) -> Reservation | None:
    """Host ranges for the whole clusters at ``offset``; None where the range does not begin at a
    cluster or holds none, or the file has no host file to offer. Raises OSError."""
    bits = image.bits
    first = offset >> bits
    end = offset + length
    last = image.geometry.clusters(end) if end == image.size else end >> bits
    count = min(q.PIECE, last - first)
    if offset & image.in_cluster or count <= 0:
        return None
    length = min(length, count << bits)
    if not image.changing:
        image.begin_changes()
    with image.lock:
        plan = writing.plan(image, first, count)
    below: list[Reservation] = []
    try:
        complete = _reserve_below(image, plan, length, below)
    except BaseException:
        _give_up(image, plan, below)
        raise
    if not complete:
        _give_up(image, plan, below)
        return None

    def commit() -> None:
        while below:
            try:
                below.pop().commit()
            except BaseException:
                _give_up(image, plan, below)
                raise
        writing.finish(image, plan)
        if image.crowded():
            writeback.write_back(image)

    return Reservation(
        [run for part in below for run in part.runs],
        commit,
        lambda: _give_up(image, plan, below),
    )


def _reserve_below(image: Image, plan: writing.Plan, length: int, below: list[Reservation]) -> bool:
    """Asks the file for each run of host clusters; False when it offers none for a part."""
    size = image.geometry.cluster_size
    starts = mapping.breaks(plan.targets[1:] != plan.targets[:-1] + size)
    for low, high in zip(starts, [*starts[1:], len(plan.targets)], strict=True):
        host = int(plan.targets[low])
        rest = min(high * size, length) - low * size
        while rest:
            part = image.file.map_for_write(host, rest)
            if part is None or not part.length:
                return False
            below.append(part)
            host += part.length
            rest -= part.length
    return True


def _give_up(image: Image, plan: writing.Plan, below: list[Reservation]) -> None:
    """Nothing refers to what was allocated; what the file reserved is given back first."""
    try:
        while below:
            below.pop().abort()
    finally:
        writing.abandon(image, plan)
