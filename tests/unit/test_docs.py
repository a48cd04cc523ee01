"""What docs/ refers to exists: tests by their names, transcripts, source files, other pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monitor.engine.drivers import registry

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])

_TEST = re.compile(r"`((?:unit|interop|shell|conformance)/[\w/]+\.py)(?:::(\w+))?`")
_PATH = re.compile(r"`((?:monitor|transcripts|tests|bench)/[\w/.-]*)`")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [f"{path}::{name}" for path, name in _TEST.findall(text) if not _has(path, name)]
    missing += [path for path in _PATH.findall(text) if not (ROOT / path).exists()]
    missing += [link for link in _LINK.findall(text) if not (page.parent / link).exists()]
    assert missing == []


def _has(path: str, name: str) -> bool:
    file = ROOT / "tests" / path
    return file.is_file() and (not name or f"def {name}(" in file.read_text(encoding="utf-8"))


def test_all_behaviours_are_held() -> None:
    page = (ROOT / "docs/behaviours.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", page, re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 63))
    assert all(_TEST.search(shown) for _, shown in rows)


def test_the_drivers_that_are_there() -> None:
    page = (ROOT / "docs/differences.md").read_text(encoding="utf-8")
    listed = re.search(r"drivers other than (.*?);", page, re.S)
    assert listed is not None
    assert re.findall(r"`([\w-]+)`", listed[1]) == sorted(registry.driver_names())


def test_decisions_are_numbered_through() -> None:
    numbers = sorted(int(path.name[:4]) for path in ROOT.glob("docs/decisions/*.md"))
    assert numbers == list(range(1, len(numbers) + 1))
