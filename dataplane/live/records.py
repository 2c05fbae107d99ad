"""What the control socket answers, as JSON values: the forms that outside programs read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataplane.connections import Connection
    from dataplane.enforcement import Disconnected


def connection_record(connection: Connection, *, now_ns: int) -> dict[str, Any]:
    """A connection; `expires_in` and `idle` are seconds, from now and since its last packet (or since it was cut)."""
    return {
        "instance": connection.instance,
        "origin": connection.origin,
        "protocol": connection.protocol,
        "state": connection.state,
        "local": connection.local,
        "local_port": connection.local_port,
        "remote": connection.remote,
        "remote_port": connection.remote_port,
        "icmp_id": connection.icmp_id,
        "icmp_type": connection.icmp_type,
        "rule": connection.rule,
        "security_group": connection.security_group,
        "disconnected": connection.disconnected,
        "expires_in": max(0, connection.expires_ns - now_ns) / 1e9,
        "idle": max(0, now_ns - connection.last_ns) / 1e9,
    }


def disconnected_record(result: Disconnected) -> dict[str, Any]:
    """What a change disconnected, or would."""
    return {"total": result.total, "by_instance": dict(result.by_instance), "revoked": result.revoked}
