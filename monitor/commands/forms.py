"""Forms that an answer can be shown in."""

from __future__ import annotations

FORMATS = {
    "text": "the command's own text",
    "table": "rows and columns; on a terminal too narrow for it as vertical",
    "vertical": "a line a value",
    "json": "one JSON value, indented",
    "jsonl": "one JSON value a line and element",
    "csv": "comma separated values below a line of names (RFC 4180)",
}
"""Forms of output, and what each is."""
