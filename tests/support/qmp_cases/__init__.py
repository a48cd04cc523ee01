"""QMP conversations in which ours and qemu-storage-daemon answer the same, by topic.

Each module of this package is a topic and is found by itself; put a new one beside the others. It
declares

``CASES``     name -> requests (``words.do``), each a session of its own in a folder that holds
              ``words.IMAGES``. Every reply and event is compared with qemu-storage-daemon's, and
              after each request the state of graph and jobs. ``wait(job, status)`` between two
              requests reads on until the job is there; before it nothing is looked at.
``SUCCEEDS``  request -> the case in which it succeeds. A request of ``query-commands`` that
              qemu-storage-daemon has too needs one.
``REFUSALS``  request -> text of ``messages.REFERENCE`` -> the case that shows it, or
              ``Never(reason)``. ``"hmp: …"`` names a script of tests/interop/test_hmp.py. Each text
              of a request that we have needs one; that a case shows it is checked.
``UNLOOKED``  cases whose state is not looked at, because qemu-storage-daemon dies of the question.
              Optional.

tests/unit/schema/test_qmp_cases.py tells what is missing; tests/interop/test_same_qmp.py runs them.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from dataclasses import dataclass, field

from tests.support.qmp_cases.words import Requests


@dataclass(frozen=True)
class Never:
    """Why QEMU 7.2, or qemu-storage-daemon, cannot say a text of the reference."""

    reason: str


@dataclass
class Gathered:
    """What all topics declare."""

    cases: dict[str, Requests] = field(default_factory=dict)
    succeeds: dict[str, str | Never] = field(default_factory=dict)
    refusals: dict[str, dict[str, str | Never]] = field(default_factory=dict)
    unlooked: set[str] = field(default_factory=set)

    def texts_of(self, case: str) -> list[str]:
        """The texts that ``case`` was named for."""
        return [
            text
            for shown in self.refusals.values()
            for text, where in shown.items()
            if where == case
        ]

    def requests_of(self, case: str) -> list[str]:
        """The requests that succeed in ``case``."""
        return [request for request, where in self.succeeds.items() if where == case]


@functools.cache
def gathered() -> Gathered:
    """All topics together; no two declare the same thing."""
    found = Gathered()
    for module in pkgutil.iter_modules(__path__):
        topic = importlib.import_module(f"{__name__}.{module.name}")
        for name, mine in (
            ("CASES", found.cases),
            ("SUCCEEDS", found.succeeds),
            ("REFUSALS", found.refusals),
        ):
            declared = getattr(topic, name, {})
            assert not mine.keys() & declared.keys(), f"{module.name}: {name} declared twice"
            mine.update(declared)
        found.unlooked |= getattr(topic, "UNLOOKED", set())
    return found


def matches(pattern: str, text: str) -> bool:
    """Whether ``text`` is a message of the reference, in which ``%`` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("%"))), text, re.DOTALL) is not None
