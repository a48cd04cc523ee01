"""Imports point down only: the directions of the house, read from the source itself.

An import inside a function counts too, being a dependency all the same; one that only type
checking sees does not.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import monitor

ROOT = Path(monitor.__file__).parent

NOTHING = frozenset[str]()
DOOR = frozenset({"monitor.engine.api", "monitor.engine.schema", "monitor.engine.errors"})
# QEMU's dialect of JSON, and its order of members.
JSON = frozenset({"monitor.wire.qmpjson", "monitor.wire.qmpstream"})


def engine(*names: str) -> frozenset[str]:
    return frozenset(f"monitor.engine.{name}" for name in names)


def commands(*names: str) -> frozenset[str]:
    return frozenset(f"monitor.commands.{name}" for name in names)


TOOLS = engine(
    "accounting",
    "arrays",
    "bitmap",
    "bitmapwords",
    "bits",
    "clock",
    "errors",
    "latency",
    "names",
    "permissions",
    "schema",
    "throttle",
    "units",
    "workers",
)
"""What every part of the engine may use: it knows no node."""

CONTRACT = engine("drivers.base", "drivers.buffers", "drivers.ranges")
"""What is the same for all drivers. The rest of the engine knows no driver but by its name
(``registry``), unless it is said here."""

GRAPH = TOOLS | CONTRACT | engine("graph", "objects")

ALLOWED: dict[str, frozenset[str]] = {
    "monitor.wire": NOTHING,
    "monitor.engine.schema": engine("errors") | JSON,
    "monitor.engine.api": engine("schema", "errors"),
    **dict.fromkeys(TOOLS - engine("schema"), TOOLS),
    "monitor.engine.errors": NOTHING,
    "monitor.engine.clock": NOTHING,
    "monitor.engine.arrays": NOTHING,
    "monitor.engine.workers": NOTHING,
    "monitor.engine.objects": TOOLS,
    "monitor.engine.drivers": TOOLS | engine("objects") | {"monitor.wire.nbd"},
    "monitor.engine.graph": GRAPH | engine("drivers.between_files", "drivers.registry") | JSON,
    "monitor.engine.images": GRAPH
    | engine("drivers.registry", "drivers.file.create", "drivers.qcow2.create"),
    "monitor.engine.io": GRAPH,
    "monitor.engine.throwaway": GRAPH | engine("images"),
    "monitor.engine.drive_place": TOOLS,
    "monitor.engine.drive_limits": TOOLS,
    "monitor.engine.drive_statistics": TOOLS,
    "monitor.engine.drive_options": TOOLS
    | engine("drive_limits", "drive_place", "drive_statistics"),
    "monitor.engine.export": GRAPH,
    "monitor.engine.exports": GRAPH | engine("api", "export"),
    "monitor.engine.jobs": GRAPH
    | engine("api", "images", "drivers.active_writes", "drivers.between_files")
    | engine("drivers.copy_on_read", "drivers.job_filters", "drivers.zeroes"),
    "monitor.engine.jobs.create": GRAPH | engine("images", "jobs", "drivers.qcow2.create"),
    "monitor.engine.transaction": engine("errors", "graph", "handlers", "jobs.group", "schema"),
    "monitor.engine.node_snapshots": GRAPH | engine("embedded", "transaction"),
    "monitor.engine.disk_snapshots": GRAPH | engine("embedded", "node_snapshots", "transaction"),
    "monitor.engine.embedded": GRAPH | engine("api", "exports", "handlers", "jobs.manager"),
    "monitor.engine.handlers": GRAPH
    | engine("api", "disk_snapshots", "drive_options", "drive_place", "drive_statistics")
    | engine("embedded", "exports", "images", "io", "jobs", "node_snapshots", "throwaway")
    | engine("transaction")
    | engine("drivers.blkdebug", "drivers.copy_before_write", "drivers.registry"),
    "monitor.servers": DOOR | {"monitor.wire"},
    "monitor.commands": DOOR | JSON,
    # The words of commands, and what they mean; not how they are carried out or shown.
    "monitor.language": DOOR
    | commands("forms", "macros", "registry", "settings", "topics")
    | commands("io.flags", "io.usage", "io.words"),
    "monitor.shell": DOOR
    | commands(
        "advice", "errors", "outcomes", "registry", "render", "session", "settings", "waiting"
    )
    | {"monitor.language", "monitor.options", "monitor.wire.qmp"}
    | JSON
    | {f"monitor.servers.{name}" for name in ("channel", "door", "doors", "qmp")},
    "monitor.shell.engines": DOOR
    | {"monitor.engine.embedded", "monitor.servers.fuse", "monitor.servers.nbd"},
    "monitor.options": frozenset({"monitor.usage", "monitor.servers.door"}),
    "monitor.usage": DOOR | {"monitor.commands", "monitor.options", "monitor.servers.door"},
    "monitor.cli": frozenset({"monitor.engine.errors", "monitor.options", "monitor.shell"}),
    "monitor.__main__": frozenset({"monitor.cli"}),
    "monitor.pytest_plugin": frozenset({"monitor.engine.errors", "monitor.shell"}),
    "monitor.addresses": frozenset({"monitor.engine.errors"}),
    "monitor.bytopic": NOTHING,
    "monitor.nearest": NOTHING,
    "monitor.sizes": frozenset({"monitor.engine.schema"}),
    "monitor.version": NOTHING,
}
"""A part of the house -> what it may import, itself aside. The longest name that fits counts."""

# What a person's side of the house must never see of the engine.
INSIDE = ("graph", "drivers", "jobs", "handlers")

# Plain helpers, which know no node and no command: anybody's.
COMMON = frozenset(
    {"monitor.addresses", "monitor.bytopic", "monitor.nearest", "monitor.sizes", "monitor.version"}
)

THIRD_PARTY = {
    "cryptography": {"monitor.engine.objects"},
    "lark": {"monitor.language.grammar"},
    "prompt_toolkit": {"monitor.shell"},
    "pygments": {"monitor.shell"},
    "numpy": {"monitor.engine.arrays"},
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


def _allowed(module: str, imported: str) -> bool:
    part = part_of(module)
    if imported in COMMON or part_of(imported) == part or within(imported, part):
        return True
    return any(within(imported, other) for other in ALLOWED.get(part, NOTHING))


def test_imports_point_down() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module in modules()
        for imported in sorted(imports(module))
        if within(imported, "monitor") and not _allowed(module, imported)
    ]
    assert wrong == []


def test_every_module_has_its_place() -> None:
    packages = {"monitor", "monitor.engine"}  # nothing but a docstring
    homeless = [m for m in modules() if part_of(m) not in ALLOWED and m not in packages]
    assert homeless == []
    assert not any(imports(package) for package in packages)


def test_a_persons_side_sees_no_node_job_or_driver() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module in modules()
        if within(module, "monitor.commands") or within(module, "monitor.shell")
        for imported in sorted(imports(module))
        if any(within(imported, f"monitor.engine.{inside}") for inside in INSIDE)
    ]
    assert wrong == []


def test_packages_of_others_stay_where_they_belong() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module in modules()
        for imported in sorted(imports(module))
        for part in THIRD_PARTY.get(imported.split(".")[0], {"monitor"})
        if not within(module, part)
    ]
    assert wrong == []


def test_a_wrong_direction_would_be_found() -> None:
    """The rules above are not vacuous: the walk sees what is there."""
    assert "monitor.engine.embedded" in imports("monitor.shell.engines")
    assert part_of("monitor.engine.graph.node") == "monitor.engine.graph"
    assert part_of("monitor.language.parser") == "monitor.language"
    assert not _allowed("monitor.engine.drivers.raw", "monitor.engine.graph.node")
    assert not _allowed("monitor.language.parser", "monitor.engine.embedded")
