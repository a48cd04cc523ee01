"""Lines and scripts -> invocations: what is typed, where, and what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from monitor.engine.drivers.registry import driver_names
from monitor.engine.schema.graph import BlockdevAdd, BlockResize
from monitor.language.assembling import Assembler, is_complete
from monitor.language.parser import (
    Invocation,
    Language,
    ParseError,
    ScriptErrors,
    parse_line,
    parse_script,
)
from tests.support.commands import sample
from tests.support.effort import lines_of

LANGUAGE = Language(
    sample(
        "block_resize device:B,size:o",
        "block_job_cancel force:-f,device:J/cancel",
        "info_block nodes:-n,verbose:-v,device:B?",
        "info_jobs",
        "quit",
        "wait jobs:J*,timeout:--timeout=T,all:--all",
        "create format:-f=s,file:F,size:z?",
        "echo text:S?",
        "mode mode:e(full|top|none)",
        "link name:s,up:b",
        "count number:i,rest:s*",
        "set options:K",
        "drive_add slot:s,opts:O",
    )
)


def line(text: str) -> Invocation:
    invocation = LANGUAGE.parse_line(text)
    assert invocation is not None
    return invocation


def mistake(text: str) -> ParseError:
    with pytest.raises(ParseError) as caught:
        LANGUAGE.parse_line(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("block_resize d0 10", {"device": "d0", "size": 10 << 20}),
        ("block_resize d0 64k", {"device": "d0", "size": 64 << 10}),
        ("block_resize  #block12  1.5GiB", {"device": "#block12", "size": 3 << 29}),
        ("info block", {"nodes": False, "verbose": False, "device": None}),
        ("info  block -n -v d0", {"nodes": True, "verbose": True, "device": "d0"}),
        ("info block -v -n", {"nodes": True, "verbose": True, "device": None}),
        ("info block -nv", {"nodes": True, "verbose": True, "device": None}),
        ("block_job_cancel -f j0", {"force": True, "device": "j0"}),
        ("wait", {"jobs": [], "timeout": None, "all": False}),
        ("wait a --timeout 20ms b", {"jobs": ["a", "b"], "timeout": 0.02, "all": False}),
        ("wait --timeout=.5 --all", {"jobs": [], "timeout": 0.5, "all": True}),
        ("create -f qcow2 a.img 1M", {"format": "qcow2", "file": "a.img", "size": 1 << 20}),
        ("create a.img 512 -f raw", {"format": "raw", "file": "a.img", "size": 512}),
        (r'create "a \"b\".img"', {"format": None, "file": 'a "b".img', "size": None}),
        ('echo a "b  c"  d # why', {"text": 'a "b  c"  d'}),
        ("echo", {"text": None}),
        ("mode top", {"mode": "top"}),
        ("link n on", {"name": "n", "up": True}),
        ("count -0x10 a b", {"number": -16, "rest": ["a", "b"]}),
        ('set a.b=1 c={"d": [1]}', {"options": {"a": {"b": "1"}, "c": {"d": [1]}}}),
        ('set e="x y"', {"options": {"e": "x y"}}),
        ('drive_add 0 file="a b,,c",if=none', None),
        ("drive_add 0 if=none,file=a;b.img", {"slot": "0", "opts": "if=none,file=a;b.img"}),
    ],
)  # fmt: skip
def test_human_commands_get_typed_arguments(text: str, arguments: dict[str, Any] | None) -> None:
    if arguments is None:
        assert mistake(text).message == "a blank is missing after the closing quote"
    else:
        assert line(text).arguments == arguments


def test_requests_are_typed_as_in_qmp_shell() -> None:
    invocation = line(
        "blockdev-add driver=qcow2 node-name=n0 file.driver=file file.filename=a.img read-only=on"
    )
    request = invocation.request
    assert isinstance(request, BlockdevAdd)
    assert request.options.node_name == "n0"
    assert request.options.read_only is True
    assert invocation.spans["file.filename"] == (70, 75)
    assert invocation.text[70:75] == "a.img"


@pytest.mark.parametrize(
    "text",
    [
        'blockdev-add {"driver": "raw", "node-name": "5", "file": "n0", "size": 65536}',
        "blockdev-add {'driver': 'raw', 'node-name': '5',\n 'file': 'n0', 'size': 65536}",
        "blockdev-add driver=raw node-name=5 file=n0 size=64k",
        'blockdev-add driver="raw" node-name=5 file=n0 size=0x10000',
    ],
)
def test_json_and_words_say_the_same(text: str) -> None:
    expected = line("blockdev-add driver=raw node-name=5 file=n0 size=65536").request
    assert line(text).request == expected


def test_a_name_of_both_languages() -> None:
    assert line("block_resize d0 1").command is not None
    assert line("block_resize device=d0 size=1").request == BlockResize(device="d0", size=1)
    assert line('block_resize {"device": "d0", "size": 1}').request is not None
    assert line("quit").command is not None


@pytest.mark.parametrize(("text", "mark"), [("quit", ""), ("-quit", "-"), ("! quit", "!")])
def test_marks(text: str, mark: str) -> None:
    invocation = line(text)
    assert (invocation.mark, invocation.text) == (mark, "quit")


@pytest.mark.parametrize("text", ["", "  \t", "# block_resize", "#block_resize d0", " # x"])
def test_lines_that_ask_for_nothing(text: str) -> None:
    assert LANGUAGE.parse_line(text) is None


def test_a_line_holds_one_command_a_script_many() -> None:
    assert mistake("quit ; quit").column == 8
    names = [i.name for i in LANGUAGE.parse_script("quit ; info jobs # x\n\n-quit", "f")]
    assert names == ["quit", "info jobs", "quit"]


def test_invocations_know_their_line() -> None:
    script = 'quit\nset a={\n"b": 1}\nquit ; mode full'
    found = LANGUAGE.parse_script(script, "f.blk", 10)
    assert [(i.line, i.source, i.text) for i in found] == [
        (10, "f.blk", "quit"),
        (11, "f.blk", 'set a={\n"b": 1}'),
        (13, "f.blk", "quit"),
        (13, "f.blk", "mode full"),
    ]
    error = found[3].error_at("mode", "no such mode")
    assert (error.place, error.length) == ("f.blk:13:13", 4)


# Mistakes: message, column, what the caret covers, hint

MISTAKES = [
    ("blok_resize d0 1", "unknown command: 'blok_resize'", 1, 11, "did you mean 'block_resize'?"),
    ("duckdb", "unknown command: 'duckdb'", 1, 6, None),
    ("info bloc", "unknown command: 'info bloc': expected one of: block, jobs", 6, 4,
     "did you mean 'block'?"),
    ("info", "'info' alone is no command: expected one of: block, jobs", 5, 1, None),
    ("block_resize", "device is missing: expected a drive or a node", 13, 1, None),
    ("block_resize d0", "size is missing: expected a size, such as 64k or 1.5G", 16, 1, None),
    ("block_resize d0 10Q", "unknown unit 'Q': expected a size, such as 64k or 1.5G", 19, 1,
     "units are b, k, M, G, T, P and E"),
    ("block_resize d0 x", "invalid size 'x': expected a size, such as 64k or 1.5G", 17, 1, None),
    ("block_resize d0 16E", "invalid size '16E': expected a size, such as 64k or 1.5G", 17, 3,
     None),
    ("block_resize d0 1 x", "'x' is too much: expected the end of the command", 19, 1, None),
    ("info block -x", "unsupported option -x: expected one of: -n, -v", 12, 2, None),
    ("info block -nx", "unsupported option -x: expected one of: -n, -v", 14, 1, None),
    ("info block -V", "unsupported option -V: expected one of: -n, -v", 12, 2,
     "did you mean '-v'?"),
    ("info block --verbose", "unsupported option --verbose: expected one of: -n, -v", 12, 9,
     "did you mean '-v'?"),
    ("info block --node", "unsupported option --node: expected one of: -n, -v", 12, 6,
     "did you mean '-n'?"),
    ("info block --x", "unsupported option --x: expected one of: -n, -v", 12, 3, None),
    ("info block -n -n", "-n is given twice", 15, 2, None),
    ("wait --timout 5", "unknown option --timout: expected one of: --timeout, --all", 6, 8,
     "did you mean '--timeout'?"),
    ("wait --timeout",
     "--timeout needs a value: expected a time in seconds, such as 5, 0.5 or 20ms", 15, 1, None),
    ("create -z a.img", "unknown option -z: expected -f", 8, 2, None),
    ("mode ful", "unknown mode 'ful': expected one of: full, top, none", 6, 3,
     "did you mean 'full'?"),
    ("link n maybe", "'maybe' is neither on nor off: expected on or off", 8, 5, None),
    ("count 1x", "'1x' is no whole number: expected a whole number", 7, 2, None),
    ('echo "a', "this string is never closed: expected a closing quote", 6, 1, None),
    ('echo a x="b c', "this string is never closed: expected a closing quote", 10, 1, None),
    ('set a={"b":"c}', "this string is never closed: expected a closing quote", 12, 1, None),
    ("set a={'b:1}", "this string is never closed: expected a closing quote", 8, 1, None),
    (r'echo "a\q"', r"""unsupported escape code '\q': expected one of: \n, \r, \\, \", \'""", 8, 2,
     None),
    ('set a={"b" 1}', "a colon is missing", 12, 1, None),
    ('set a={"b":[1,]}', "there is a comma too many: expected a value", 15, 1, None),
    ("set a={b:1}", "a member of an object begins with its name in quotes: "
     "expected a name in quotes or '}'", 8, 1, None),
    ('set a={"b":1]', "this bracket closes another kind: expected ',' or '}'", 13, 1, None),
    ('set a={"b":[{"c":1}', "this bracket is never closed: expected ']'", 12, 1, None),
    ('set {"a":1}x', "a blank is missing here: expected an argument or the end of the command",
     12, 1, None),
    ('set a={"b":1,"b":2}', "'b' is given twice", 14, 3, None),
    ("set x a=1", "'x' has no field: expected FIELD=VALUE", 5, 1, None),
    ("job-finalize d0", "'d0' has no field: expected FIELD=VALUE", 14, 2, "did you mean 'id=d0'?"),
    ("blockdev-add d0", "'d0' has no field: expected FIELD=VALUE", 14, 2, None),
    ("query-jobs d0", "'d0' has no field: expected FIELD=VALUE", 12, 2, None),
    ("job-cancel id=d0 e", "'e' has no field: expected FIELD=VALUE", 18, 1, None),
    ("set a=1 a=2", "'a' is given twice", 9, 1, None),
    ("set a={} a.b=2", "'a' already has a value, so 'a.b' cannot be set", 10, 3, None),
    ("set a.b=2 a={}", "'a.b' is set already, so 'a' takes no value", 11, 1, None),
    (")", "')' closes nothing: expected a command or the end of the command", 1, 1, None),
    ("transaction(\nquit", "this group is never closed: expected ')'", 12, 1, None),
    ("quit ; ; quit", "a command is missing", 8, 1, None),
    ("blockdev-add driver=qcow", "'qcow' is no value for 'driver': expected one of: "
     + ", ".join(driver_names()), 21, 4, "did you mean 'qcow2'?"),
    ("blockdev-add driver=raw file.driver=file file.filenme=a",
     "unknown option 'file.filenme'", 47, 7, "did you mean 'filename'?"),
    ("blockdev-add driver=qcow2 nod-name=x", "unknown option 'nod-name'", 27, 8,
     "did you mean 'node-name'?"),
    ("blockdev-add nod-name=x drivr=raw", "unknown option 'nod-name'", 14, 8,
     "did you mean 'node-name'?"),
    ("blockdev-add driver=qcow2 filename=a.img", "unknown option 'filename'", 27, 8,
     "did you mean 'file.filename'?"),
    ("blockdev-add driver=raw cache.dirct=on", "unknown option 'cache.dirct': expected one of: "
     "direct, no-flush", 31, 5, "did you mean 'direct'?"),
    ("blockdev-add driver=raw cache=on", "'cache' takes no value of its own: expected options, "
     "such as cache.direct=", 31, 2, None),
    ("blockdev-add driver=raw read-only.a=on", "'read-only' has no options of its own: "
     "expected one of: on, off", 25, 9, None),
    ("blockdev-add driver=raw discard=unmpa size=x file=a",
     "'unmpa' is no value for 'discard': expected one of: ignore, unmap", 33, 5,
     "did you mean 'unmap'?"),
    ("blockdev-add driver=qcow2 file=a overlap-check=al", "'al' is no value for 'overlap-check': "
     "expected one of: none, constant, cached, all", 48, 2, "did you mean 'all'?"),
    ("blockdev-add driver=qcow2 xyzzy=1", None, 27, 5, None),
    ('blockdev-add {"driver":"raw","fiel":{}}', "unknown option 'fiel'", 30, 6,
     "did you mean 'file'?"),
    ('blockdev-add driver=raw file={"driver":"file","filenam":"a"}',
     "unknown option 'file.filenam'", 47, 9, "did you mean 'filename'?"),
    ('blockdev-add {"driver":"raw","file":{"driver":"file"}}', "'file.filename' is missing: "
     """expected "filename": with a file name""", 53, 1, None),
    ("block-stream device=d0 on-error=stpo", "'stpo' is no value for 'on-error': expected one of: "
     "report, ignore, enospc, stop, auto", 33, 4, "did you mean 'stop'?"),
    ("blockdev-add driver=raw " + "file." * 120 + "size=1", "this is nested too deeply", 25, 604,
     None),
    ("blockdev-add driver=raw node-name=a",
     "'file' is missing: expected file= with a node, or its options", 36, 1, None),
    ("blockdev-add driver=null-co sise=1", None, 29, 4, "did you mean 'size'?"),
    ("blockdev-add driver=null-co size=1Q",
     "unknown unit 'Q' in 'size': expected a size, such as 64k or 1.5G", 35, 1,
     "units are b, k, M, G, T, P and E"),
    ("blockdev-add driver=null-co read-only=x",
     "'x' is no value for 'read-only': expected on or off", 39, 1, None),
    ('blockdev-add {"driver":"raw","file":{"driver":"fil"}}', None, 47, 5, "did you mean 'file'?"),
    ('blockdev-add {"driver":"raw","file":{"driver":"file","filename":1}}',
     "Invalid parameter type for 'file.filename', expected: string: expected text", 65, 1, None),
    ("job-cancel", "'id' is missing: expected id= with a job", 11, 1, None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "column", "length", "hint"), MISTAKES)
