"""Whatever is typed: an answer or a placed mistake, no crash; and lark only where it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.language import grammar
from monitor.language.parser import Language, ParseError, ScriptErrors, parse_script

WORDS = [
    "blockdev-add", "block_resize", "info", "block", "drive_add", "job-cancel", "wait", "driver=",
    "qcow2", "raw", "file", "file.", "driver", "node-name=", "size=", "64k", "10Q", "0", "-n",
    "--timeout", '"', "{", "}", "[", "]", ":", ",", '"file"', "null", "1", "#", ";", "(", ")",
    "transaction(", "\\", "é", "漢", "\x1b", "-", "!", "=", ".", "on", "\t", " ", " ", " ", "\n",
]  # fmt: skip
texts = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=14).map("".join),
    st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join),
    st.text(max_size=20),
)


@given(texts)
def test_anything_typed_is_answered(text: str) -> None:
    try:
        parse_script(text, "x")
    except ScriptErrors as error:
        lines = text.split("\n")
        for mistake in error.errors:
            assert mistake.text_line == lines[mistake.line - 1].rstrip("\r")
            assert 1 <= mistake.column <= len(mistake.text_line) + 2
            assert mistake.length >= 1
            above, below = mistake.caret().split("\n")
            assert "^" in below
            assert above.isprintable() or "\t" in above
            narrow = mistake.caret(40).split("\n")[0]
            assert len(narrow) + narrow.count("漢") <= 40


def run(script: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", **environment},
        cwd=Path(grammar.__file__).parents[2],
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_ordinary_lines_do_not_import_lark() -> None:
    out = run(
        "import sys; from monitor.language.parser import parse_line\n"
        "parse_line('blockdev-add driver=raw node-name=a file=b # x')\n"
        """parse_line('-job-cancel {"id": "a b"}'); parse_line('echo "x"')\n"""
        "print('lark' in sys.modules)"
    )
    assert out == "False\n"


USES_LARK = (
    "from monitor.language.parser import parse_line; "
    "print(parse_line(\"job-cancel {'id':'a'}\").text)"
)


@pytest.mark.parametrize("state", ["empty", "kept", "broken", "unwritable", "of others"])
def test_the_compiled_grammar_is_kept_where_that_is_safe(state: str, tmp_path: Path) -> None:
    cache = tmp_path / "blkmon" / "grammar.lalr"
    if state == "kept":
        run(USES_LARK, XDG_CACHE_HOME=str(tmp_path))
    elif state == "broken":
        cache.parent.mkdir(mode=0o700)
        cache.write_bytes(b"not a grammar")
    elif state == "of others":
        cache.parent.mkdir()
        cache.parent.chmod(0o777)
    folder = "/proc/nowhere" if state == "unwritable" else str(tmp_path)
    assert run(USES_LARK, XDG_CACHE_HOME=folder) == "job-cancel {'id':'a'}\n"
    assert cache.exists() is (state in ("empty", "kept", "broken"))


def test_a_language_of_ones_own() -> None:
    with pytest.raises(ParseError, match="unknown command"):
        Language({}, {}).parse_line("quit")
