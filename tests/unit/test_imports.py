"""Imports point down only: the directions of the house, read from the source itself.

An import inside a function counts too, being a dependency all the same; one that only type
checking sees does not.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import monitor

ROOT = Path(monitor.__file__).parent

STDLIB_ONLY = frozenset[str]()
DOOR = frozenset({"monitor.engine.api", "monitor.engine.schema", "monitor.engine.errors"})
JSON = frozenset({"monitor.wire.qmpjson"})  # QEMU's dialect, and its order of members

ALLOWED: dict[str, frozenset[str]] = {
    "monitor.wire": STDLIB_ONLY,
    "monitor.engine.errors": STDLIB_ONLY,
    "monitor.engine.clock": STDLIB_ONLY,
    "monitor.engine.schema": frozenset({"monitor.engine.errors"}) | JSON,
    "monitor.engine.api": frozenset({"monitor.engine.schema", "monitor.engine.errors"}),
    "monitor.engine": frozenset({"monitor.wire", "monitor.version"}),
    "monitor.servers": DOOR | {"monitor.wire"},
    "monitor.commands": DOOR | JSON,
    "monitor.shell": frozenset({"monitor"}),
    "monitor.cli": frozenset({"monitor"}),
    "monitor.options": frozenset({"monitor.usage", "monitor.servers.door"}),
    "monitor.usage": frozenset({"monitor"}),
    "monitor.__main__": frozenset({"monitor.cli"}),
    "monitor.pytest_plugin": frozenset({"monitor"}),
    "monitor.version": STDLIB_ONLY,
    "monitor.nearest": STDLIB_ONLY,
    "monitor.sizes": frozenset({"monitor.engine.schema"}),
    "monitor.language": DOOR | {"monitor.commands", "monitor.nearest", "monitor.sizes"},
}
"""A part of the house -> what it may import, itself aside. The longest name that fits counts."""

# What a person's side of the house must never see of the engine.
INSIDE = ("graph", "drivers", "jobs", "handlers")

# Plain helpers, which know no node and no command: anybody's.
COMMON = frozenset({"monitor.bytopic", "monitor.nearest", "monitor.sizes", "monitor.version"})

THIRD_PARTY = {
    "cryptography": {"monitor.engine.objects"},
    "lark": {"monitor.language.grammar"},
    "prompt_toolkit": {"monitor.shell"},
    "pygments": {"monitor.shell"},
    "numpy": {"monitor.engine"},
    "pyroaring": {"monitor.engine"},
    "pytest": {"monitor.pytest_plugin"},
    "zstandard": {"monitor.engine.drivers"},
}
"""A package -> the parts that may import it. msgspec is the schema's and everybody's."""


def modules() -> list[str]:
    """Every module of the package."""
    names = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


@functools.cache
def imports(module: str) -> frozenset[str]:
    """The modules that ``module`` imports at run time, anywhere in its text."""
    path = ROOT.parent.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(found for node in _run_time(tree) for found in _named(node))


def _run_time(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _run_time(node)


def _named(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.module is not None, "imports name the whole module"
        # ``from package import module`` depends on the module, not on its package's siblings.
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in _known() else node.module for name in names]
    return []


@functools.cache
def _known() -> frozenset[str]:
    return frozenset(modules())


def within(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


def part_of(module: str) -> str:
    """The part of the house that a module belongs to."""
    return max((part for part in ALLOWED if within(module, part)), key=len, default="monitor")


@pytest.mark.parametrize("module", modules())
def test_imports_point_down(module: str) -> None:
    part = part_of(module)
    for imported in sorted(imports(module)):
        if not imported.startswith("monitor.") or imported in COMMON:
            continue
        own = part_of(imported) == part or within(imported, part)
        allowed = any(within(imported, other) for other in ALLOWED[part])
        assert own or allowed, f"{module} imports {imported}"


@pytest.mark.parametrize("module", modules())
def test_a_persons_side_sees_no_node_job_or_driver(module: str) -> None:
    if not (within(module, "monitor.commands") or within(module, "monitor.shell")):
        return
    for imported in imports(module):
        for inside in INSIDE:
            assert not within(imported, f"monitor.engine.{inside}"), f"{module}: {imported}"


@pytest.mark.parametrize("module", modules())
def test_packages_of_others_stay_where_they_belong(module: str) -> None:
    for imported in imports(module):
        for part in THIRD_PARTY.get(imported.split(".")[0], {"monitor"}):
            assert within(module, part), f"{module} imports {imported}"


def test_a_wrong_direction_would_be_found() -> None:
    """The rules above are not vacuous: the walk sees what is there."""
    assert "monitor.engine.embedded" in imports("monitor.shell.engines")
    assert part_of("monitor.engine.graph.node") == "monitor.engine"
    assert part_of("monitor.language.parser") == "monitor.language"
