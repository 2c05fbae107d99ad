"""The rules of a policy in the order in which they are tried, as sets of packets (SPEC 3.1, 3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dataplane.insight.packet_sets import SELECTOR_MAX, Interval, Intervals, Match, match, merged
from dataplane.insight.unjudged import never_judged
from dataplane.policy.addresses import packed_address
from dataplane.policy.rule import SecurityGroupRule

if TYPE_CHECKING:
    from dataplane.policy.document import Instance, SecurityGroup
    from dataplane.policy.model import Policy

#: Direction and ethertype.
Table = tuple[str, str]
TABLES: tuple[Table, ...] = (("ingress", "IPv4"), ("ingress", "IPv6"), ("egress", "IPv4"), ("egress", "IPv6"))
#: The number of no rule; all below 0 are none's.
NO_RULE = -1
#: What takes packets before all rules: control traffic and what else is never judged, and load balancers'.
NEVER_JUDGED, BALANCERS = -2, -3
BITS = {"IPv4": 32, "IPv6": 128}


@dataclass(frozen=True, slots=True)
class NumberedRule:
    """An enabled rule, and the security group that it is in; `number` counts all of the policy from 0."""

    number: int
    group: SecurityGroup
    rule: SecurityGroupRule

    @property
    def allows(self) -> bool:
        """Whether its action is allow."""
        return self.rule.action == "allow"


@dataclass(frozen=True, slots=True)
class Membership:
    """An ordered list of groups, with the instances that have it and are alike in what passes without rules.

    A group without instances has one of its own, so that it is looked at by itself: as if such came that may do all.
    """

    groups: tuple[str, ...]
    instances: tuple[Instance, ...]
    balancers: tuple[str, ...]
    dhcp_server: bool


class Tables:
    """What each ordered list of groups matches, in order; rules that are not enabled are left out."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        enabled = ((g, rule) for g in policy.security_groups for rule in g.security_group_rules if rule.enabled)
        self.rules = [NumberedRule(number, group, rule) for number, (group, rule) in enumerate(enabled)]
        self._addresses: dict[tuple[str, str], Intervals] = {}
        self._matches: dict[tuple[str, Table], list[Match]] = {}
        self._in_order: dict[tuple[str, Table], list[NumberedRule]] = {}
        for item in sorted(self.rules, key=lambda item: (item.rule.priority, item.allows)):
            table = item.rule.direction, item.rule.ethertype
            self._in_order.setdefault((item.group.id, table), []).append(item)

    @cached_property
    def memberships(self) -> tuple[Membership, ...]:
        """All ordered lists of groups, those of instances in the order of the document, then groups without any."""
        alike: dict[tuple[tuple[str, ...], tuple[str, ...], bool], list[Instance]] = {}
        passing = self._passing()
        for instance in self.policy.instances:
            key = instance.security_groups, tuple(passing.get(instance.id, ())), instance.dhcp_server
            alike.setdefault(key, []).append(instance)
        found = [
            Membership(groups, tuple(members), passed, serves) for (groups, passed, serves), members in alike.items()
        ]
        empty = (group.id for group in self.policy.security_groups if not self.policy.members(group.id))
        return (*found, *(Membership((group,), (), (), True) for group in empty))

    def _passing(self) -> dict[str, list[str]]:
        """By instance, the addresses of load balancers whose packets pass without rules (SPEC 3.5).

        One that has an interface counts only there when live, so that its address alone says nothing.
        """
        passing: dict[str, list[str]] = {}
        for balancer in self.policy.load_balancers:
            if balancer.transfer_client_ip and balancer.interface is None:
                for backend in balancer.backends:
                    passing.setdefault(backend, []).extend(balancer.addresses)
        return passing

    def matches(self, membership: Membership, table: Table) -> list[Match]:
        """What decides about a first packet, in order: what passes or is refused without rules, then the rules."""
        return [*self.before_rules(membership, table), *self.of_groups(membership.groups, table)]

    def of_groups(self, groups: Iterable[str], table: Table) -> list[Match]:
        """The rules of groups, in the order in which they are tried."""
        return [found for group in groups for found in self._of_group(group, table)]

    def has_rules(self, group: str, table: Table) -> bool:
        """Whether a rule of the group matches anything there."""
        return bool(self._of_group(group, table))

    def _of_group(self, group: str, table: Table) -> list[Match]:
        key = group, table
        if key not in self._matches:
            named = ((item, self.remotes(item.rule)) for item in self._in_order.get(key, ()))
            found = [match(item.number, remotes, merged(item.rule.selectors)) for item, remotes in named if remotes]
            self._matches[key] = found
        return self._matches[key]

    def before_rules(self, membership: Membership, table: Table) -> Iterator[Match]:
        """What rules never decide about."""
        direction, ethertype = table
        everywhere = ((0, (1 << BITS[ethertype]) - 1),)
        yield match(NEVER_JUDGED, everywhere, never_judged(direction, ethertype, membership.dhcp_server))
        addresses = [a for a in membership.balancers if (":" in a) == (ethertype == "IPv6")]
        if addresses:
            yield match(BALANCERS, merged(map(_only, addresses)), ((0, SELECTOR_MAX),))

    def remotes(self, rule: SecurityGroupRule) -> Intervals:
        """The addresses that a rule names as its remote now; none where its group has none of the rule's family."""
        if rule.remote_prefix is not None:
            return (_block(*rule.remote_prefix),)
        kind, name = (
            ("group", rule.remote_group_id)
            if rule.remote_group_id is not None
            else ("address group", rule.remote_address_group_id)
        )
        if name is None:
            return ((0, (1 << BITS[rule.ethertype]) - 1),)
        key = f"{kind} {name}", rule.ethertype
        if key not in self._addresses:
            self._addresses[key] = merged(self._named(kind, name, rule.ethertype))
        return self._addresses[key]

    def _named(self, kind: str, name: str, ethertype: str) -> Iterator[Interval]:
        if kind == "address group":
            return (_block(*packed) for packed in self.policy.address_group(name).prefixes)
        size = BITS[ethertype] // 8
        members = self.policy.members(name)
        return (_block(a, size * 8) for member in members for a in member.packed_addresses if len(a) == size)


def _only(address: str) -> Interval:
    packed = packed_address(address)
    return _block(packed, len(packed) * 8)


def _block(packed: bytes, bits: int) -> Interval:
    """The first and the last address of a prefix."""
    low = int.from_bytes(packed, "big")
    return low, low | ((1 << (len(packed) * 8 - bits)) - 1)
