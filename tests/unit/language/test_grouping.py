"""``transaction(`` … ``)``: one request of several lines; mistakes, failures, completion."""

from __future__ import annotations

from typing import Any

import pytest

from monitor.engine.api import Name
from monitor.engine.errors import MonitorError
from monitor.engine.schema.graph import BlockdevSnapshot
from monitor.engine.schema.transaction import RehearseTransaction, Transaction
from monitor.language.assembling import is_complete
from monitor.language.completion import suggest
from monitor.language.hints import explain
from monitor.language.parser import Invocation, ScriptErrors, parse_script
from monitor.language.variables import Scope

TWO = "transaction(\n  blockdev-snapshot node=n0 overlay=ov\n  # so far\n  abort\n)"


class Catalogue:
    def names(self, kind: str, verb: str = "", of: str = "") -> list[Name]:
        return [Name("n0", ""), Name("overlays", "")] if kind in ("node", "device") else []


def read(text: str, **variables: str) -> Invocation:
    (found,) = parse_script(text, "f", 1, Scope(variables, {}, lambda path: ""))
    return found


def request(text: str, **variables: str) -> Any:
    return read(text, **variables).request


def test_lines_become_actions() -> None:
    made = request(TWO)
    assert isinstance(made, Transaction)
    assert [type(action).__struct_config__.tag for action in made.actions] == [
        "blockdev-snapshot",
        "abort",
    ]
    assert made.actions[0].data == BlockdevSnapshot(node="n0", overlay="ov")


@pytest.mark.parametrize(
    "text", ["transaction( )", "transaction( abort )", "!transaction( abort )"]
)
def test_on_one_line(text: str) -> None:
    assert len(request(text).actions) == text.count("abort")


def test_a_group_is_whole_when_its_bracket_is_closed() -> None:
    lines = TWO.split("\n")
    assert [is_complete("\n".join(lines[:n])) for n in range(1, 6)] == [False] * 4 + [True]
    assert not is_complete("transaction --dry-run --grouped(\nabort")
    assert not is_complete("transaction completion-mode=grouped (\nabort")
    assert is_complete("transaction completion-mode=grouped (\nabort\n)")


@pytest.mark.parametrize("head", ["-transaction(", "! transaction(", "-transaction --dry-run("])
def test_a_mark_before_a_group(head: str) -> None:
    text = f"{head}\n  abort\n)"
    assert not is_complete(head)
    assert is_complete(text)
    assert read(text).mark == head[0]


@pytest.mark.parametrize("head", ["transaction (", "transaction --dry-run\t(", "-transaction ("])
def test_a_blank_before_the_bracket(head: str) -> None:
    assert not is_complete(head)
    assert len(request(f"{head}\n  abort\n)").actions) == 1


def test_a_group_begins_where_a_command_does() -> None:
    for text in ("echo -transaction(", "echo a -transaction (", "echo transaction ("):
        assert is_complete(text), text


def test_flags() -> None:
    made = request("transaction --dry-run --grouped(\n abort\n)")
    assert isinstance(made, RehearseTransaction)
    assert made.properties.completion_mode == "grouped"  # type: ignore[union-attr]
    plain = request('transaction --dry-run actions=[{"type":"abort","data":{}}]')
    assert isinstance(plain, RehearseTransaction)
    assert isinstance(request('transaction actions=[{"type":"abort","data":{}}]'), Transaction)


