"""A command's answer in the forms of ``--output=``: tables, CSV, JSON.

They are made from the answer's data, so that every command has all of them. Nested members become
columns with dotted names (``image.virtual-size``); a list inside is one cell of JSON. Columns are
those of all rows, in the order in which they first appear, so that CSV of one command always has
the same names in front.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

Row = dict[str, str]


def render(data: Any, form: str, columns: int | None = None, chosen: Sequence[str] = ()) -> str:
    """``data`` in ``form`` (``forms.FORMATS`` but text). A table has the ``chosen`` columns, or
    all; one that is wider than ``columns`` is shown as vertical."""
    plain = msgspec.to_builtins(data)
    return _table(plain, columns, chosen) if form == "table" else _FORMS[form](plain)


def _json(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False)


def _jsonl(data: Any) -> str:
    values = data if isinstance(data, list) else [data]
    return "\n".join(json.dumps(value, ensure_ascii=False) for value in values)


def _table(data: Any, columns: int | None, chosen: Sequence[str]) -> str:
    names, rows = _rows(data)
    if chosen:
        rows = [{name: row[name] for name in chosen if name in row} for row in rows]
        names = [name for name in chosen if any(name in row for row in rows)]
    shown = [name for name in names if any(row.get(name) for row in rows)]
    cells = [shown, *([_one_line(row.get(name, "")) for name in shown] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    if not shown:
        return ""
    if columns is not None and sum(widths) + 2 * (len(widths) - 1) > columns:
        return _records(rows)
    right = [_is_numeric(row.get(name, "") for row in rows) for name in shown]
    lines = [_aligned(line, widths, right) for line in cells]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(lines)


def _vertical(data: Any) -> str:
    return _records(_rows(data)[1])


def _records(rows: list[Row]) -> str:
    width = max((_width(name) for row in rows for name in row), default=0)
    records = []
    for number, row in enumerate(rows, 1):
        head = [f"── {number} ──"] if len(rows) > 1 else []
        lines = (
            f"{name}{' ' * (width - _width(name))}  {_one_line(value)}"
            for name, value in row.items()
        )
        records.append("\n".join([*head, *lines]))
    return "\n".join(records)


def _csv(data: Any) -> str:
    names, rows = _rows(data)
    lines = [",".join(map(_csv_cell, names))] if names else []
    lines += [",".join(_csv_cell(row.get(name, "")) for name in names) for row in rows]
    return "\n".join(lines)


_FORMS: dict[str, Callable[[Any], str]] = {
    "vertical": _vertical,
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
}


def _csv_cell(text: str) -> str:
    if any(c in text for c in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


# From data to rows


def _rows(data: Any) -> tuple[list[str], list[Row]]:
    """Names of all columns, and each row's cells by name."""
    values = data if isinstance(data, list) else [data]
    rows = [_flat(value) for value in values]
    return list(dict.fromkeys(name for row in rows for name in row)), rows


def _flat(value: Any) -> Row:
    if not isinstance(value, dict):
        return {"value": _cell(value)}
    found: Row = {}
    # A stack in place of recursion: a chain of backing images may nest deeper than Python.
    stack: list[tuple[str, Any]] = list(reversed(value.items()))
    while stack:
        name, part = stack.pop()
        if isinstance(part, dict) and part:
            stack += [(f"{name}.{inner}", below) for inner, below in reversed(part.items())]
        else:
            found[name] = _cell(part)
    return found


def _cell(value: Any) -> str:
    if value is None or value == {}:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# On the screen


def _one_line(text: str) -> str:
    return text.replace("\n", "↵") if "\n" in text else text


def _width(text: str) -> int:
    from monitor.language.syntax import columns_of

    return columns_of(text)


def _is_numeric(cells: Iterable[str]) -> bool:
    return all(cell.lstrip("-").replace(".", "", 1).isdigit() for cell in cells if cell)


def _aligned(cells: list[str], widths: list[int], right: list[bool]) -> str:
    return "  ".join(
        " " * (width - _width(cell)) + cell if flush else cell + " " * (width - _width(cell))
        for cell, width, flush in zip(cells, widths, right, strict=True)
    ).rstrip()