def test_mistakes_are_placed_and_named(
    text: str, message: str | None, column: int, length: int, hint: str | None
) -> None:
    error = mistake(text)
    assert (error.column, error.length) == (column, length)
    assert message is None or error.message == message
    assert error.hint == hint


def test_words_by_themselves_are_a_human_commands() -> None:
    for request, human in (
        ("block-stream d0", "block_stream"),
        ("drive-backup d0 a", "drive_backup"),
    ):
        with pytest.raises(ParseError) as caught:
            parse_line(request)
        assert caught.value.hint == f"did you mean '{human}'?"
    with pytest.raises(ParseError) as caught:
        parse_line("block-dirty-bitmap-add d0 b0")
    assert caught.value.hint is None


def test_the_caret_is_under_the_word() -> None:
    assert mistake("block_resize d0 10Q").caret() == "block_resize d0 10Q\n                  ^"
    assert mistake("block_resize\td0 x").caret() == "block_resize\td0 x\n            \t   ^"
    assert mistake("mode 漢字").caret() == "mode 漢字\n     ^^^^"


def test_the_caret_fits_into_a_narrow_window() -> None:
    error = mistake("block_resize " + "d" * 200 + " 10Q " + "x" * 100)
    above, below = error.caret(40).split("\n")
    assert len(above) == 40
    assert above[below.index("^")] == "Q"
    assert below.count("^") == 1


