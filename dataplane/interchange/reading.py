"""A document of another system as a policy of ours."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

from dataplane.interchange import Format
from dataplane.interchange.draft import Draft, FormatError
from dataplane.policy.mistakes import shown

_NEEDED = "give it the document as the cloud's program prints it in JSON"


def imported(format_name: Format, data: bytes) -> tuple[str, list[str]]:
    """A policy in YAML, and sentences about what of the document it cannot express. Raises FormatError."""
    try:
        value = json.loads(data, object_pairs_hook=_each_once, parse_constant=_no_constant)
    except FormatError:
        raise
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise FormatError(f"it is no JSON ({where}: {error.msg[:1].lower()}{error.msg[1:]}): {_NEEDED}") from None
    except UnicodeDecodeError as error:
        raise FormatError(f"it is no JSON (byte {error.start:,} is no UTF-8): {_NEEDED}") from None
    except (ValueError, RecursionError):
        raise FormatError("its JSON cannot be read: it is nested too deeply, or has too large a number") from None
    draft = Draft()
    reader = import_module(f"dataplane.interchange.{format_name}")
    try:
        reader.read(value, draft)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError) as error:
        if isinstance(error, FormatError):
            raise
        # Python's own words about a value of another kind tell nobody which one.
        what = (
            f"the field {error} is missing"
            if isinstance(error, KeyError)
            else "it is not of the kind that it should be"
        )
        raise FormatError(f"it is no document of {format_name}: {draft.place or 'the document'}: {what}") from None
    return draft.finish(), draft.left_out


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, of which JSON's reader would take the last of values under the same name, in silence."""
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise FormatError(f"the name {shown(twice)} stands twice in one object: {_NEEDED}")
    return made


def _no_constant(written: str) -> Any:
    raise FormatError(f"it is no JSON ({written} is no number of it): {_NEEDED}")