def test_variables_are_expanded() -> None:
    made = request("transaction(\nblockdev-snapshot node=$node overlay=ov\n)", node="n7")
    assert made.actions[0].data.node == "n7"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("transaction(\n quit\n)", [(2, 2, "'quit' can be no action of a transaction")]),
        ("transaction(\n abrt\n)", [(2, 2, "'abrt' can be no action of a transaction")]),
        ("transaction(\n abort now\n)", [(2, 8, "'abort' takes no arguments")]),
        ("transaction(\n -abort\n)", [(2, 2, "the actions of a transaction fail together")]),
        ("transaction(\ntransaction( abort )\n)", [(2, 1, "'transaction' can be no action")]),
        ("transaction --dri( abort )", [(1, 13, "no such flag: --dri")]),
        ("transaction a=b (\nquit\n)", [(1, 13, "no such flag: a=b")]),
        ("-transaction --dry-run x( # on\nquit\n)", [(1, 24, "no such flag: x")]),
        ("transaction a=b (\nquit\n)\nnope", [(1, 13, "no such flag"), (4, 1, "unknown")]),
        ("commit(\nquit\n)", [(1, 1, "'commit' takes no commands in brackets")]),
        ("transactoin(\nabort\n)", [(1, 1, "unknown command: 'transactoin'")]),
        (
            "transaction(\nblockdev-snapshot node=n0\nabort\nnope\n)",
            [(2, 26, "'overlay' is missing"), (4, 1, "'nope' can be no action")],
        ),
    ],
)
def test_mistakes(text: str, places: list[tuple[int, int, str]]) -> None:
    """Each mistake is told at its own line."""
    with pytest.raises(ScriptErrors) as failure:
        read(text)
    found = failure.value.errors
    assert [(e.line, e.column) for e in found] == [(line, column) for line, column, _ in places]
    for error, (_, _, words) in zip(found, places, strict=True):
        assert error.text.startswith(words)


def test_properties_are_a_flag_before_the_bracket() -> None:
    with pytest.raises(ScriptErrors) as failure:
        read("transaction(\nproperties.completion-mode=grouped\nabort\n)")
    (error,) = failure.value.errors
    assert error.hint == "transaction --grouped( makes the jobs that it begins end together"


def test_a_failed_action_is_named_with_its_line() -> None:
    class Failed(MonitorError):
        template = "An IO error has occurred"

    invocation = read(TWO)
    error = Failed()
    error.failed_action = 1
    explain(error, invocation, Catalogue())
    assert error.hint == "in action 2, abort (line 4): all is undone"
    assert error.mark is not None
    assert error.mark.caret() == "  abort\n  ^^^^^"


def test_the_name_that_does_not_exist_gets_the_caret() -> None:
    class Failed(MonitorError):
        template = "Cannot find device='overlay' nor node-name='overlay'"

    invocation = read("transaction(\nabort\nblockdev-snapshot node=overlay overlay=ov\n)")
    error = Failed()
    error.failed_action = 1
    explain(error, invocation, Catalogue())
    assert error.mark is not None
    assert error.mark.caret().endswith("\n" + " " * 23 + "^" * 7)
    assert error.hint is not None
    assert error.hint.endswith("did you mean 'overlays'?")


def test_typed_as_json_the_action_is_named_too() -> None:
    class Failed(MonitorError):
        template = "Transaction aborted using Abort action"

    error = Failed()
    error.failed_action = 0
    explain(error, read('transaction {"actions": [{"type":"abort","data":{}}]}'), Catalogue())
    assert error.hint == "in action 1, abort: all is undone"


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("transaction(\nblockdev-sn", "blockdev-snapshot"),
        ("transaction --dry-run( ab", "abort"),
        ("transaction(\nblockdev-snapshot node=n0 ov", "overlay="),
        ("transaction(\nblockdev-snapshot node=", "n0"),
        ("transaction --d", "--dry-run"),
        ("transaction(\nabort\n)\nquery-block-j", "query-block-jobs"),
    ],
)
def test_completion(text: str, first: str) -> None:
    candidates = suggest(text, Catalogue())
    assert getattr(candidates[0], "text", None) == first


def test_no_command_is_offered_that_is_no_action() -> None:
    offered = [getattr(each, "text", "") for each in suggest("transaction(\n", Catalogue())]
    assert "abort" in offered
    assert "quit" not in offered
