"""Mistakes in arguments and option strings, with what qemu-storage-daemon 7.2 says of each.

Unit tests hold our decoder against the sentences, interop tests hold the sentences against the
program.
"""

from __future__ import annotations

from typing import Any

BLOCKDEV_ADD: list[tuple[dict[str, Any], str]] = [
    ({}, "Parameter 'driver' is missing"),
    ({"driver": None}, "Invalid parameter type for 'driver', expected: string"),
    ({"driver": "zz", "node-name": 5}, "Parameter 'driver' does not accept value 'zz'"),
    ({"driver": "raw"}, "Parameter 'file' is missing"),
    # base members before those of the driver, whatever the order in the request
    (
        {"driver": "raw", "file": 5, "node-name": 5},
        "Invalid parameter type for 'node-name', expected: string",
    ),
    # what is left over comes last
    ({"driver": "raw", "foo": 5}, "Parameter 'file' is missing"),
    ({"driver": "null-co", "foo": 5}, "Parameter 'foo' is unexpected"),
    (
        {"driver": "null-co", "size": None},
        "Invalid parameter type for 'size', expected: integer",
    ),
    (
        {"driver": "null-co", "size": 1.0},
        "Invalid parameter type for 'size', expected: integer",
    ),
    (
        {"driver": "null-co", "size": True},
        "Invalid parameter type for 'size', expected: integer",
    ),
    (
        {"driver": "null-co", "size": 1 << 63},
        "Invalid parameter type for 'size', expected: integer",
    ),
    ({"driver": "null-co", "latency-ns": "1"}, "Parameter 'latency-ns' expects uint64"),
    ({"driver": "null-co", "latency-ns": None}, "Parameter 'latency-ns' expects uint64"),
    (
        {"driver": "null-co", "read-zeroes": "on"},
        "Invalid parameter type for 'read-zeroes', expected: boolean",
    ),
    (
        {"driver": "null-co", "read-zeroes": 1},
        "Invalid parameter type for 'read-zeroes', expected: boolean",
    ),
    (
        {"driver": "null-co", "discard": 5},
        "Invalid parameter type for 'discard', expected: string",
    ),
    ({"driver": "null-co", "discard": "x"}, "Parameter 'discard' does not accept value 'x'"),
    (
        {"driver": "null-co", "cache": "x"},
        "Invalid parameter type for 'cache', expected: object",
    ),
    (
        {"driver": "null-co", "cache": {"direct": 5}},
        "Invalid parameter type for 'cache.direct', expected: boolean",
    ),
    # a nested object is done with before its next sibling
    (
        {"driver": "null-co", "detect-zeroes": "x", "cache": {"x": 1}},
        "Parameter 'cache.x' is unexpected",
    ),
    ({"driver": "raw", "file": 5}, "Invalid parameter type for 'file', expected: BlockdevRef"),
    (
        {"driver": "raw", "file": None},
        "Invalid parameter type for 'file', expected: BlockdevRef",
    ),
    ({"driver": "raw", "file": {}}, "Parameter 'file.driver' is missing"),
    (
        {"driver": "raw", "file": {"driver": "raw", "file": []}},
        "Invalid parameter type for 'file', expected: BlockdevRef",
    ),
    (
        {"driver": "raw", "file": {"driver": "file", "filename": 1}},
        "Invalid parameter type for 'file.filename', expected: string",
    ),
    (
        {"driver": "qcow2", "file": "x", "backing": 5},
        "Invalid parameter type for 'backing', expected: BlockdevRefOrNull",
    ),
    (
        {"driver": "qcow2", "file": "x", "overlap-check": None},
        "Invalid parameter type for 'overlap-check', expected: Qcow2OverlapChecks",
    ),
    (
        {"driver": "qcow2", "file": "x", "overlap-check": "foo"},
        "Parameter 'overlap-check' does not accept value 'foo'",
    ),
    (
        {"driver": "qcow2", "file": "x", "overlap-check": {"template": "foo"}},
        "Parameter 'template' does not accept value 'foo'",
    ),
]
"""Arguments of blockdev-add for drivers that we have."""

