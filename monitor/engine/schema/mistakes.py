"""What can be wrong with a parameter, in QEMU's words. ``schema.decode`` finds it.

QEMU names most parameters in full (``file.filename``, ``children[0].driver``; ``children.0`` in
option strings), but an enumeration, a narrow integer and an alternate only by their last name,
and an element of a list then as ``null``. ``ParameterError.path`` is the full name in any case.

Options of ``-drive``, of ``qemu-img create -o`` and of blkdebug's files have words of their own,
those of QEMU's older parser (util/qemu-option.c), for the same mistakes.
"""

from __future__ import annotations

from monitor.engine.errors import RequestError, state


class ParameterError(RequestError):
    """Something is wrong with one parameter.

    ``parameter`` is the name as the text has it, ``path`` the full one. Both grow from the inside
    out, as the error passes the objects and lists around the mistake (``inside``).
    """

    parameter: str = ""
    path: str = state(default="", init=False)
    by_last_name: bool = state(default=False, init=False)

    def __post_init__(self) -> None:
        self.path = self.parameter

    def inside(self, name: str, *, element: bool = False) -> None:
        """The place of the mistake lies in member (or list element) ``name`` of something."""
        if self.by_last_name:
            if not self.path:
                self.parameter = "null" if element else name
            self.path = _join(name, self.path)
        else:
            self.parameter = self.path = _join(name, self.path)


def _join(outer: str, inner: str) -> str:
    return outer + inner if not inner or inner[0] == "[" else f"{outer}.{inner}"


class MissingParameter(ParameterError):
    template = "Parameter '{parameter}' is missing"


class UnexpectedParameter(ParameterError):
    template = "Parameter '{parameter}' is unexpected"
    known: tuple[str, ...] = ()
    """The names that the object has; for suggestions."""


class UnexpectedParameters(ParameterError):
    """Members below something that is a plain value."""

    template = "Parameters '{parameter}.*' are unexpected"


class WrongParameterType(ParameterError):
    template = "Invalid parameter type for '{parameter}', expected: {expected}"
    expected: str = ""


class WrongParameterValue(ParameterError):
    template = "Parameter '{parameter}' expects {expected}"
    expected: str = ""


class UnacceptedValue(ParameterError):
    template = "Parameter '{parameter}' does not accept value '{value}'"
    value: str = ""
    choices: tuple[str, ...] = ()


class NestedTooDeeply(RequestError):
    """More levels of options than are walked (``decode.MAX_NESTING``)."""

    template = "Parameters are nested too deeply"


class InvalidOption(RequestError):
    """There is no such option."""

    template = "Invalid parameter '{option}'"
    option: str


class InvalidOptionValue(RequestError):
    """The value is none of the option's words."""

    template = "invalid parameter value: {value}"
    value: str


class NumberExpected(RequestError):
    template = "Parameter '{option}' expects a number"
    option: str


class UnsignedExpected(RequestError):
    template = "Parameter '{option}' expects a non-negative number below 2^64"
    option: str


SUFFIXES = (
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
    "and exabytes, respectively."
)
"""What a size may end with: the hint below ``UnsignedExpected``."""


class SwitchExpected(RequestError):
    template = "Parameter '{option}' expects 'on' or 'off'"
    option: str


class UnsupportedOption(RequestError):
    """A driver was given an option that it does not have."""

    template = "Block format '{driver}' does not support the option '{option}'"
    driver: str
    option: str


class UnsupportedProtocolOption(UnsupportedOption):
    template = "Block protocol '{driver}' doesn't support the option '{option}'"


class NoBackingFiles(RequestError):
    """A backing image was named for a driver whose images have none."""

    template = "Driver doesn't support backing files"