def test_errors_do_not_drive_the_terminal() -> None:
    assert "\x1b" not in mistake("foo \x1b[2J ;").caret()


def all_mistakes(text: str) -> list[str]:
    with pytest.raises(ScriptErrors) as caught:
        LANGUAGE.parse_script(text, "f")
    return [f"{error.column}: {error.message.split(':')[0]}" for error in caught.value.errors]


def test_all_mistakes_of_a_request_are_told_what_is_missing_last() -> None:
    assert all_mistakes("blockdev-add driver=raw sise=1 read-only=x") == [
        "25: unknown option 'sise'",
        "42: 'x' is no value for 'read-only'",
        "43: 'file' is missing",
    ]
    assert all_mistakes("blockdev-add driver=raw file.driver=file") == [
        "41: 'file.filename' is missing"
    ]


def test_what_was_mistyped_is_not_missing_too() -> None:
    assert all_mistakes("blockdev-add drivr=raw") == ["14: unknown option 'drivr'"]
    assert all_mistakes('job-cancel {"ID": "a"}') == ["13: unknown option 'ID'"]


def test_a_string_ends_on_its_line() -> None:
    error = mistake('transaction(\n  echo "a\n  echo b"\n)')
    assert (error.line, error.column, error.length) == (2, 8, 1)
    assert error.expected == "a closing quote"
    with pytest.raises(ScriptErrors) as caught:
        LANGUAGE.parse_script('echo "a\nmode full\nmode ful', "f")
    assert [error.place for error in caught.value.errors] == ["f:1:6", "f:3:6"]


