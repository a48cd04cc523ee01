"""``&`` at the end of a command: nobody waits for it at a prompt; elsewhere it changes nothing."""

from __future__ import annotations

import pytest

from monitor.language.outputs import Output
from monitor.language.parser import Invocation, parse_script
from monitor.language.variables import Scope


def parsed(text: str) -> list[Invocation]:
    return parse_script(text, "", scope=Scope())


@pytest.mark.parametrize(
    ("text", "background"),
    [
        ("wait d0 &", True),
        ("block_stream d0 & # and on", True),
        ("info jobs > jobs.txt &", True),
        ("info jobs --output=json &", True),
        ("wait d0", False),
        ("info jobs | cat &", False),
        ('create "&" 1M', False),
        ("create a&b 1M", False),
    ],
)
def test_where_it_is_meant(text: str, background: bool) -> None:
    (invocation,) = parsed(text)
    output = invocation.output or Output()
    assert output.background is background
    assert output.shell == ("cat &" if "|" in text else "")
    assert "&" not in invocation.arguments.get("jobs", [])


def test_each_command_of_a_line_has_its_own() -> None:
    first, second = parsed("wait d0 & ; wait d1")
    assert first.output == Output(background=True)
    assert second.output is None
