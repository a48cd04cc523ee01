"""Colours of a typed line, as a pygments lexer (``blkmon``), for the prompt and for documents.

It works on any text, whole or half typed, and knows no more grammar than colours need: words in
the first place of a command, flags, keys, sizes, strings, JSON and comments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

from pygments.lexer import RegexLexer
from pygments.token import (
    Comment,
    Keyword,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    Text,
    _TokenType,
)

_SIZE = r"(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?(?:[bB]|[kKmMgGtTpPeE](?:i?[bB])?)?)"
_END = r"(?=[\s,\]})]|$)"


class BlkmonLexer(RegexLexer):
    """The language of the prompt and of scripts.

    With the option ``known``, a function on words, only the first words of commands for which it
    is true are coloured: at the prompt a command lights up when its name is complete.
    """

    name = "blkmon"
    url = "https://www.qemu.org/docs/master/system/monitor.html"
    aliases: ClassVar[list[str]] = ["blkmon"]
    filenames: ClassVar[list[str]] = ["*.blkmon"]

    tokens: ClassVar[dict[str, list[Any]]] = {
        "root": [
            (r"\s+", Text),
            (r"#(?=\s|$|!).*$", Comment.Single),
            (r"[-!](?=\S)", Operator),
            (r"transaction(?=\()", Keyword),
            (r"\)", Punctuation),
            (r"[^\s;()]+", Name.Function, "arguments"),
            (r"[;(]", Punctuation),
        ],
        "arguments": [
            (r"\n", Text, "#pop"),
            (r"(?<=\s);(?=\s|$)", Punctuation, "#pop"),
            (r"[ \t]+", Text),
            (r"(?<=\s)#(?=\s|$).*$", Comment.Single),
            (r"[\[{]", Punctuation, "json"),
            (r'"(?:\\.|[^"\\\n])*"?', String.Double),
            (r"'(?:\\.|[^'\\\n])*'?", String.Single),
            (r"(?<=\s)-[A-Za-z?]" + _END, Name.Decorator),
            (r"(?<=\s)--[\w-]+", Name.Decorator),
            (r"[\w.-]+(?==)", Name.Attribute),
            (r"=", Operator),
            (r"(?:on|off|true|false|null)" + _END, Keyword.Constant),
            (_SIZE + _END, Number),
            (r"[,)}\]]", Punctuation),
            (r"[^\s,\"'\[\]{}=)]+", Text),
        ],
        "json": [
            (r"[\[{]", Punctuation, "#push"),
            (r"[\]}]", Punctuation, "#pop"),
            (r"(\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*')(?=\s*:)", Name.Attribute),
            (r'"(?:\\.|[^"\\])*"?', String.Double),
            (r"'(?:\\.|[^'\\])*'?", String.Single),
            (r"(?:true|false|null)\b", Keyword.Constant),
            (r"-?" + _SIZE, Number),
            (r"[,:]", Punctuation),
            (r"\s+", Text),
            (r"[^\s\[\]{},:\"']+", Text),
        ],
    }

    def __init__(self, **options: Any) -> None:
        self._known: Callable[[str], bool] | None = options.pop("known", None)
        super().__init__(**options)

    def get_tokens_unprocessed(
        self, text: str, stack: Iterable[str] = ("root",)
    ) -> Iterator[tuple[int, _TokenType, str]]:
        """pygments' entry: (offset, token type, text) for the whole of ``text``."""
        for index, token, value in super().get_tokens_unprocessed(text, stack):
            if token is Name.Function and self._known is not None and not self._known(value):
                yield index, Text, value
            else:
                yield index, token, value


class _PromptLexer(BlkmonLexer):
    """Lights up the words that begin a command."""

    def __init__(self, **options: Any) -> None:
        super().__init__(known=_first_words().__contains__, **options)


@functools.cache
def _first_words() -> frozenset[str]:
    from monitor.commands.registry import commands
    from monitor.engine.schema.base import request_types

    return frozenset(name.split(" ")[0] for name in (*commands(), *request_types()))


def prompt_lexer() -> type[BlkmonLexer]:
    """The lexer class for the prompt. Loads every command."""
    _first_words()
    return _PromptLexer