def test_a_mistake_in_a_later_line_shows_that_line() -> None:
    error = mistake('set a={\n  "b": 1\n  "c": 2\n}')
    assert (error.line, error.column, error.text_line) == (3, 3, '  "c": 2')


def test_all_mistakes_of_a_script_are_reported() -> None:
    script = """\
blok_resize d0 1
block_resize d0 10Q
set a={
  "b": 1
quit x
mode full
set b=[1,
]
echo "open
mode ful ; mode non
quit
"""
    with pytest.raises(ScriptErrors) as caught:
        LANGUAGE.parse_script(script, "f.blk")
    places = [error.place for error in caught.value.errors]
    assert places == [
        "f.blk:1:1", "f.blk:2:19", "f.blk:5:1", "f.blk:5:6", "f.blk:8:1", "f.blk:9:6",
        "f.blk:10:6", "f.blk:10:17",
    ]  # fmt: skip
    assert "f.blk:2:19: unknown unit 'Q'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("", True),
        ("quit", True),
        ("set a={", False),
        ('set a={"b": "}"', False),
        ('set a={"b": [1]}', True),
        ('echo "a', True),  # a string ends on its line
        ('echo "a \\" b', True),
        ('set a={"b', True),
        ('transaction(\necho "a', True),
        ("transaction(", False),
        ("transaction(\nquit", False),
        ("transaction(\nquit\n)", True),
        ("transaction(\nset a=[\n]\n)", True),
        ("echo a(b [c {d", True),
        ("echo a(b", True),
        ("echo it's", True),
        ("echo x # {", True),
        ("# {", True),
        ("set a={]", True),  # can only be wrong: there is nothing to wait for
        ("set a={\nquit", True),
        ("quit )", True),
    ],
)
def test_is_complete(text: str, complete: bool) -> None:
    assert is_complete(text) is complete


