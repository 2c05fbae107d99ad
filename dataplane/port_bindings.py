"""What stands behind an interface of the policy, in the words of the C side: for live ports and captures by port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dataplane._core import ffi, lib

if TYPE_CHECKING:
    from dataplane.policy.model import Policy
    from dataplane.verdict import Names

#: The most ports of one firewall.
PORTS_MAX: int = lib.DP_PORTS_MAX


def describe_port(policy: Policy, names: Names, *, instance: str | None = None, balancer: str | None = None) -> Any:
    """A `struct dp_port` for an instance or a load balancer by id, closed where the policy does not have it.

    For neither it is that of the world outside.
    """
    c = ffi.new("struct dp_port *", {"zone": lib.DP_ZONE_NONE})
    found = policy.instances_by_id.get(instance) if instance is not None else None
    known = next((known for known in policy.load_balancers if known.id == balancer), None)
    c.closed = (instance is not None and not found) or (balancer is not None and not known)
    if found:
        c.zone = names.zone(found.id)
        c.guarded = found.port_security_enabled
        _set_mac(c, found.mac)
    if known:
        c.balancer = names.balancer(known.id)
        _set_mac(c, known.mac)
    return c


def _set_mac(c: Any, mac: str | None) -> None:
    if mac:
        c.has_mac, c.mac = 1, bytes.fromhex(mac.replace(":", ""))
