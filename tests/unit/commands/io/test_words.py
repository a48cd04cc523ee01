"""qemu-io's words: texts are those that qemu-io 7.2 prints."""

from __future__ import annotations

import pytest

from monitor.commands.io.usage import USAGES
from monitor.commands.io.words import (
    Arguments,
    IoMistake,
    parse_arguments,
    parse_number,
    parse_pattern,
    split,
)


def parsed(line: str) -> Arguments:
    name, *words = split(line)
    return parse_arguments(USAGES[name], words)


def test_only_the_space_parts_words() -> None:
    assert split('  read  "0"\t1 ') == ["read", '"0"\t1']


def test_options_anywhere_and_together() -> None:
    arguments = parsed("read 0 -vqP0x61 64k -l 5 -s 6")
    assert arguments.flags == set("vqPls")
    assert (arguments.pattern, arguments.length, arguments.start) == (0x61, 5, 6)
    assert arguments.words == ["0", "64k"]


def test_two_dashes_end_the_options() -> None:
    assert parsed("read -q -- 0 -v").words == ["0", "-v"]


def test_s_of_write_names_a_file() -> None:
    assert parsed("write -s some.file 0 1").flags == {"s"}


READ = USAGES["read"].line


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("write", "bad argument count 0 to write, expected at least 2 arguments"),
        ("length x", "bad argument count 1 to length, expected 0 arguments"),
        ("alloc", "bad argument count 0 to alloc, expected between 1 and 2 arguments"),
        ("read -x 0 1", f"read: invalid option -- 'x'\n{READ}"),
        ("read -: 0 1", f"read: invalid option -- ':'\n{READ}"),
        ("read -1 1", f"read: invalid option -- '1'\n{READ}"),
        ("read 0 1 -P", f"read: option requires an argument -- 'P'\n{READ}"),
        ("read -P 300 -x 0 1", "300 is not a valid pattern byte"),
        (
            "read -s x -P 300 0 1",
            "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- x",
        ),
    ],
)
def test_mistakes_in_the_order_of_the_words(line: str, text: str) -> None:
    with pytest.raises(IoMistake) as caught:
        parsed(line)
    assert caught.value.text == text


def test_usage_lines() -> None:
    assert READ == (
        "read [-abCqv] [-P pattern [-s off] [-l len]] off len"
        " -- reads a number of bytes at a specified offset"
    )
    assert USAGES["map"].line == "map  -- prints the allocated areas of a file"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("010", 10),
        ("0x10", 16),
        ("64k", 65536),
        ("1.5K", 1536),
        ("1.", 1),
        ("+5", 5),
        ("0b", 0),
        ("7E", 7 << 60),
    ],
)
def test_numbers(text: str, value: int) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text", ["x", "1q", '"0"', "-", "1e3", ".5k", "0x", "0x1.5k", "1.5", "64kB"]
)
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(IoMistake, match="Parsing error: non-numeric argument"):
        parse_number(text)


@pytest.mark.parametrize(
    "text", ["8E", "20E", "99999999999999999999", "9223372036854775808", "0xfffffffffffffffff"]
)
def test_numbers_that_are_too_large(text: str) -> None:
    with pytest.raises(IoMistake) as caught:
        parse_number(text)
    assert caught.value.text == f"Parsing error: argument too large -- {text}"


@pytest.mark.parametrize(
    ("text", "value"), [("97", 97), ("0x61", 97), ("010", 8), ("+5", 5), ("-0", 0), ("0", 0)]
)
def test_patterns(text: str, value: int) -> None:
    assert parse_pattern(text) == value


@pytest.mark.parametrize("text", ["256", "-1", "abc", "0x", "08", "", "1k"])
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(IoMistake) as caught:
        parse_pattern(text)
    assert caught.value.text == f"{text} is not a valid pattern byte"
