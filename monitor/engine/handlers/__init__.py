"""What each request does; one file a topic, named as the topic in ``engine.schema``.

A handler is a coroutine function ``handler(engine, request)`` on the control loop. It raises
``RequestError`` and leaves the graph as it was, or returns the request's ``returns``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from monitor.engine.schema.base import Request

if TYPE_CHECKING:
    from monitor.engine.embedded import EmbeddedEngine

R = TypeVar("R", bound=Request)
Handler = Callable[["EmbeddedEngine", Any], Awaitable[Any]]

_HANDLERS: dict[type[Request], Handler] = {}


def handles(
    request: type[R],
) -> Callable[
    [Callable[[EmbeddedEngine, R], Awaitable[Any]]], Callable[[EmbeddedEngine, R], Awaitable[Any]]
]:
    """Declares the decorated function as what ``request`` does."""

    def declare(
        handler: Callable[[EmbeddedEngine, R], Awaitable[Any]],
    ) -> Callable[[EmbeddedEngine, R], Awaitable[Any]]:
        _HANDLERS[request] = handler
        return handler

    return declare


def handler_of(request: type[Request]) -> Handler:
    """The request's handler; imports its topic's file on first use."""
    if request not in _HANDLERS:
        topic = request.__module__.rpartition(".")[2]
        import_module(f"{__name__}.{topic}")
    return _HANDLERS[request]
