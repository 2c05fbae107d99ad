"""What must fit together in a document: references, ids and addresses that may occur once, quotas (SPEC 2, 6).

The functions yield a Conflict for each thing that does not, with its place counted from the part they were given. They
are also asked about documents with other mistakes, so that all are found in one run: a bad value is then `BAD`, which
takes part in no conflict; where a mapping should be and is not, every value is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from dataplane.policy import limits
from dataplane.policy.addresses import VirtualAddress, pair_prefix
from dataplane.policy.base import BAD, good
from dataplane.policy.document import (
    DEFAULT_GROUP,
    AddressGroup,
    Document,
    Instance,
    LoadBalancer,
    SecurityGroup,
)
from dataplane.policy.mistakes import Conflict, Location, dotted, shown, unknown
from dataplane.policy.rule import SecurityGroupRule

#: How many unknown ids of one document get a "did you mean": each costs a comparison with every known one.
_HINTS = 20


# ---- references ----

T = TypeVar("T")

#: Items by id; None where nothing can be said about references to them.
_Known = Mapping[str, T] | None


class References:
    """The ids that a document defines, and what is wrong with references to them."""

    def __init__(
        self,
        region: str,
        groups: _Known[SecurityGroup],
        address_groups: _Known[AddressGroup],
        instances: _Known[Instance],
        *,
        default_made: bool,
    ) -> None:
        self._region = region
        self._groups, self._address_groups, self._instances = groups, address_groups, instances
        self._default_made = default_made
        self._hints = _HINTS

    @classmethod
    def of(cls, document: Document) -> References:
        """Those of a document that may have mistakes, or leave something out."""
        return cls(
            document.region,
            _by_id(document.security_groups),
            _by_id(document.address_groups),
            _by_id(document.instances),
            default_made=any(instance.security_groups == () for instance in document.instances),
        )

    @classmethod
    def to(cls, policy: Document) -> References:
        """Those of a policy, which is right and complete, by the lookups that it has."""
        groups, address_groups = policy.groups_by_id, policy.address_groups_by_id
        return cls(policy.region, groups, address_groups, policy.instances_by_id, default_made=False)

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
        for index, name in good(instance.security_groups):
            place = ("security_groups", index)
            if name in seen:
                yield Conflict(place, f"{dotted(place)} {shown(name)} is in the list already")
            elif self._groups is not None and name not in self._groups and not self._is_made_default(name):
                yield self._unknown(place, "security group", name, self._groups)
            seen.add(name)

    def of_balancer(self, balancer: LoadBalancer) -> Iterator[Conflict]:
        """References of a load balancer to its backends."""
        seen: set[str] = set()
        for index, name in good(balancer.backends):
            place = ("backends", index)
            if name in seen:
                yield Conflict(place, f"{dotted(place)} {shown(name)} is in the list already")
            elif self._instances is not None and name not in self._instances:
                yield self._unknown(place, "instance", name, self._instances)
            seen.add(name)

    def vpcs(self, balancer: LoadBalancer) -> Iterable[str]:
        """The VPCs that a balancer's backends are in."""
        backends = (self._instances.get(name) for _, name in good(balancer.backends)) if self._instances else ()
        return sorted({backend.vpc for backend in backends if backend is not None and backend.vpc is not BAD})

    def _is_made_default(self, name: str) -> bool:
        return name == DEFAULT_GROUP and self._default_made

    def _unknown(self, place: Location, kind: str, name: str, known: Mapping[str, object]) -> Conflict:
        self._hints -= 1
        text = f"{dotted(place)} {shown(name)} {unknown(kind, name, known if self._hints >= 0 else {})}"
        if name == DEFAULT_GROUP and kind == "security group":
            text += ": it is made where an instance leaves security_groups out"
        return Conflict(place, text)


def _by_id(items: Iterable[Any]) -> Mapping[str, Any] | None:
    """Items by id; None where the list as a whole is bad, so that nothing can be said about references into it."""
    return None if items is BAD else {item.id: item for item in items if item.id is not BAD}


# ---- the whole document ----


def document_conflicts(policy: Document) -> Iterator[Conflict]:
    """Everything that must fit together across the document."""
    yield from _repeated_ids(policy)
    yield from fitting_conflicts(policy)


def fitting_conflicts(policy: Document) -> Iterator[Conflict]:
    """References, quotas, and what may occur once, ids aside."""
    references = References.of(policy)
    for g, group in enumerate(policy.security_groups):
        place: Location = ("security_groups", g)
        yield from _within(place, limits.quota_conflicts(group))
        for r, rule in enumerate(group.security_group_rules):
            if rule.remote_group_id is not None or rule.remote_address_group_id is not None:
                yield from _within((*place, "security_group_rules", r), references.of_rule(rule, group))
    # Many instances are in the same groups: these are looked up once.
    known: set[tuple[str, ...]] = set()
    for i, instance in enumerate(policy.instances):
        groups = instance.security_groups
        if type(groups) is tuple and groups in known:
            continue
        found = list(references.of_instance(instance))
        if found:
            yield from _within(("instances", i), found)
        elif type(groups) is tuple:
            known.add(groups)
    for b, balancer in enumerate(policy.load_balancers):
        yield from _within(("load_balancers", b), references.of_balancer(balancer))
    yield from _endpoint_conflicts(policy, references)


def _within(place: Location, conflicts: Iterable[Conflict]) -> Iterator[Conflict]:
    for conflict in conflicts:
        yield Conflict(place + conflict.location, conflict.message, conflict.at_key)


def _repeated_ids(policy: Document) -> Iterator[Conflict]:
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


def _endpoint_conflicts(policy: Document, references: References) -> Iterator[Conflict]:
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
        for a, pair in good(instance.allowed_address_pairs):
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


def _holdings(policy: Document, references: References) -> Iterator[tuple[_Holding, Location]]:
    """Everything that instances, load balancers and uplinks have and that may occur once."""
    for i, instance in enumerate(policy.instances):
        vpc = instance.vpc
        if vpc is not BAD:
            for a, address in good(instance.addresses):
                yield ("addresses", vpc, address), ("instances", i, "addresses", a)
            if isinstance(instance.mac, str):
                yield ("mac", vpc, instance.mac), ("instances", i, "mac")
        if isinstance(instance.interface, str):
            yield ("interface", "", instance.interface), ("instances", i, "interface")
    for b, balancer in enumerate(policy.load_balancers):
        for vpc in references.vpcs(balancer):
            for a, address in good(balancer.addresses):
                yield ("addresses", vpc, address), ("load_balancers", b, "addresses", a)
            if isinstance(balancer.mac, str):
                yield ("mac", vpc, balancer.mac), ("load_balancers", b, "mac")
        if isinstance(balancer.interface, str):
            yield ("interface", "", balancer.interface), ("load_balancers", b, "interface")
    for u, uplink in enumerate(policy.uplinks):
        if isinstance(uplink.interface, str):
            yield ("interface", "", uplink.interface), ("uplinks", u, "interface")


def _taken(policy: Document, holding: _Holding, place: Location, before: Location) -> Conflict:
    _, vpc, value = holding
    section, index = str(before[0]), before[1]
    owner_id = getattr(getattr(policy, section)[index], "id", BAD)
    kind = "instance" if section == "instances" else "load balancer"
    owner = dotted(before[:2]) if owner_id is BAD else f"{kind} {shown(owner_id)}"
    where = f" in vpc {shown(vpc)}" if vpc else ""
    return Conflict(place, f"{dotted(place[2:])} {shown(value)} is taken{where}: {owner} has it already")
