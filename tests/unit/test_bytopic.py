"""The indexes of requests and commands say what their files declare."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

import monitor.commands
import monitor.engine.schema
from monitor.commands.registry import commands
from monitor.engine.schema.base import Request, request_type, request_types


def leaves(kind: type[Request]) -> list[type[Request]]:
    below = kind.__subclasses__()
    return [leaf for sub in below for leaf in leaves(sub)] if below else [kind]


def test_every_request_is_in_the_index_under_its_topic() -> None:
    package = monitor.engine.schema
    for found in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{found.name}")
    declared = {
        request.qmp_name(): request.__module__
        for request in leaves(Request)
        if request.__module__.startswith(package.__name__)
    }
    indexed = {
        name: f"{package.__name__}.{topic}"
        for topic, names in package.REQUESTS.items()
        for name in names
    }
    assert indexed == declared
    assert all(request.qmp_name() == name for name, request in request_types().items())


def test_every_command_is_in_the_index_under_its_topic() -> None:
    package = monitor.commands
    for found in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{found.name}")
    declared = {
        name: each.handler.__module__
        for name, each in commands().items()
        if each.handler.__module__.startswith(package.__name__)
    }
    indexed = {
        name: f"{package.__name__}.{topic}"
        for topic, names in package.COMMANDS.items()
        for name in names
    }
    assert indexed == declared
    assert all(name in (each.name, *each.aliases) for name, each in commands().items())


def test_what_nobody_declares_is_not_there() -> None:
    assert request_type("no-such-request") is None
    assert "no-such-command" not in commands()
    with pytest.raises(KeyError):
        commands()["no-such-command"]
