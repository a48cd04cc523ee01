"""Numbers and switches as text, read as QEMU 7.2 does (strtol with base 0, qemu_strtosz)."""

from __future__ import annotations

import pytest

from monitor.engine.schema.scalars import parse_bool, parse_int64, parse_size, parse_uint64


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("42", 42),
        ("-42", -42),
        ("+42", 42),
        (" \t42", 42),
        ("0x10", 16),
        ("-0X1f", -31),
        ("010", 8),
        ("00", 0),
        ("9223372036854775807", (1 << 63) - 1),
        ("-9223372036854775808", -(1 << 63)),
        ("9223372036854775808", None),
        ("1" * 100_000, None),
        ("42 ", None),
        ("64k", None),
        ("0x", None),
        ("08", None),
        ("1.0", None),
        ("", None),
        ("-", None),
        ("\u0663", None),
    ],
)
def test_int64(text: str, value: int | None) -> None:
    assert parse_int64(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18446744073709551615", (1 << 64) - 1),
        ("18446744073709551616", None),
        ("-1", (1 << 64) - 1),
        ("-18446744073709551615", 1),
        ("-18446744073709551616", None),
    ],
)
def test_uint64_wraps_as_strtoull_does(text: str, value: int | None) -> None:
    assert parse_uint64(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("65536", 65536),
        ("64k", 65536),
        ("64K", 65536),
        ("1b", 1),
        ("1.5k", 1536),
        ("1.k", 1024),
        ("1.", 1),
        ("0.1m", 104857),
        ("1.0", 1),
        ("010", 10),
        ("+1", 1),
        (" 1", 1),
        ("0x10", 16),
        ("0x10k", 16384),
        ("2T", 2 << 40),
        ("15.9E", 18331451923248866944),
        ("16E", None),
        ("99999999999999999999", None),
        ("1.5", None),
        (".5k", None),
        ("1kB", None),
        ("1KiB", None),
        ("1e3", None),
        ("1.5e3k", None),
        ("0x1.8", None),
        ("0x", None),
        ("-1", None),
        ("1 ", None),
        ("1x", None),
        ("", None),
        ("9" * 100_000, None),
    ],
)
def test_size(text: str, value: int | None) -> None:
    assert parse_size(text) == value


def test_a_size_without_a_unit_has_the_callers() -> None:
    assert parse_size("4", "M") == 4 << 20
    assert parse_size("4k", "M") == 4096
    assert parse_size("0.5", "M") == 512 << 10


@pytest.mark.parametrize("text", ["on", "yes", "true", "y"])
def test_on(text: str) -> None:
    assert parse_bool(text) is True


@pytest.mark.parametrize("text", ["off", "no", "false", "n"])
def test_off(text: str) -> None:
    assert parse_bool(text) is False


@pytest.mark.parametrize("text", ["ON", "t", "1", "", " on", "None"])
def test_neither_on_nor_off(text: str) -> None:
    assert parse_bool(text) is None
