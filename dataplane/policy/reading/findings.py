"""pydantic's findings in plain words: what was found, and what is allowed."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

from dataplane.policy.base import fields_of
from dataplane.policy.mistakes import SHOWN_LENGTH, Location, alternatives, dotted, nearest, shown
from dataplane.policy.reading import foreign_names
from dataplane.policy.value_mistakes import UNFIT
from dataplane.terminal import printable

#: What pydantic says of a key that a model, or a dataclass, does not have.
UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")

#: How like a field a key must be to be taken for a slip of the pen, 0..1: a field that is only somewhat like it means
#: something else.
_ALIKE = 0.75

#: What the absence of a field says.
_WITHOUT = {
    "protocol": " for all protocols",
    "multiport": " for all ports",
    "remote_ip_prefix": " for any address, or where another remote is given",
}

_RANGES = frozenset(("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"))


def sentence(error: Mapping[str, Any], top: type, whole: str, written: str | None = None) -> str:
    """What one of pydantic's errors, found in a value of `top`, says to people; `whole` names that value.

    A number is quoted as it was `written`, if that is known: 1e3, not 1000.0.
    """
    kind, found, location = error["type"], error["input"], error["loc"]
    if kind in UNKNOWN_KEY:
        return _unknown_key(str(location[-1]), model_at(top, location[:-1]))
    name = _name(location) if location else whole
    field = field_at(top, location)
    allowed = _allowed(field, location)
    if kind == "missing":
        return f"{name} is missing: write {allowed}"
    if kind == UNFIT and found == "" and _optional(field, location):
        return f"{name} is empty: leave the key out{_WITHOUT.get(name, '')}"
    if kind == UNFIT and found is not None:
        return f"{name} {shown(found)} {error['msg']}"
    if found is None:
        absent = ", or leave the key out" if _optional(field, location) else ""
        return f"{name} is empty: write {allowed}{absent}"
    if kind in _RANGES and field is not None:
        return f"{name} {shown(found)} is out of range: {_range(field.metadata)}"
    if kind in ("string_too_short", "too_short"):
        absent = ", or leave the key out" if _optional(field, location) else ""
        return f"{name} is empty: at least one {'character' if isinstance(found, str) else 'entry'} is needed{absent}"
    if kind in ("string_pattern_mismatch", "string_unicode"):
        return f"{name} {shown(found)} has a space at its end or a character that does not print"
    if kind == "string_too_long":
        return f"{name} {shown(found)} is too long: up to {error['ctx']['max_length']} characters are allowed"
    if isinstance(found, dict | list | tuple):
        return f"{name} is {shown(found)}: write {allowed}"
    if allowed == "a mapping":
        allowed += _mapping_of(found, model_at(top, location))
    said = shown(found) if written is None or len(written) > SHOWN_LENGTH else printable(written)
    return f"{name} {said} is not allowed: write {allowed}{_quotes(found, allowed, written)}"


def model_at(top: type, location: Location) -> type | None:
    """The model that stands at a location."""
    model: type | None = top
    for part in location:
        if model is None:
            return None
        if isinstance(part, str):
            field = fields_of(model).get(part)
            model = _model_in(field.annotation) if field else None
    return model


def field_at(top: type, location: Location) -> FieldInfo | None:
    """The field that a location leads to or into; None for a part of a list of models, and for the whole."""
    names = [depth for depth, part in enumerate(location) if isinstance(part, str)]
    if not names:
        return None
    model = model_at(top, location[: names[-1]])
    return fields_of(model).get(str(location[names[-1]])) if model else None


def _model_in(annotation: object) -> type | None:
    if isinstance(annotation, type) and hasattr(annotation, "__pydantic_fields__"):
        return annotation
    found = (_model_in(part) for part in get_args(annotation))
    return next((model for model in found if model is not None), None)


def is_list(field: FieldInfo) -> bool:
    """Whether a field holds a list."""
    return get_origin(field.annotation) is tuple


def _name(location: Location) -> str:
    """How a value is called: its key, with its index in a list."""
    keys = [depth for depth, part in enumerate(location) if isinstance(part, str)]
    return dotted(location[keys[-1] if keys else 0 :])


def _unknown_key(key: str, model: type | None) -> str:
    if key == "<<":
        return 'key "<<" is not known: YAML 1.2 has no merge keys'
    known = fields_of(model) if model else {}
    hint = foreign_names.hint(key, known)
    near = None if hint else nearest(key, known, cutoff=_ALIKE)
    hint = hint or (f"did you mean {near}?" if near else f"allowed are {', '.join(known)}")
    return f"key {shown(key)} is not known: {hint}"


def _optional(field: FieldInfo | None, location: Location) -> bool:
    return field is not None and not field.is_required() and isinstance(location[-1], str)


def _allowed(field: FieldInfo | None, location: Location) -> str:
    """What a value may be, in words that go on after "write"."""
    if field is None:
        return "a mapping"
    annotation: Any = field.annotation
    metadata = list(field.metadata)
    for part in location[::-1]:
        if isinstance(part, str):
            break
        annotation = get_args(annotation)[0]
        metadata = []
    return _words(annotation, metadata)


def _words(annotation: Any, metadata: list[Any]) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _words(get_args(annotation)[0], [*get_args(annotation)[1:], *metadata])
    if origin is Literal:
        return alternatives(get_args(annotation))
    if origin in (Union, types.UnionType):
        return _words(next(part for part in get_args(annotation) if part is not type(None)), metadata)
    if origin is tuple:
        return "a list"
    if annotation is bool:
        return "true or false"
    if annotation is int:
        return f"a whole number {_range(metadata)}"
    if annotation is float:
        return "a number of seconds"
    return "text" if annotation is str else "a mapping"


def _mapping_of(found: object, model: type | None) -> str:
    """Where a word stands in place of a mapping that needs one key only, the mapping."""
    needed = [name for name, field in fields_of(model).items() if field.is_required()] if model else []
    is_word = isinstance(found, str) and re.fullmatch(r"[\w.-]+", found) is not None
    return f": {{{needed[0]}: {found}}}" if is_word and len(needed) == 1 else ""


def _range(metadata: list[Any]) -> str:
    """The bounds of a number; both are always given."""
    flat = [item for entry in metadata for item in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]
    low = next((item for item in flat if isinstance(item, Ge | Gt)), None)
    high = next((item.le for item in flat if isinstance(item, Le)), "")
    if isinstance(low, Gt):
        return f"more than {low.gt}, up to {high}"
    return f"{low.ge if low else ''}..{high}"


def _quotes(found: object, allowed: str, written: str | None) -> str:
    """Where only quotes are wrong, says so."""
    if allowed == "text" and isinstance(found, int | float):
        return f" in quotes: {shown(str(found).lower() if written is None else written)}"
    if isinstance(found, str) and found.strip() and allowed not in ("text", "a list", "a mapping"):
        bare = found.strip()
        is_number = bare.lstrip("-").isdecimal() and "number" in allowed
        return " without quotes" if is_number or bare in allowed.split(" or ") else ""
    return ""
