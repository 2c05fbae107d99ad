"""A change as the command of `dataplane ctl` that makes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataplane.policy.changes import KINDS


def typed(change: Mapping[str, Any]) -> list[str] | None:
    """The words behind `dataplane ctl` for a change as SPEC 7 writes it; None where no command says it."""
    ((name, fields),) = change.items()
    kind = KINDS[name]
    if not kind.command:
        return None
    placed = [str(fields[field]) for field in kind.placed]
    given = fields[kind.within] if kind.within else {f: v for f, v in fields.items() if f not in kind.placed}
    values = {field: _value(value) for field, value in given.items()}
    if any(word.startswith("-") for word in placed) or None in values.values():
        return None
    return [*kind.command, *placed, *(f"{field}={value}" for field, value in values.items())]


def _value(value: Any) -> str | None:
    """A value as FIELD=VALUE has it; None for one that is only written as YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        parts = [_value(part) for part in value]
        return ",".join(map(str, parts)) if parts and all(part and "," not in part for part in parts) else None
    if not isinstance(value, str | int) or str(value)[:1] in ("", "[", "{"):
        return None
    return str(value)
