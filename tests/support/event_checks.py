"""Events held against their declarations in ``schema.events``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from monitor.engine.schema.base import fields_of
from monitor.engine.schema.events import event_types


def check_event(name: str, data: Mapping[str, Any]) -> None:
    """Fails unless ``data`` is what the event's struct says: its members, no others, their types,
    and the optional ones left out rather than null."""
    struct = event_types().get(name)
    assert struct is not None, f"the event {name} is not declared"
    unknown = set(data) - {field.name for field in fields_of(struct)}
    assert not unknown, f"{name} has members that are not declared: {unknown}"
    try:
        msgspec.convert({**data, "event": name}, struct, strict=True)
    except msgspec.ValidationError as error:
        raise AssertionError(f"{name} is not as declared: {error} in {dict(data)}") from error
