"""Help on a request of QMP, from its declaration in the schema."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, get_args

from monitor.engine.schema.base import Field, Options, Request, fields_of


def request_manual(request: type[Request]) -> str:
    """A request at length, in the sections of a command's manual."""
    from monitor.commands.help import STATUS, section

    doc = inspect.getdoc(request) or ""
    parts = [
        ("NAME", f"{request.qmp_name()} - {doc.split(chr(10))[0]}"),
        ("SYNOPSIS", synopsis(request)),
        ("DESCRIPTION", doc.partition("\n")[2].strip()),
        ("OPTIONS", "\n\n".join(arguments(request))),
        ("EXAMPLES", request.example),
        ("EXIT STATUS", STATUS),
    ]
    return "\n\n".join(section(title, text) for title, text in parts if text)


def synopsis(request: type[Request]) -> str:
    """The lines that ask for it, what may be left out in brackets."""
    if request.flattened:
        tag, _ = _tagged(_flattened(request))
        return f"{request.qmp_name()} {tag}=… [key=value…]"
    line = " ".join([request.qmp_name(), *map(_synopsis, fields_of(request))])
    return f"{line}\n{request.typed}" if request.typed else line


def arguments(request: type[Request]) -> list[str]:
    """Tables of the arguments, a line each: one table, or for options of a driver the shared ones
    and then each driver's."""
    members = fields_of(request)
    if request.flattened:
        return list(_variants(_flattened(request)))
    return [table(members)] if members else []


def _flattened(request: type[Request]) -> Field:
    return next(m for m in fields_of(request) if m.attribute == request.flattened)


def _tagged(member: Field) -> tuple[str, dict[str, Any]]:
    """The member that tells the structs of a union apart (``driver``), and the structs by it."""
    structs = get_args(member.type) or (member.type,)
    tags = {str(struct.__struct_config__.tag): struct for struct in structs}
    return str(structs[0].__struct_config__.tag_field), tags


def _variants(member: Field) -> Iterable[str]:
    """The members that all structs of a union have, then those of each."""
    tag_field, structs = _tagged(member)
    shared = fields_of(_base(structs.values()))
    yield table(shared)
    known = {field.name for field in shared}
    for tag in sorted(structs):
        own = [field for field in fields_of(structs[tag]) if field.name not in known]
        yield f"{tag_field}={tag}\n{table(own)}".rstrip()


def _base(structs: Iterable[Any]) -> Any:
    """The struct that all of a union are made from."""
    first, *others = structs
    return next(base for base in first.__mro__[1:] if all(issubclass(o, base) for o in others))


def table(members: Iterable[Field]) -> str:
    """Members of a struct, a line each: name, whether it may be missing, what it is, its values."""
    rows = [row for member in members for row in _rows(member)]
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"  {name:{width}}  {notes}".rstrip() for name, notes in rows)


def _rows(member: Field) -> Iterable[tuple[str, str]]:
    """Name and notes of a member; of those inside it, with dotted names, where it is a struct."""
    if isinstance(member.type, type) and issubclass(member.type, Options):
        for inner in fields_of(member.type):
            yield f"{member.name}.{inner.name}", _notes(inner)
    else:
        yield member.name, _notes(member)


def _synopsis(member: Field) -> str:
    text = f"{member.name}={_values(member) or '…'}"
    return text if member.required else f"[{text}]"


def _notes(member: Field) -> str:
    need = "" if member.required else "optional"
    return "; ".join(part for part in (need, member.doc, _values(member)) if part)


def _values(member: Field) -> str:
    return "|".join(member.choices)
