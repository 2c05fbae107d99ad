"""What must fit together in a document: fields of one rule, references, ids and addresses that may occur once (SPEC 2).

The functions yield a Conflict for each thing that does not, with its place counted from the part they were given. They
are also asked about documents with other mistakes, so that all are found in one run: a bad value is then `BAD`, which
takes part in no conflict; where a mapping should be and is not, every value is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from dataplane.policy import icmp, limits
from dataplane.policy.fields import PROTOCOLS_WITH_PORTS, VirtualAddress, family, pair_prefix
from dataplane.policy.mistakes import Conflict, Location, alternatives, dotted, shown, unknown

if TYPE_CHECKING:
    from dataplane.policy.model import AddressGroup, Instance, LoadBalancer, Policy, SecurityGroup
    from dataplane.policy.rule import SecurityGroupRule

#: The id of the security group that is made on the fly (SPEC 3.4).
DEFAULT_GROUP = "default"

REMOTES = ("remote_ip_prefix", "remote_group_id", "remote_address_group_id")


class _Bad:
    """Stands for a value that is not allowed; where that should be a list, nothing is in it."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


BAD: Final[Any] = _Bad()

#: How many unknown ids of one document get a "did you mean": each costs a comparison with every known one.
_HINTS = 20


def _good(items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """The items that are good, with their index."""
    for index, item in enumerate(items):
        if item is not BAD:
            yield index, item


# ---- one rule ----


def rule_conflicts(rule: SecurityGroupRule) -> list[Conflict]:
    """The fields of one rule against each other."""
    found: list[Conflict] = []
    protocol, ethertype, prefix = rule.protocol, rule.ethertype, rule.remote_ip_prefix
    if rule.multiport is not None and protocol is not BAD and protocol not in PROTOCOLS_WITH_PORTS:
        found.append(_needs_protocol(rule, "multiport", alternatives(PROTOCOLS_WITH_PORTS)))
    if rule.icmp_type is not None or rule.icmp_code is not None:
        found.extend(_icmp_conflicts(rule))
    if protocol == "icmp" and ethertype == "IPv6":
        found.append(Conflict(("protocol",), "protocol icmp belongs to IPv4: write icmpv6 in an IPv6 rule"))
    elif protocol == "icmpv6" and ethertype == "IPv4":
        found.append(Conflict(("protocol",), 'protocol icmpv6 belongs to IPv6: write icmp, or "ethertype: IPv6"'))
    if prefix is not None and (":" in prefix) != (ethertype == "IPv6") and BAD not in (prefix, ethertype):
        text = f"remote_ip_prefix {shown(prefix)} is IPv{family(prefix)} and the ethertype of the rule is {ethertype}"
        found.append(Conflict(("remote_ip_prefix",), text))
    remotes = (prefix is not None) + (rule.remote_group_id is not None) + (rule.remote_address_group_id is not None)
    if remotes > 1:
        given = [name for name in REMOTES if getattr(rule, name) is not None]
        text = f"{' and '.join(given)} are given together: at most one of them is allowed"
        found.append(Conflict((given[-1],), text, at_key=True))
    return found


def _needs_protocol(rule: SecurityGroupRule, name: str, protocols: str) -> Conflict:
    found = "the rule has none" if rule.protocol is None else f"the rule has protocol {rule.protocol}"
    return Conflict((name,), f"{name} is allowed with protocol {protocols} only: {found}", at_key=True)


def _icmp_conflicts(rule: SecurityGroupRule) -> Iterator[Conflict]:
    kind, code, protocol = rule.icmp_type, rule.icmp_code, rule.protocol
    if code is not None and kind is None:
        yield Conflict(("icmp_code",), "icmp_code is allowed with an icmp_type only", at_key=True)
    if protocol not in ("icmp", "icmpv6"):
        if protocol is not BAD:
            for name, value in (("icmp_type", kind), ("icmp_code", code)):
                if value is not None:
                    yield _needs_protocol(rule, name, "icmp or icmpv6")
        return
    number = None
    if kind is not None and kind is not BAD:
        number = icmp.type_number(str(protocol), kind)
        if number is None:
            known = alternatives(icmp.type_names(str(protocol)))
            yield Conflict(("icmp_type",), f"icmp_type {shown(kind)} is no type of {protocol}: {known}, or a number")
    if isinstance(code, str) and number is not None:
        names = icmp.code_names(str(protocol), number)
        if code not in names:
            allowed = f"{', '.join(names)} or a number" if names else "write its number"
            yield Conflict(
                ("icmp_code",), f"icmp_code {shown(code)} is no code of {protocol} type {number} by name: {allowed}"
            )


# ---- other parts by themselves ----


def address_group_conflicts(group: AddressGroup) -> Iterator[Conflict]:
    """The entries of an address group against its version."""
    if group.ip_version is BAD:
        return
    for index, entry in _good(group.ip_set):
        if family(entry) != group.ip_version:
            place = ("ip_set", index)
            yield Conflict(
                place, f"{dotted(place)} {shown(entry)} is IPv{family(entry)} and ip_version is {group.ip_version}"
            )


def instance_conflicts(instance: Instance) -> Iterator[Conflict]:
    """How a TAP is made needs the TAP's name."""
    if instance.tap is not None and instance.interface is None:
        yield Conflict(("tap",), "tap is allowed with an interface only: it says how that is made", at_key=True)


def balancer_conflicts(balancer: LoadBalancer) -> Iterator[Conflict]:
    """A load balancer must be recognisable."""
    if not balancer.addresses and balancer.mac is None and balancer.interface is None:
        yield Conflict((), "a load balancer needs an address, a mac or an interface: it is recognised by one of them")


# ---- references ----


class References:
    """The ids that a document defines, and what is wrong with references to them."""

    def __init__(self, policy: Policy) -> None:
        self._region = policy.region
        self._groups = _by_id(policy.security_groups)
        self._address_groups = _by_id(policy.address_groups)
        self._instances = _by_id(policy.instances)
        self._default_made = any(instance.security_groups == () for instance in policy.instances)
        self._hints = _HINTS

    def of_rule(self, rule: SecurityGroupRule, group: SecurityGroup) -> Iterator[Conflict]:
        """References of a rule in `group`."""
        name = rule.remote_group_id
        if isinstance(name, str) and not self._is_made_default(name) and self._groups is not None:
            remote = self._groups.get(name)
            if remote is None:
                yield self._unknown(("remote_group_id",), "security group", name, self._groups)
            elif BAD not in (remote.region, group.region, self._region):
                here, there = group.region or self._region, remote.region or self._region
                if here != there:
                    yield Conflict(
                        ("remote_group_id",),
                        f"remote_group_id {shown(name)} is of region {shown(there)} and the group of this rule is of"
                        f" region {shown(here)}: a remote group must be of the same region",
                    )
        name = rule.remote_address_group_id
        if isinstance(name, str) and self._address_groups is not None:
            address_group = self._address_groups.get(name)
            if address_group is None:
                yield self._unknown(("remote_address_group_id",), "address group", name, self._address_groups)
            elif BAD not in (address_group.ip_version, rule.ethertype) and (
                rule.ethertype != f"IPv{address_group.ip_version}"
            ):
                yield Conflict(
                    ("remote_address_group_id",),
                    f"remote_address_group_id {shown(name)} has ip_version {address_group.ip_version} and the"
                    f" ethertype of the rule is {rule.ethertype}",
                )

    def of_instance(self, instance: Instance) -> Iterator[Conflict]:
        """References of an instance to its security groups."""
        seen: set[str] = set()
        for index, name in _good(instance.security_groups):
            place = ("security_groups", index)
            if name in seen:
                yield Conflict(place, f"{dotted(place)} {shown(name)} is in the list already")
            elif self._groups is not None and name not in self._groups and not self._is_made_default(name):
                yield self._unknown(place, "security group", name, self._groups)
            seen.add(name)

    def of_balancer(self, balancer: LoadBalancer) -> Iterator[Conflict]:
        """References of a load balancer to its backends."""
        seen: set[str] = set()
        for index, name in _good(balancer.backends):
            place = ("backends", index)
            if name in seen:
                yield Conflict(place, f"{dotted(place)} {shown(name)} is in the list already")
            elif self._instances is not None and name not in self._instances:
                yield self._unknown(place, "instance", name, self._instances)
            seen.add(name)

    def vpcs(self, balancer: LoadBalancer) -> Iterable[str]:
        """The VPCs that a balancer's backends are in."""
        backends = (self._instances.get(name) for _, name in _good(balancer.backends)) if self._instances else ()
        return sorted({backend.vpc for backend in backends if backend is not None and backend.vpc is not BAD})

    def _is_made_default(self, name: str) -> bool:
        return name == DEFAULT_GROUP and self._default_made

    def _unknown(self, place: Location, kind: str, name: str, known: Mapping[str, object]) -> Conflict:
        self._hints -= 1
        text = f"{dotted(place)} {shown(name)} {unknown(kind, name, known if self._hints >= 0 else {})}"
        if name == DEFAULT_GROUP and kind == "security group":
            text += ": it is made where an instance leaves security_groups out"
        return Conflict(place, text)


def _by_id(items: Iterable[Any]) -> dict[str, Any] | None:
    """Items by id; None where the list as a whole is bad, so that nothing can be said about references into it."""
    return None if items is BAD else {item.id: item for item in items if item.id is not BAD}


# ---- the whole document ----


def document_conflicts(policy: Policy) -> Iterator[Conflict]:
    """Everything that must fit together across the document."""
    yield from _repeated_ids(policy)
    yield from fitting_conflicts(policy)


def fitting_conflicts(policy: Policy) -> Iterator[Conflict]:
    """References, quotas, and what may occur once, ids aside."""
    references = References(policy)
    for g, group in enumerate(policy.security_groups):
        place: Location = ("security_groups", g)
        yield from _within(place, limits.quota_conflicts(group))
        for r, rule in enumerate(group.security_group_rules):
            if rule.remote_group_id is not None or rule.remote_address_group_id is not None:
                yield from _within((*place, "security_group_rules", r), references.of_rule(rule, group))
    for i, instance in enumerate(policy.instances):
        yield from _within(("instances", i), references.of_instance(instance))
    for b, balancer in enumerate(policy.load_balancers):
        yield from _within(("load_balancers", b), references.of_balancer(balancer))
    yield from _endpoint_conflicts(policy, references)


def _within(place: Location, conflicts: Iterable[Conflict]) -> Iterator[Conflict]:
    for conflict in conflicts:
        yield Conflict(place + conflict.location, conflict.message, conflict.at_key)


def _repeated_ids(policy: Policy) -> Iterator[Conflict]:
    for section in ("security_groups", "address_groups", "instances", "load_balancers"):
        seen: dict[str, Location] = {}
        for index, item in enumerate(getattr(policy, section)):
            if item.id is not BAD and item.id in seen:
                yield _repeated_id((section, index), item.id, seen[item.id])
            seen.setdefault(item.id, (section, index))
    ids = [rule.id for group in policy.security_groups for rule in group.security_group_rules]
    if len(set(ids)) == len(ids):
        return
    first: dict[str, tuple[int, int]] = {}
    for g, group in enumerate(policy.security_groups):
        for r, rule in enumerate(group.security_group_rules):
            if rule.id is not BAD and rule.id and first.setdefault(rule.id, (g, r)) != (g, r):
                place = ("security_groups", g, "security_group_rules", r)
                g0, r0 = first[rule.id]
                yield _repeated_id(place, rule.id, ("security_groups", g0, "security_group_rules", r0))


def _repeated_id(place: Location, name: str, first: Location) -> Conflict:
    return Conflict((*place, "id"), f"id {shown(name)} is used twice: {dotted(first)} has it already")


def _endpoint_conflicts(policy: Policy, references: References) -> Iterator[Conflict]:
    """Addresses and MACs may occur once in a VPC, interfaces once at all; instances may share a virtual IP."""
    first: dict[_Holding, Location] = {}
    for holding, place in _holdings(policy, references):
        before = first.setdefault(holding, place)
        if before is not place:
            yield _taken(policy, holding, place, before)
    for i, instance in enumerate(policy.instances):
        if not instance.allowed_address_pairs or instance.vpc is BAD:
            continue
        macs: dict[str, tuple[int, str]] = {}
        for a, pair in _good(instance.allowed_address_pairs):
            place = ("instances", i, "allowed_address_pairs", a)
            wanted = [("addresses", instance.vpc, pair_prefix(pair))]
            if isinstance(pair, VirtualAddress):
                wanted.append(("mac", instance.vpc, pair.mac))
                earlier, mac = macs.setdefault(pair.ip, (a, pair.mac))
                if mac != pair.mac:
                    yield _second_mac(place, pair, earlier, mac)
            for holding in wanted:
                if holding in first and first[holding][:2] != ("instances", i):
                    yield _taken(policy, holding, place, first[holding])


def _second_mac(place: Location, pair: VirtualAddress, earlier: int, mac: str) -> Conflict:
    return Conflict(
        place,
        f"{dotted(place[2:])} has {shown(pair.ip)} with mac {shown(pair.mac)}, allowed_address_pairs[{earlier}] with"
        f" mac {shown(mac)}: a virtual IP has one mac in an instance, remove one of the two",
    )


#: The field, the VPC (empty for what is unique everywhere), and the value.
_Holding = tuple[str, str, str]


def _holdings(policy: Policy, references: References) -> Iterator[tuple[_Holding, Location]]:
    """Everything that instances, load balancers and uplinks have and that may occur once."""
    for i, instance in enumerate(policy.instances):
        vpc = instance.vpc
        if vpc is not BAD:
            for a, address in _good(instance.addresses):
                yield ("addresses", vpc, address), ("instances", i, "addresses", a)
            if isinstance(instance.mac, str):
                yield ("mac", vpc, instance.mac), ("instances", i, "mac")
        if isinstance(instance.interface, str):
            yield ("interface", "", instance.interface), ("instances", i, "interface")
    for b, balancer in enumerate(policy.load_balancers):
        for vpc in references.vpcs(balancer):
            for a, address in _good(balancer.addresses):
                yield ("addresses", vpc, address), ("load_balancers", b, "addresses", a)
            if isinstance(balancer.mac, str):
                yield ("mac", vpc, balancer.mac), ("load_balancers", b, "mac")
        if isinstance(balancer.interface, str):
            yield ("interface", "", balancer.interface), ("load_balancers", b, "interface")
    for u, uplink in enumerate(policy.uplinks):
        if isinstance(uplink.interface, str):
            yield ("interface", "", uplink.interface), ("uplinks", u, "interface")


def _taken(policy: Policy, holding: _Holding, place: Location, before: Location) -> Conflict:
    _, vpc, value = holding
    section, index = str(before[0]), before[1]
    owner_id = getattr(getattr(policy, section)[index], "id", BAD)
    kind = "instance" if section == "instances" else "load balancer"
    owner = dotted(before[:2]) if owner_id is BAD else f"{kind} {shown(owner_id)}"
    where = f" in vpc {shown(vpc)}" if vpc else ""
    return Conflict(place, f"{dotted(place[2:])} {shown(value)} is taken{where}: {owner} has it already")
