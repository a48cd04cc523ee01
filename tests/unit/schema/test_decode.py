"""The decoding walk. Every sentence here was said by qemu-storage-daemon 7.2 for the same input
(tests/interop/test_decode.py asks it again)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from monitor.engine.graph.policy import allow_deep_reads
from monitor.engine.schema.base import request_type
from monitor.engine.schema.blockdev import (
    AnyBlockdevOptions,
    BlockdevOptionsFile,
    BlockdevOptionsQcow2,
    Qcow2OverlapCheckFlags,
)
from monitor.engine.schema.decode import (
    NestedTooDeeply,
    ParameterError,
    UnacceptedValue,
    UnexpectedParameter,
    decode,
)
from monitor.engine.schema.keyval import parse_keyval
from tests.support.mistakes import BLOCKDEV_ADD, OPTION_STRINGS, OTHER_DRIVERS
from tests.support.options import AnyOptions, Mixed


def refusal(kind: Any, value: Any, **how: Any) -> ParameterError:
    with pytest.raises(ParameterError) as caught:
        decode(kind, value, **how)
    return caught.value


def test_a_request_with_nested_options() -> None:
    kind = request_type("blockdev-add")
    file = {"driver": "file", "filename": "a.img"}
    request = decode(
        kind,
        {"driver": "qcow2", "node-name": "n0", "file": file, "backing": None, "read-only": True},
    )
    assert isinstance(request.options, BlockdevOptionsQcow2)
    assert request.options.node_name == "n0"
    assert request.options.file == BlockdevOptionsFile(filename="a.img")
    assert request.options.backing is None
    assert request.options.read_only is True
    assert request.options.overlap_check is UNSET


def test_an_alternate_takes_each_of_its_types() -> None:
    qcow2 = {"driver": "qcow2", "file": "n0"}
    assert decode(AnyBlockdevOptions, qcow2 | {"overlap-check": "all"}).overlap_check == "all"
    flags = decode(AnyBlockdevOptions, qcow2 | {"overlap-check": {"main-header": True}})
    assert flags.overlap_check == Qcow2OverlapCheckFlags(main_header=True)
    assert decode(AnyBlockdevOptions, qcow2 | {"backing": "n1"}).backing == "n1"
    assert decode(AnyBlockdevOptions, qcow2).backing is UNSET


@pytest.mark.parametrize(("arguments", "message"), BLOCKDEV_ADD)
def test_blockdev_add_is_refused_in_qemus_words(arguments: dict[str, Any], message: str) -> None:
    assert refusal(request_type("blockdev-add"), arguments).text == message


@pytest.mark.parametrize(("options", "message"), OTHER_DRIVERS)
def test_lists_unions_and_narrow_integers(options: dict[str, Any], message: str) -> None:
    assert refusal(AnyOptions, options).text == message


@pytest.mark.parametrize(("text", "message"), OPTION_STRINGS)
def test_option_strings_are_refused_in_qemus_words(text: str, message: str) -> None:
    assert refusal(AnyOptions, parse_keyval(text, "driver"), keyval=True).text == message


def test_option_strings_are_read_as_their_members_types() -> None:
    text = "raw,offset=0x10,read-only=yes,file.driver=null-co,file.size=010,file.latency-ns=-1"
    raw = decode(AnyOptions, parse_keyval(text, "driver"), keyval=True)
    assert raw.offset == 16
    assert raw.read_only is True
    assert raw.file.size == 8
    assert raw.file.latency_ns == (1 << 64) - 1
    assert decode(Mixed, {"size": "1.5k", "ratio": "0.25"}, keyval=True) == Mixed(
        size=1536, ratio=0.25
    )


def test_json_inside_an_option_string_keeps_its_types() -> None:
    raw = decode(
        AnyOptions, {"driver": "raw", "file": {"driver": "null-co", "size": 5}}, keyval=True
    )
    assert raw.file.size == 5
    wrong = {"driver": "raw", "file": {"driver": "null-co", "size": 1.5}}
    assert refusal(AnyOptions, wrong, keyval=True).text == (
        "Invalid parameter type for 'file.size', expected: integer"
    )


@pytest.mark.parametrize(
    ("member", "value", "decoded"),
    [
        ("queues", 65535, 65535),
        ("wide", -1, (1 << 64) - 1),
        ("wide", (1 << 64) - 1, (1 << 64) - 1),
        ("size", -(1 << 63), 1 << 63),
        ("ratio", 1, 1.0),
        ("anything", [None, {}], [None, {}]),
        ("members", {"a": 1}, {"a": 1}),
        ("word", "x", "x"),
        ("plain", -5, -5),
    ],
)
def test_values_in_json(member: str, value: Any, decoded: Any) -> None:
    assert getattr(decode(Mixed, {member: value}), member) == decoded


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("queues", 65536, "Parameter 'queues' expects uint16_t"),
        ("queues", -1, "Parameter 'queues' expects uint16_t"),
        ("wide", 1 << 64, "Parameter 'wide' expects uint64"),
        ("size", "64k", "Parameter 'size' expects uint64"),
        ("ratio", "1", "Invalid parameter type for 'ratio', expected: number"),
        ("members", [], "Invalid parameter type for 'members', expected: object"),
        ("plain", "5", "Invalid parameter type for 'plain', expected: integer"),
    ],
)
def test_values_refused_in_json(member: str, value: Any, message: str) -> None:
    assert refusal(Mixed, {member: value}).text == message


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("queues", "65536", "Parameter 'queues' expects uint16_t"),
        ("size", "1kB", "Parameter 'size' expects a size value"),
        ("ratio", "nan", "Parameter 'ratio' expects number"),
    ],
)
def test_values_refused_in_option_strings(member: str, value: str, message: str) -> None:
    assert refusal(Mixed, {member: value}, keyval=True).text == message


def test_defaults_are_the_structs() -> None:
    assert decode(Mixed, {}) == Mixed()
    assert decode(Mixed, {}).plain == 7


def test_an_error_knows_the_full_name_whatever_its_text_says() -> None:
    error = refusal(AnyOptions, {"driver": "blkdebug", "image": "a", "take-child-perms": ["x"]})
    assert isinstance(error, UnacceptedValue)
    assert (error.parameter, error.path) == ("null", "take-child-perms[0]")
    assert error.choices == ("write", "resize")
    text = "quorum,vote-threshold=1,children.0.driver=zz"
    error = refusal(AnyOptions, parse_keyval(text, "driver"), keyval=True)
    assert error.path == "children.0.driver"


def test_an_unexpected_member_knows_those_that_exist() -> None:
    error = refusal(request_type("job-pause"), {"id": "j", "ids": 1})
    assert isinstance(error, UnexpectedParameter)
    assert error.known == ("id",)


def test_a_prefix_goes_before_the_name() -> None:
    error = refusal(AnyOptions, {"driver": "raw"}, prefix="file")
    assert error.text == "Parameter 'file.file' is missing"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"b": 1, "a": 2}, "b"),
        ({"zz": 1, "foo": 1, "bar": 2, "baz": 3}, "baz"),
        (dict.fromkeys("abcdefghi"), "b"),
    ],
)
def test_of_several_unexpected_members_the_one_that_qemu_names(
    arguments: dict[str, Any], named: str
) -> None:
    error = refusal(request_type("query-jobs"), arguments)
    assert error.text == f"Parameter '{named}' is unexpected"


def test_thousands_of_unexpected_members_cost_no_time() -> None:
    arguments = {f"x{i}": i for i in range(100_000)}
    assert refusal(request_type("query-jobs"), arguments).text == "Parameter 'x0' is unexpected"


@pytest.mark.parametrize("depth", [300, 1000, 100_000])
def test_options_nested_without_end_are_refused(depth: int) -> None:
    """Whatever the interpreter would allow: for long backing chains it allows much."""
    allow_deep_reads()
    options: dict[str, Any] = {"driver": "null-co"}
    for _ in range(depth):
        options = {"driver": "raw", "file": options}
    with pytest.raises(NestedTooDeeply, match="nested too deeply"):
        decode(AnyOptions, options)