OTHER_DRIVERS: list[tuple[dict[str, Any], str]] = [
    (
        {"driver": "quorum", "vote-threshold": 1, "children": "x"},
        "Invalid parameter type for 'children', expected: array",
    ),
    (
        {"driver": "quorum", "vote-threshold": 1, "children": ["a", 5]},
        "Invalid parameter type for 'null', expected: BlockdevRef",
    ),
    (
        {"driver": "quorum", "vote-threshold": 1, "children": ["a", {"driver": "raw"}]},
        "Parameter 'children[1].file' is missing",
    ),
    (
        {"driver": "blkdebug", "image": "a", "take-child-perms": ["x"]},
        "Parameter 'null' does not accept value 'x'",
    ),
    (
        {"driver": "blkdebug", "image": "a", "take-child-perms": [5]},
        "Invalid parameter type for 'take-child-perms[0]', expected: string",
    ),
    (
        {"driver": "blkdebug", "image": "a", "inject-error": [{"event": "read_aio"}, None]},
        "Invalid parameter type for 'inject-error[1]', expected: object",
    ),
    ({"driver": "nbd", "server": {"host": "h"}}, "Parameter 'server.type' is missing"),
    (
        {"driver": "nbd", "server": {"type": "unix", "host": "h"}},
        "Parameter 'server.path' is missing",
    ),
    (
        {"driver": "nbd", "server": {"type": "unix", "path": "p"}, "reconnect-delay": 1 << 32},
        "Parameter 'reconnect-delay' expects uint32_t",
    ),
    (
        {"driver": "nbd", "server": {"type": "unix", "path": "p"}, "reconnect-delay": "1"},
        "Parameter 'reconnect-delay' expects uint64",
    ),
]
"""Arguments of blockdev-add for the drivers of tests.support.options."""

OPTION_STRINGS: list[tuple[str, str]] = [
    ("raw,file=1,cache.direct=x", "Parameter 'cache.direct' expects 'on' or 'off'"),
    ("raw,file.driver=null-co,file.size=64k", "Parameter 'file.size' expects integer"),
    ("null-co,latency-ns=1k", "Parameter 'latency-ns' expects integer"),
    ("null-co,size.a=1", "Parameters 'size.*' are unexpected"),
    ("null-co,discard.a=1", "Parameters 'discard.*' are unexpected"),
    ("null-co,foo.bar=1", "Parameter 'foo' is unexpected"),
    ("null-co,cache=1", "Invalid parameter type for 'cache', expected: object"),
    ("raw,file.driver=null-co,file.foo=1", "Parameter 'file.foo' is unexpected"),
    (
        "quorum,children=a,vote-threshold=1",
        "Invalid parameter type for 'children', expected: array",
    ),
    (
        "quorum,children.0=a,children.1.driver=null-co,children.1.foo=1,vote-threshold=1",
        "Parameter 'children.1.foo' is unexpected",
    ),
    (
        "quorum,children.0.driver=zz,vote-threshold=1",
        "Parameter 'driver' does not accept value 'zz'",
    ),
    (
        "blkdebug,image=a,take-child-perms.0.x=foo",
        "Parameters 'take-child-perms.0.*' are unexpected",
    ),
    ("nbd,server=x", "Invalid parameter type for 'server', expected: object"),
    (
        "nbd,server.type=inet,server.host=a,server.port=1,server.numeric=x",
        "Parameter 'server.numeric' expects 'on' or 'off'",
    ),
]
"""Arguments of --blockdev; the drivers are those of tests.support.options."""

KEYVAL: list[tuple[str, str, str]] = [
    ("a=1,=2", "Invalid parameter ''", "4:4"),
    (",", "Invalid parameter ''", "0:0"),
    ("null,,co", "Invalid parameter ''", "5:5"),
    ("9=1", "Invalid parameter '9'", "0:1"),
    ("a..b=1", "Invalid parameter 'a..b'", "0:4"),
    ("a.=1", "Invalid parameter 'a.'", "0:2"),
    (".a=1", "Invalid parameter '.a'", "0:2"),
    ("x y=1", "Invalid parameter 'x y'", "0:3"),
    ("-a=1", "Invalid parameter '-a'", "0:2"),
    ("1a.b=1", "Invalid parameter '1a.b'", "0:4"),
    ("x.1a=1", "Invalid parameter 'x.1a'", "0:4"),
    ("_a=1", "Invalid parameter '_a'", "0:2"),
    ("é=1", "Invalid parameter 'é'", "0:1"),
    ("x=1,foo", "Expected '=' after parameter 'foo'", "4:7"),
    ("x=1,foo.bar,y=1", "Expected '=' after parameter 'foo.bar'", "4:11"),
    ("f=a,f.driver=b", "Parameters 'f.*' used inconsistently", "4:5"),
    ("f.driver=b,f=a", "Parameters 'f.*' used inconsistently", "11:12"),
    ("c.0=a,c.x=b", "Parameters 'c.*' used inconsistently", "0:3"),
    ("c.0=a,c.2=b", "Parameter 'c.1' missing", "0:3"),
    ("c.01=a", "Parameter 'c.0' missing", "0:4"),
    ("c.9999999999=a", "Parameter 'c.0' missing", "0:12"),
    ("c.d.1=a", "Parameter 'c.d.0' missing", "0:5"),
    ("help", "Help is not available for this option", "0:4"),
    ("a=b,?", "Help is not available for this option", "4:5"),
    ("a" * 128 + "=1", f"Parameter '{'a' * 128}' is too long", "0:128"),
    ("x." + "a" * 128 + "=1", f"Parameter fragment '{'a' * 128}' is too long", "2:130"),
]
"""Arguments of --blockdev that are no option strings, and the offending part of each."""
