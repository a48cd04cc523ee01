"""Declarations: patterns, HMP's parameter texts, and that every command is whole."""

from __future__ import annotations

import inspect

import pytest

from monitor.commands.registry import Argument, command, commands, parse_pattern
from monitor.language.parser import parse_script
from monitor.language.variables import Scope


def test_a_pattern_of_flags_and_optional_arguments() -> None:
    force, device, speed = parse_pattern("force:-f,device:B,speed:o?")
    assert (force.flag, force.kind) == ("-f", "-f")
    assert device == Argument("device", "B")
    assert speed == Argument("speed", "o", optional=True)


def test_a_verb_narrows_the_jobs() -> None:
    assert parse_pattern("device:J/complete") == (Argument("device", "J", verb="complete"),)


def test_options_with_values() -> None:
    timeout, fmt = parse_pattern("timeout:--timeout=T,fmt:-f=s")
    assert timeout == Argument("timeout", "T", optional=True, option="--timeout")
    assert fmt == Argument("fmt", "s", optional=True, option="-f")
    assert fmt.flag is None


def test_choices_and_lists() -> None:
    mode, jobs = parse_pattern("mode:e(a|b),jobs:J*")
    assert mode.choices == ("a", "b")
    assert jobs.many
    assert jobs.optional


def test_a_command_cannot_be_declared_twice() -> None:
    assert commands()["quit"].name == "quit"
    with pytest.raises(ValueError, match="'quit' is declared twice"):
        command("quit", help="again")(lambda: None)  # type: ignore[arg-type, return-value]


DECLARED = sorted({declared.name: declared for declared in commands().values()}.items())


@pytest.mark.parametrize(("name", "declared"), DECLARED, ids=[name for name, _ in DECLARED])
def test_every_declaration_is_whole(name: str, declared: object) -> None:
    command = commands()[name]
    taken = list(inspect.signature(command.handler).parameters)[1:]
    assert taken == [argument.name for argument in command.arguments]
    assert set(command.arguments_help) <= set(taken)
    assert command.help
    assert command.example
    parsed = parse_script(command.example, "example", scope=Scope())
    assert command in [invocation.command for invocation in parsed]
