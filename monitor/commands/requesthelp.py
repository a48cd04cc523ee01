"""Help on a request of QMP, from its declaration in the schema."""

from __future__ import annotations

import inspect

from monitor.engine.schema.base import Field, Request, fields_of


def request_manual(request: type[Request]) -> str:
    """Synopsis, description, arguments and example of a request in ``qmp-shell``'s form."""
    name = request.qmp_name()
    members = fields_of(request) if not request.flattened else ()
    words = [name, *(_synopsis(member) for member in members)]
    if request.flattened:
        words.append("driver=… key=value…")
    parts = [" ".join(words), inspect.getdoc(request) or ""]
    if members:
        width = max(len(member.name) for member in members)
        parts.append("\n".join(_line(member, width) for member in members))
    if request.example:
        parts.append(f"Example: {request.example}")
    return "\n\n".join(part for part in parts if part)


def _synopsis(member: Field) -> str:
    text = f"{member.name}={_values(member) or '…'}"
    return text if member.required else f"[{text}]"


def _line(member: Field, width: int) -> str:
    need = "" if member.required else "optional"
    notes = ", ".join(part for part in (need, member.doc) if part)
    return f"  {member.name:{width}}  {notes}".rstrip()


def _values(member: Field) -> str:
    return "|".join(member.choices)
