"""dataplane: security groups for any Linux host, and captures replayed through a policy.

>>> from dataplane import DataPlane, Policy
>>> firewall = DataPlane(Policy.load("policy.yaml"))
>>> firewall.process(frame, time=0.0).verdict
'allow'

The public names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataplane._core.errors import DataPlaneError
    from dataplane.connection_table import Connection, Connections
    from dataplane.library import DataPlane
    from dataplane.policy.changes import ChangeError
    from dataplane.policy.mistakes import PolicyError
    from dataplane.policy.model import Policy
    from dataplane.verdict import Check, Verdict

__version__ = "0.1.0"

_HOMES = {
    "ChangeError": "dataplane.policy.changes",
    "Check": "dataplane.verdict",
    "Connection": "dataplane.connection_table",
    "Connections": "dataplane.connection_table",
    "DataPlane": "dataplane.library",
    "DataPlaneError": "dataplane._core.errors",
    "Policy": "dataplane.policy.model",
    "PolicyError": "dataplane.policy.mistakes",
    "Verdict": "dataplane.verdict",
}

__all__ = [
    "ChangeError",
    "Check",
    "Connection",
    "Connections",
    "DataPlane",
    "DataPlaneError",
    "Policy",
    "PolicyError",
    "Verdict",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'dataplane' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
