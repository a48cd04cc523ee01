"""Forms of output, made from an answer's data."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.shell.formats import render

DATA = [
    {"name": "n0", "size": 512, "image": {"file": "a,b", "flags": [1, 2]}, "ro": True},
    {"name": "long", "size": 7, "image": {"file": None, "flags": []}, "ro": False},
]


def test_table_aligns_numbers_to_the_right_and_drops_what_is_always_empty() -> None:
    data = [{**row, "empty": None} for row in DATA]
    assert render(data, "table") == (
        "name  size  image.file  image.flags  ro\n"
        "────  ────  ──────────  ───────────  ─────\n"
        "n0     512  a,b         [1,2]        true\n"
        "long     7              []           false"
    )


def test_table_of_chosen_columns() -> None:
    assert render(DATA, "table", None, ("ro", "name", "missing")).splitlines()[0] == "ro     name"


def test_a_table_that_is_too_wide_is_vertical() -> None:
    assert render(DATA, "table", 20, ("name", "size")) == render(
        [{"name": row["name"], "size": row["size"]} for row in DATA], "table"
    )
    assert render(DATA, "table", 8, ("name", "size")) == (
        "── 1 ──\nname  n0\nsize  512\n── 2 ──\nname  long\nsize  7"
    )


def test_wide_characters_take_two_columns() -> None:
    assert render([{"a": "日本", "b": 1}, {"a": "x", "b": 2}], "table").splitlines()[2:] == [
        "日本  1",
        "x     2",
    ]


def test_json_and_jsonl() -> None:
    assert json.loads(render(DATA, "json")) == DATA
    assert [json.loads(line) for line in render(DATA, "jsonl").splitlines()] == DATA


@pytest.mark.parametrize("form", ["table", "vertical", "json", "jsonl", "csv"])
@pytest.mark.parametrize("data", [[], {}, None, 5, "text", [1, 2], [[1]], {"a": {}}])
def test_any_data_has_every_form(form: str, data: Any) -> None:
    assert isinstance(render(data, form, 40), str)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.text(), min_size=1), min_size=1))
def test_csv_is_read_again_as_it_was(rows: list[dict[str, str]]) -> None:
    text = render(rows, "csv")
    read = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(names) > 1:  # a row of one empty cell is an empty line, which readers leave out
        assert read == [{name: row.get(name, "") for name in names} for row in rows]
