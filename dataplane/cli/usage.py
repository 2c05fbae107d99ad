"""What is wrong with an argument of the command line, in our words where a library has its own."""

from __future__ import annotations

import re
from typing import Any

from dataplane.policy.mistakes import alternatives, nearest, shown

_NOT_OF_ITS_KIND = {
    **dict.fromkeys(("int_parsing", "int_from_float", "int_type", "int_parsing_size"), "is no whole number"),
    **dict.fromkeys(("float_parsing", "float_type", "finite_number"), "is no number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "is neither true nor false"),
}
_BOUNDS = {"greater_than_equal": ("ge", "at least"), "less_than_equal": ("le", "at most")}
_CHOICES = re.compile(r".* is not one of ((?:'[^']*'(?:, )?)+)\.?", re.DOTALL)


def reworded(error: Any) -> str | None:
    """The sentence for a value that was refused (`typer.BadParameter`); None where what it says is good already."""
    errors = getattr(error.__cause__, "errors", None)
    if errors is None:
        return None
    found = errors(include_url=False)[0]
    said = shown(str(found["input"]))
    kind, context = found["type"], found.get("ctx", {})
    if kind in _NOT_OF_ITS_KIND:
        return f"{said} {_NOT_OF_ITS_KIND[kind]}"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{said} is out of range: {words} {context[key]} is allowed"
    reason = str(context.get("error", found["msg"]))
    if match := _CHOICES.fullmatch(reason):
        choices = re.findall(r"'([^']*)'", match[1])
        near = nearest(str(found["input"]), choices) if len(choices) > 1 else None
        hint = f"; did you mean {shown(near)}?" if near else ""
        return f"{said} is not known: write {alternatives(choices)}{hint}"
    return f"{said} cannot be meant: {reason}"
