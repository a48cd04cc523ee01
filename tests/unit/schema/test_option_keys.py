"""The keys of option strings are declared once: what is offered is what the engine takes."""

from __future__ import annotations

import pytest

from monitor.engine.drive_options import parse_drive
from monitor.engine.errors import RequestError
from monitor.engine.images import NewImage, _from_strings, qcow2_options
from monitor.engine.schema.base import fields_of
from monitor.engine.schema.blockdev import AnyBlockdevOptions
from monitor.engine.schema.drive import CACHE_MODES, DriveOptions, choices
from monitor.engine.schema.imageopts import USUAL, image_options
from monitor.engine.schema.mistakes import (
    SUFFIXES,
    InvalidOption,
    NestedTooDeeply,
    UnsignedExpected,
)
from monitor.engine.schema.optionstrings import decode_node_options
from monitor.language.completion import Candidate, suggest
from tests.support.fake_engine import FakeEngine

WORDS = [(f.name, choice) for f in fields_of(DriveOptions) for choice in f.choices]
LISTED = sorted({option for option, _ in WORDS} - {"readonly"})


def offered(text: str) -> list[str]:
    found = suggest(text, FakeEngine())
    return [candidate.text for candidate in found if isinstance(candidate, Candidate)]


@pytest.mark.parametrize(("option", "choice"), WORDS)
def test_a_drive_takes_each_choice_that_is_offered(option: str, choice: str) -> None:
    assert parse_drive(f"id=d0,file=a.img,{option}={choice}", ()).id == "d0"
    assert choice in offered(f"drive_add 0 {option}=")


@pytest.mark.parametrize("option", LISTED)
def test_a_drive_takes_no_other(option: str) -> None:
    with pytest.raises(RequestError):
        parse_drive(f"file=a.img,{option}=bogus", ())


def test_every_key_of_a_drive_is_offered_once() -> None:
    keys = offered("drive_add 0 ")
    assert set(keys) >= {f"{field.name}=" for field in fields_of(DriveOptions)}
    assert len(keys) == len(set(keys))


def test_every_cache_mode_has_its_meaning() -> None:
    assert set(choices("cache")) == set(CACHE_MODES)


def test_members_by_index_are_a_list() -> None:
    text = "driver=x,a.0.b=1,a.1.b=2,c.1=gap,d.0=y,d.e=z,f.0.0=deep"
    loose = parse_drive(text, ()).loose
    assert loose["a"] == [{"b": "1"}, {"b": "2"}]
    assert loose["c"] == {"1": "gap"}
    assert loose["d"] == {"0": "y", "e": "z"}
    assert loose["f"] == [["deep"]]


def test_more_levels_than_are_walked_are_refused() -> None:
    with pytest.raises(NestedTooDeeply):
        parse_drive("a" + 5000 * ".0" + "=1", ())


def test_sizes_of_nodes_have_units_wherever_they_stand() -> None:
    below = {"driver": "null-co", "size": "1M"}
    tree = {"driver": "raw", "offset": "0x200", "size": "1.5k", "file": below}
    options = decode_node_options(AnyBlockdevOptions, tree)
    assert (options.offset, options.size, options.file.size) == (512, 1536, 1 << 20)
    assert below["size"] == "1M"


@pytest.mark.parametrize("value", ["5x", "", "1 M", "-1"])
def test_what_is_no_size_is_told_in_the_words_of_drives(value: str) -> None:
    tree = {"driver": "raw", "file": {"driver": "null-co", "size": value}}
    with pytest.raises(UnsignedExpected) as told:
        decode_node_options(AnyBlockdevOptions, tree)
    assert told.value.text == "Parameter 'size' expects a non-negative number below 2^64"
    assert told.value.hint == SUFFIXES


VALUES = {
    "size": "1M",
    "backing_file": "b",
    "backing_fmt": "raw",
    "compat": "0.10",
    "preallocation": "off",
    "compression_type": "zlib",
}


@pytest.mark.parametrize("option", image_options("qcow2"))
def test_a_new_image_takes_each_option_that_is_offered(option: str) -> None:
    value = VALUES.get(option) or USUAL.get(option, ("off",))[0]
    wanted = qcow2_options(_from_strings(NewImage("a", "qcow2", 1 << 20, options={option: value})))
    assert wanted.size == 1 << 20
    assert f"{option}=" in offered("create -f qcow2 -o ")
    assert suggest(f"create -f qcow2 -o {option}=", FakeEngine())


def test_the_file_is_no_option() -> None:
    assert "file" not in image_options("qcow2")
    with pytest.raises(InvalidOption):
        _from_strings(NewImage("a", "qcow2", 1 << 20, options={"file": "x"}))


def test_a_raw_image_has_fewer_options() -> None:
    keys = ["extent_size_hint=", "help", "nocow=", "preallocation=", "size="]
    assert sorted(offered("create -f raw -o ")) == keys
    assert offered("create -f raw -o preallocation=f") == ["falloc", "full", "off"]
