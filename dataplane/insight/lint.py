"""What is wrong with a policy that is valid (SPEC 8.5): exact, over all packets that its rules could decide about.

Rules are looked at where they decide: in each ordered list of groups that instances have, for each direction and
family, with the addresses that remote groups stand for now. A packet here is a first one at one check; what the other
side's own rules say to it is a check of its own. What is said of a rule holds for every instance that has its group.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataplane.insight.examples import example
from dataplane.insight.exposure import Exposure, exposures
from dataplane.insight.idle import IdleRule, idle_rules
from dataplane.insight.packet_sets import Box, Kept, Match, first_taken, uncovered, walk, whole
from dataplane.insight.rule_sets import BITS, TABLES, Membership, NumberedRule, Table, Tables
from dataplane.policy import limits
from dataplane.policy.expiry import without_expired
from dataplane.policy.mistakes import Location, shown

if TYPE_CHECKING:
    from dataplane.policy.document import SecurityGroup
    from dataplane.policy.model import Policy
    from dataplane.policy.reading.source import Source

KINDS = (
    "shadowed",
    "redundant",
    "unreachable-group",
    "unused-group",
    "empty-remote",
    "open-to-any",
    "no-rule-of-family",
)


@dataclass(frozen=True, slots=True)
class Example:
    """A packet in the notation of SPEC 8, and the id of the rule that takes it; None: no rule does."""

    packet: str
    rule: str | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; `because` are the ids of the rules that it comes from, in the order in which they are tried.

    `location` is where it stands in the document, `message` a sentence for people.
    """

    kind: str
    rule: str | None
    security_group: str | None
    because: tuple[str, ...]
    example: Example | None
    location: Location
    message: str

    @property
    def example_words(self) -> str:
        """The example for people; empty where there is none, or the message says it all."""
        if self.example is None or (self.rule is not None and self.example.rule is None):
            return ""
        taker = "no rule" if self.example.rule is None else f"rule {shown(self.example.rule)}"
        return f"{self.example.packet}: {'would be ' * (self.kind == 'redundant')}taken by {taker}"


def lint(policy: Policy, written: Policy | None = None) -> list[Finding]:
    """All findings, group by group and rule by rule, then those about instances.

    `written` is the policy of the document that they are found in, where that has rules besides which are over.
    """
    tables = Tables(policy)
    places = _Places(written or policy)
    addresses = {address for instance in policy.instances for address in instance.addresses}
    found = [
        *(_idle(found, places, addresses) for found in idle_rules(tables)),
        *_unreachable(tables, places),
        *(_unused(group, places) for group in limits.unused_groups(policy)),
        *_empty_remotes(tables, places),
        *(_open(exposure, tables, places, addresses) for exposure in exposures(tables)),
        *_without_rules(policy),
    ]
    return sorted(found, key=lambda finding: [(isinstance(part, str), part) for part in finding.location])


