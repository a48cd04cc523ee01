"""``iothread``: a pool of threads with a name, on which an export's long requests are done.

QEMU's is one thread with an event loop, which it may tell to poll: those properties are kept, and
mean nothing here. Its thread pool, where blocking calls go, is what is meant here.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar, Final

from monitor.engine.errors import RequestError
from monitor.engine.objects.base import INT, Objects, UserObject
from monitor.engine.schema.objects import IOThreadInfo

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

DEFAULT_THREADS: Final = 64
POLL_NS: Final = 32768


class BadPoolSize(RequestError):
    template = "bad thread-pool-min/thread-pool-max values"


class Iothread(UserObject):
    type = "iothread"
    parents = ("event-loop-base", "user-creatable", "object")
    properties: ClassVar = {
        "thread-pool-min": INT,
        "aio-max-batch": INT,
        "thread-pool-max": INT,
        "poll-max-ns": INT,
        "poll-grow": INT,
        "poll-shrink": INT,
    }

    aio_max_batch = 0
    thread_pool_min = 0
    thread_pool_max = DEFAULT_THREADS
    poll_max_ns = POLL_NS
    poll_grow = 0
    poll_shrink = 0

    def complete(self, objects: Objects) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._check_size()
        self.workers: ThreadPoolExecutor = ThreadPoolExecutor(self.thread_pool_max, self.id)
        self.thread_id: int = self.workers.submit(threading.get_native_id).result()
        """The first thread's number, as the host knows it."""

    def change(self, attribute: str, value: Any) -> None:
        """The size of a pool that runs cannot change any more: the new one is for show."""
        before = getattr(self, attribute)
        super().change(attribute, value)
        if hasattr(self, "workers") and attribute.startswith("thread_pool"):
            try:
                self._check_size()
            except BadPoolSize:
                setattr(self, attribute, before)
                raise

    def close(self) -> None:
        self.workers.shutdown(wait=False)

    def info(self) -> IOThreadInfo:
        return IOThreadInfo(
            id=self.id,
            thread_id=self.thread_id,
            poll_max_ns=self.poll_max_ns,
            poll_grow=self.poll_grow,
            poll_shrink=self.poll_shrink,
            aio_max_batch=self.aio_max_batch,
        )

    def _check_size(self) -> None:
        if not self.thread_pool_max > 0 or self.thread_pool_min > self.thread_pool_max:
            raise BadPoolSize()


def iothread_of(objects: Objects, id_: str) -> Iothread | None:
    """The one of that name, if there is one."""
    found = objects.by_id.get(id_)
    return found if isinstance(found, Iothread) else None


made = Iothread
