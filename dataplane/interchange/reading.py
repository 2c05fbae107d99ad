"""A document of another system as a policy of ours."""

from __future__ import annotations

import json
from importlib import import_module

from dataplane.interchange import Format
from dataplane.interchange.draft import Draft, FormatError


def imported(format_name: Format, data: bytes) -> tuple[str, list[str]]:
    """A policy in YAML, and sentences about what of the document it cannot express. Raises FormatError."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"it is no JSON: {error}") from None
    draft = Draft()
    reader = import_module(f"dataplane.interchange.{format_name}")
    try:
        reader.read(value, draft)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError) as error:
        if isinstance(error, FormatError):
            raise
        # Python's own words about a value of another kind tell nobody which one.
        what = "a value in it is not of the kind that it should be"
        if isinstance(error, KeyError):
            what = f"the field {error} is missing"
        raise FormatError(f"it is no document of {format_name}: {what}") from None
    return draft.finish(), draft.left_out