def test_the_assembler_keeps_its_place_from_line_to_line() -> None:
    reader = Assembler()
    assert not reader.feed("set a=[")
    assert not reader.feed('{"b":')
    assert reader.unclosed == ("{", 8)
    assert not reader.feed("1}")
    assert reader.feed("]")
    assert reader.text == 'set a=[\n{"b":\n1}\n]'


def test_the_functions_know_all_declared_commands() -> None:
    assert parse_line("info version", "x") is not None
    assert parse_line(" # nothing") is None
    assert len(parse_script("query-version\nquit", "x")) == 2


def test_a_long_script_costs_its_length() -> None:
    lines = [
        "block_resize d0 10G",
        "blockdev-add driver=qcow2 node-name=n0 file.driver=file file.filename=a.img",
        "info block -n",
        'echo "read 0 512"',
        "block-stream job-id=s0 device=d0 speed=1M # go",
    ]

    def effort(times: int) -> int:
        return lines_of(lambda: LANGUAGE.parse_script("\n".join(lines * times), "f"))

    effort(1)  # what is declared is found out once
    assert effort(400) <= 4.1 * effort(100)


def test_null_is_a_value_where_a_field_takes_it() -> None:
    typed = parse_line("blockdev-add driver=qcow2 node-name=null file=null backing=null")
    assert typed is not None
    options = typed.request.options
    assert (options.node_name, options.file, options.backing) == ("null", "null", None)
