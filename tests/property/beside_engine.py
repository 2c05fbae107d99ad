"""The engine beside the model: whether it says the same of a packet, and takes a change that the model takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataplane import ChangeError, DataPlane

from .model import Check, Verdict
from .policy_model import GENERATED
from .story import CHECK_FIELDS


def agree(expected: Verdict, got: Any) -> bool:
    """Whether the engine's verdict is the model's."""
    return (
        expected.verdict == got.verdict
        and len(expected.checks) == len(got.checks)
        and all(map(_same, expected.checks, got.checks))
    )


def _same(expected: Check, got: Any) -> bool:
    for field in CHECK_FIELDS:
        wanted, found = getattr(expected, field), getattr(got, field)
        if field == "rule" and wanted is not None and wanted.startswith(GENERATED):
            # The document names no such rule: any name will do, but there must be one.
            if not isinstance(found, str) or not found:
                return False
        elif wanted != found:
            return False
    return True


def engine_change(change: Mapping[str, Any], directory: Path) -> Mapping[str, Any]:
    """The change as the engine takes it: `apply_policy` names a file (SPEC 7)."""
    if "apply_policy" not in change:
        return change
    path = directory / "other.yaml"
    path.write_text(json.dumps(change["apply_policy"]))
    return {"apply_policy": str(path)}


def refused(data_plane: DataPlane, change: Mapping[str, Any], time_ns: int, directory: Path) -> bool:
    """Whether the engine refuses a change (SPEC 5.6)."""
    try:
        data_plane.apply(engine_change(change, directory), time_ns=time_ns)
    except ChangeError:
        return True
    return False
