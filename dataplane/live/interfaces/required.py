"""The interfaces that a policy names, and what for. Raises PortError with a sentence for people."""

from __future__ import annotations

import pwd
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataplane.live.interfaces.links import PortError
from dataplane.policy.mistakes import UnfitError
from dataplane.port_bindings import PORTS_MAX

if TYPE_CHECKING:
    from dataplane.live.interfaces.links import Link
    from dataplane.policy import Policy
    from dataplane.policy.document import Instance, LoadBalancer, Tap

#: Numbers of users: those of more bits are nobody's, and the highest stands for nobody.
_USERS = (1 << 32) - 1


class UnfitPortError(PortError, UnfitError):
    """The policy does not say which interface is whose, whatever interfaces there are."""


@dataclass(frozen=True, slots=True)
class Required:
    """An interface that a policy names, and what for."""

    name: str
    instance: Instance | None = None
    balancer: LoadBalancer | None = None

    @property
    def tap(self) -> Tap | None:
        """How it is made if it does not exist."""
        return self.instance.tap if self.instance else None

    @property
    def namespace(self) -> str | None:
        """Where it is; None for this process's own network namespace."""
        return self.tap.namespace if self.tap else None

    @property
    def mtu(self) -> int:
        """The largest packet of a TAP that is made."""
        return self.tap.mtu if self.tap else 1500

    @property
    def is_deaf(self) -> bool:
        """Whether the host's own stack is to take nothing from it where AF_PACKET reads it.

        An uplink may be the host's own way out, too, by a VLAN or a bridge.
        """
        return self.instance is not None or self.balancer is not None

    @property
    def facts(self) -> tuple[object, ...]:
        """What a port is told about what stands behind it."""
        if self.instance:
            return (self.instance.id, self.instance.mac, self.instance.port_security_enabled)
        return (self.balancer.id if self.balancer else None,)


def required_by(policy: Policy, uplinks: Iterable[str]) -> dict[str, Required]:
    """The interfaces of a policy by name. Raises PortError when one has none or is taken, or they are too many."""
    without = [instance.id for instance in policy.instances if instance.interface is None]
    if without:
        more = f" and {len(without) - 3} more" if len(without) > 3 else ""
        which = f"instance{'s' if len(without) > 1 else ''} {', '.join(without[:3])}{more}"
        raise UnfitPortError(
            f"{which} in the policy {'have' if len(without) > 1 else 'has'} no interface: live traffic needs one for"
            " each instance, as in interface: tap-a"
        )
    wanted = {i.interface: Required(i.interface, instance=i) for i in policy.instances if i.interface}
    wanted |= {b.interface: Required(b.interface, balancer=b) for b in policy.load_balancers if b.interface}
    wanted |= {u.interface: Required(u.interface) for u in policy.uplinks}
    for name in uplinks:
        if name in wanted and (wanted[name].instance or wanted[name].balancer):
            owner = wanted[name].instance or wanted[name].balancer
            raise UnfitPortError(
                f"interface {name} is an uplink by --uplink, and of {owner.id if owner else ''} in the policy: name"
                " another interface for one of them"
            )
        wanted.setdefault(name, Required(name))
    if len(wanted) > PORTS_MAX:
        raise UnfitPortError(
            f"the policy names {len(wanted):,} interfaces, and one firewall serves {PORTS_MAX:,} at most: leave"
            " instances to a second one"
        )
    return wanted


def not_there(want: Required) -> PortError:
    """The sentence about an interface that does not exist and is not dataplane's to make."""
    what = f"of load balancer {want.balancer.id}" if want.balancer else "of an uplink"
    return PortError(
        f"interface {want.name} {what} does not exist: make it first, or name another one (ip link shows all)"
    )


def user_number(name: str) -> int:
    """The user that a policy names, by name or number. Raises PortError when there is none."""
    if name.isascii() and name.isdecimal() and int(name) < _USERS:
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise PortError(f"there is no user {name}, whom the policy names as the owner of a TAP") from None


def shared_with_host(link: Link, *, is_deaf: bool) -> Iterator[str]:
    """What else uses an interface that is served by AF_PACKET: what a sentence goes on with behind its name.

    `is_deaf` where the host's own stack takes nothing from it.
    """
    addresses = [a for a, _ in link.addresses if not a.startswith("fe80:")]
    if addresses:
        yield f"has the address {' and '.join(addresses)}: while dataplane runs, the host does not answer there"
    if not is_deaf and any(":" not in a for a in addresses):
        yield (
            "has an IPv4 address: what its subnet sends to the host itself, the host takes past every rule;"
            f" take the address away (ip -4 address flush dev {link.name})"
        )
    if link.master:
        yield (
            f"is a port of {link.master}, which forwards its packets too and past every rule: take it out (ip link"
            f" set {link.name} nomaster)"
        )
