"""docs/commands.md is what the declarations say."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.commands.reference import reference
from monitor.commands.registry import commands
from monitor.engine.schema.base import request_types
from monitor.engine.schema.events import event_types

FILE = Path(__file__).parents[3] / "docs" / "commands.md"


def test_the_file_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == reference(), (
        "run: python -m monitor.commands.reference > docs/commands.md"
    )


@pytest.mark.parametrize(
    "name",
    sorted(
        {declared.name for declared in commands().values()}
        | request_types().keys()
        | event_types().keys()
    ),
)
def test_everything_has_a_heading(name: str) -> None:
    assert f"\n### {name}\n" in reference()