@dataclass(frozen=True, slots=True)
class Located:
    """A finding in a file: its line, and those of the rules that it comes from, counted from 1."""

    finding: Finding
    file: str
    line: int
    because_lines: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON values (SPEC 8.5)."""
        finding = self.finding
        shows = finding.example
        return {
            "kind": finding.kind,
            "rule": finding.rule,
            "security_group": finding.security_group,
            "file": self.file,
            "line": self.line,
            "because": list(finding.because),
            "example": None if shows is None else {"packet": shows.packet, "rule": shows.rule},
        }


def lint_document(policy: Policy, source: Source, now_ns: int) -> list[Located]:
    """The findings about a policy in the document that it was read from, in the order of its lines.

    Rules that have ended by `now_ns`, in nanoseconds since 1970, are left out. So is what is about a group that the
    document does not write, the `default` made on the fly: nobody can mend it there.
    """
    written = source.value.get("security_groups")
    groups = len(written) if isinstance(written, list) else 0
    places = _Places(policy).rule
    found = [
        Located(
            finding,
            source.name,
            source.line(finding.location),
            tuple(source.line(places[rule]) for rule in finding.because),
        )
        for finding in lint(without_expired(policy, now_ns), policy)
        if finding.location[0] != "security_groups" or int(finding.location[1]) < groups
    ]
    return sorted(found, key=lambda located: located.line)


class _Places:
    """Where groups and rules stand in the document."""

    def __init__(self, policy: Policy) -> None:
        self.group: dict[str, Location] = {}
        self.rule: dict[str, Location] = {}
        for g, group in enumerate(policy.security_groups):
            self.group[group.id] = ("security_groups", g)
            for r, rule in enumerate(group.security_group_rules):
                self.rule[rule.id] = ("security_groups", g, "security_group_rules", r)

    def finding(
        self, kind: str, item: NumberedRule, message: str, because: Iterable[str] = (), shows: Example | None = None
    ) -> Finding:
        """A finding about a rule; the message goes on after its name."""
        named = f"rule {shown(item.rule.id)} of security group {shown(item.group.id)} {message}"
        return Finding(kind, item.rule.id, item.group.id, tuple(because), shows, self.rule[item.rule.id], named)


# ---- rules that decide nothing ----


def _idle(found: IdleRule, places: _Places, others: Container[str]) -> Finding:
    """`shadowed` or `redundant`."""
    takers = [taker.rule.id for taker in found.takers]
    shows = None
    if found.shown:
        taker = next((t.rule.id for t in found.takers if t.number == found.shown.taker), None)
        shows = Example(_packet(found.shown.box, found.shown.table, found.shown.membership, others), taker)
    one = len(takers) == 1
    if takers and not found.decides:
        message = f"never decides: {_listed(takers)} always take{'s' * one} its packets first"
        return places.finding("shadowed", found.item, message, takers, shows)
    if takers:
        message = f"changes nothing: without it, {_listed(takers)} give{'s' * one} the same verdict"
    elif found.decides:
        message = "changes nothing: without it, no rule matches, and the same packets are denied"
    else:
        message = "changes nothing: no rule ever decides about such packets"
    return places.finding("redundant", found.item, message, takers, shows)


def _packet(box: Box, table: Table, membership: Membership, others: Container[str]) -> str:
    direction, ethertype = table
    own = (a for instance in membership.instances for a in instance.addresses if (":" in a) == (ethertype == "IPv6"))
    return example(box, direction, ethertype, own, others)


#: So many rules are named in a sentence; `because` has them all.
_NAMED = 5


def _listed(rules: list[str]) -> str:
    names = [f"rule {shown(rule)}" for rule in rules[:_NAMED]]
    if len(rules) > _NAMED:
        names.append(f"{len(rules) - _NAMED} more")
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


# ---- groups, remotes and addresses ----


def _unreachable(tables: Tables, places: _Places) -> Iterator[Finding]:
    """`unreachable-group`: where it has rules, the groups before it decide about every packet, at each instance."""
    for group in tables.policy.security_groups:
        found = list(_ahead(tables, group.id))
        if not found or None in found:
            continue
        because = dict.fromkeys(tables.rules[n].rule.id for numbers in found for n in numbers or ())
        message = (
            f"security group {shown(group.id)} is never reached: {_listed(list(because))} of groups before it"
            f" take{'s' * (len(because) == 1)} every packet first"
        )
        yield Finding("unreachable-group", None, group.id, tuple(because), None, places.group[group.id], message)


def _ahead(tables: Tables, group: str) -> Iterator[list[int] | None]:
    """For each list of groups and table in which a group has rules, the rules that take all packets before it.

    None where some packets come to it; nothing more follows then.
    """
    for membership in tables.memberships:
        if group not in membership.groups:
            continue
        before = membership.groups[: membership.groups.index(group)]
        for table in TABLES:
            if tables.has_rules(group, table):
                numbers = _all_taken(tables, membership, before, table) if before else None
                yield numbers
                if numbers is None:
                    return


def _all_taken(tables: Tables, membership: Membership, groups: tuple[str, ...], table: Table) -> list[int] | None:
    """The rules of `groups` that are first to match somewhere, in order; None where some packet matches none."""
    matches = [*tables.before_rules(membership, table), *tables.of_groups(groups, table)]
    box = whole(BITS[table[1]])
    if uncovered(box, matches) is not None:
        return None
    firsts = set[int]()

    def look(_: Box, found: Kept) -> Match | None:
        if not found[1][0]:
            return next((item for item in found[0] if item.number not in firsts), None)
        firsts.add(found[0][0].number)
        return None

    walk(box, matches, look, deep=1)
    return [item.number for item in matches if item.number in firsts and item.number >= 0]


def _unused(group: SecurityGroup, places: _Places) -> Finding:
    message = limits.unused_words(group)
    return Finding("unused-group", None, group.id, (), None, places.group[group.id], message)


def _empty_remotes(tables: Tables, places: _Places) -> Iterator[Finding]:
    for item in tables.rules:
        if not tables.remotes(item.rule):
            rule = item.rule
            remote = (
                f"security group {shown(rule.remote_group_id)} has no instance with an {rule.ethertype} address"
                if rule.remote_group_id is not None
                else f"address group {shown(rule.remote_address_group_id)} is empty"
            )
            yield places.finding("empty-remote", item, f"matches nothing: {remote}")


def _open(found: Exposure, tables: Tables, places: _Places, others: Container[str]) -> Finding:
    rule = found.item.rule
    table = rule.direction, rule.ethertype
    # An allow rule before it may let that packet in already.
    taken = first_taken(found.through, tables.of_groups(found.membership.groups, table))
    assert taken  # by the rule itself, or one before it
    box, taker = taken
    shows = Example(_packet(box, table, found.membership, others), tables.rules[taker.number].rule.id)
    ports = [f"{protocol} {port} ({service})" for protocol, port, service in found.ports]
    more = f" and {len(ports) - _NAMED} more ports" if len(ports) > _NAMED else ""
    message = f"opens {', '.join(ports[:_NAMED])}{more} to every {rule.ethertype} address: name those that need it"
    return places.finding("open-to-any", found.item, message, (), shows)


def _without_rules(policy: Policy) -> Iterator[Finding]:
    place = {instance.id: number for number, instance in enumerate(policy.instances)}
    for instance, address in limits.without_rules(policy):
        location = ("instances", place[instance.id], "addresses", instance.addresses.index(address))
        table = "ingress", "IPv6" if ":" in address else "IPv4"
        packet = example(whole(BITS[table[1]]), *table, (address,), ())
        message = limits.without_rules_words(instance, address)
        group = instance.security_groups[0]
        yield Finding("no-rule-of-family", None, group, (), Example(packet, None), location, message)
