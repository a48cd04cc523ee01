"""What may follow a command to say where its output goes, in which form, and who waits for it.

    info jobs --output=csv              a form other than the command's own text
    info block > state.txt              into a file; >> behind what it holds
    info block-jobs | grep mirror       through a command of the host's shell
    wait job0 &                         the prompt does not wait for the command

Each of ``|``, ``>``, ``>>`` and ``&`` counts only as a word of its own, with blanks around it:
names of files may hold those characters (``a>b.img``), and one that is nothing else is quoted
(``">"``). What stands behind ``|`` is the host shell's, as typed, an ``&`` included, to the end of
the command (a ``;`` as a word of its own ends that too); our variables are in its environment.
QEMU's human monitor knows none of this: ``human-monitor-command`` reads its lines without.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from monitor.commands.forms import FORMATS
from monitor.language.syntax import Kind, Mistake, Statement, Token, one_of
from monitor.nearest import suggestion

OPERATORS = ("|", ">", ">>")
OPTION = "--output"
BACKGROUND = "&"


class Output(msgspec.Struct, frozen=True):
    """Where a command's output goes: ``shell`` is a command that reads it, ``file`` one that takes
    it (``append``: at its end). "" where there is none; ``format`` "" is the setting's.

    ``background``: at a prompt the next command may be typed at once. In scripts, recordings and
    replays commands run one after the other all the same, so that they run alike each time; jobs
    go on behind them anyway."""

    format: str = ""
    shell: str = ""
    file: str = ""
    append: bool = False
    background: bool = False


def split_output(
    statement: Statement, text: str, filled_in: Callable[[Token], Token]
) -> tuple[Statement, Output | None]:
    """The statement without what says where its output goes, and that; ``filled_in`` puts values
    for variables into a file's name. Raises ``Mistake``."""
    arguments, background = _background(statement.arguments)
    shell, file, append = "", "", False
    for index, token in enumerate(arguments):
        if token.kind is Kind.WORD and token.text in OPERATORS:
            if token.text == "|":
                shell = text[token.end : statement.end].strip()
                if not shell:
                    raise _missing(token, "a command of the host's shell")
            else:
                named = _file(token, arguments[index + 1 :])
                file, append = filled_in(named).whole, token.text == ">>"
            arguments = arguments[:index]
            break
    format, arguments = _format(arguments)
    if not (format or shell or file or background):
        return statement, None
    end = arguments[-1].end if arguments else statement.name.end
    cut = statement._replace(arguments=arguments, end=end)
    return cut, Output(format, shell, file, append, background)


def _background(arguments: list[Token]) -> tuple[list[Token], bool]:
    """The arguments before an ``&`` at the end; one behind ``|`` is the host shell's."""
    words = [token.text for token in arguments if token.kind is Kind.WORD]
    if words[-1:] == [BACKGROUND] == [arguments[-1].text] and "|" not in words:
        return arguments[:-1], True
    return arguments, False


def _missing(after: Token, what: str) -> Mistake:
    return Mistake((after.end, after.end + 1), "the output goes nowhere", expected=what)


def _file(operator: Token, rest: list[Token]) -> Token:
    if not rest or not rest[0].whole:
        raise _missing(operator, "a file name")
    if len(rest) > 1:
        raise Mistake(
            rest[1].span, f"'{rest[1].whole}' is too much", expected="the end of the command"
        )
    return rest[0]


def _format(arguments: list[Token]) -> tuple[str, list[Token]]:
    """``--output FORMAT`` or ``--output=FORMAT`` at the end, and the arguments before."""
    if not arguments or arguments[-1].kind is not Kind.WORD:
        return "", arguments
    last = arguments[-1]
    if last.text.startswith(f"{OPTION}="):
        at, left = len(OPTION) + 1, arguments[:-1]
    elif last.text == OPTION:
        raise Mistake(
            (last.end, last.end + 1), f"{OPTION} needs a value", expected=one_of(list(FORMATS))
        )
    elif len(arguments) > 1 and arguments[-2][:2] == (Kind.WORD, OPTION):
        at, left = 0, arguments[:-2]
    else:
        return "", arguments
    word = last.text[at:]
    if word not in FORMATS:
        raise Mistake(
            (min(last.start + at, last.end), last.end),
            f"unknown form of output '{word}'",
            expected=one_of(list(FORMATS)),
            hint=suggestion(word, FORMATS),
        )
    return word, left
