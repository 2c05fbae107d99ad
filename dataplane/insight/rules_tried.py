"""Which rules were tried about a first packet, in their order, and which fields of those that did not match misfit.

All of it is asked of the classifier that judges packets (csrc/classifier.h), by tables of one rule each: for each
field one in which all else fits, and the rule as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from dataplane._core import ffi, lib
from dataplane.compiler import DIRECTIONS, Compiler
from dataplane.packet_words import PORTED
from dataplane.policy import icmp
from dataplane.policy.document import Instance, SecurityGroup
from dataplane.policy.rule import SecurityGroupRule
from dataplane.rule_order import written_rules
from dataplane.verdict import Names

if TYPE_CHECKING:
    from dataplane.policy.model import Policy

#: So many rules are asked at a time.
_AT_ONCE = 1024

REMOTES = ("remote_ip_prefix", "remote_group_id", "remote_address_group_id")


@dataclass(frozen=True, slots=True)
class Question:
    """What the rules of one instance are asked about: a direction, a remote address of 4 or 16 bytes, a protocol.

    `port` is the destination port, None where the protocol has none; `kind` is an ICMP type and code, None for what is
    no ICMP of the address's family.
    """

    instance: str
    direction: str
    remote: bytes
    protocol: int
    port: int | None
    kind: tuple[int, int] | None

    @classmethod
    def of(cls, instance: str, direction: str, flow: Any) -> Self:
        """The question that a `struct dp_flow` of a whole packet, or of a first fragment, puts."""
        size = 4 if flow.family == 4 else 16
        return cls(
            instance,
            direction,
            bytes(flow.source if direction == "ingress" else flow.destination)[:size],
            flow.protocol,
            flow.destination_port if flow.protocol in PORTED else None,
            (flow.icmp_type, flow.icmp_code) if flow.icmp else None,
        )

    @property
    def ethertype(self) -> str:
        """That of the rules that are asked."""
        return "IPv4" if len(self.remote) == 4 else "IPv6"

    @property
    def icmp(self) -> str:
        """The ICMP of the address's family."""
        return "icmp" if len(self.remote) == 4 else "icmpv6"

    @property
    def selector(self) -> int:
        """As in a `struct dp_selector`."""
        kind, code = self.kind or (0, 0)
        return self.protocol << 16 | (self.port or kind << 8 | code)


@dataclass(frozen=True, slots=True)
class RuleTried:
    """A rule that was tried; `mismatch` names its fields that did not fit, none where it `matched`."""

    rule: SecurityGroupRule
    matched: bool
    mismatch: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values (SPEC 8.3)."""
        rule = self.rule
        return {
            "id": rule.id,
            "action": rule.action,
            "priority": rule.priority,
            "matched": self.matched,
            "mismatch": list(self.mismatch),
        }


@dataclass(frozen=True, slots=True)
class GroupTried:
    """A security group with those of its rules that were tried, in order."""

    id: str
    rules: tuple[RuleTried, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values (SPEC 8.3)."""
        return {"id": self.id, "rules": [rule.to_dict() for rule in self.rules]}


def groups_tried(policy: Policy, question: Question) -> tuple[GroupTried, ...]:
    """The groups of the instance in the order tried (SPEC 3.1), up to the rule that matches.

    Rules that are not enabled stand where they would be tried.
    """
    groups = [policy.group(group) for group in policy.instance(question.instance).security_groups]
    rules = list(_in_order(groups, question))
    tried: list[RuleTried] = []
    decided = False
    while len(tried) < len(rules) and not decided:
        part = [rule for _, rule in rules[len(tried) : len(tried) + _AT_ONCE]]
        for rule in _try(policy, question, part):
            tried.append(rule)
            decided = rule.matched
            if decided:
                break
    of_groups = [group_id for group_id, _ in rules[: len(tried)]]
    last = of_groups[-1] if decided else groups[-1].id
    found = []
    for group in groups:
        own = (rule for group_id, rule in zip(of_groups, tried, strict=True) if group_id == group.id)
        found.append(GroupTried(group.id, tuple(own)))
        if group.id == last:
            break
    return tuple(found)


def _try(policy: Policy, question: Question, rules: Sequence[SecurityGroupRule]) -> list[RuleTried]:
    """Rules, each by itself."""
    asked = [[(field, alone) for field, alone in _alone(rule, question)] for rule in rules]
    unlike = list(dict.fromkeys(alone for fields in asked for _, alone in fields if alone is not None))
    fits = dict(zip(unlike, _ask(policy, question, unlike), strict=True))
    misfits = [tuple(field for field, alone in fields if alone is None or not fits[alone]) for fields in asked]
    fitting = [rule for rule, unfit in zip(rules, misfits, strict=True) if not unfit]
    matched = dict(zip((rule.id for rule in fitting), _ask(policy, question, fitting), strict=True))
    return [RuleTried(rule, matched.get(rule.id, False), unfit) for rule, unfit in zip(rules, misfits, strict=True)]


def _in_order(groups: Sequence[SecurityGroup], question: Question) -> Iterator[tuple[str, SecurityGroupRule]]:
    """The rules that the question goes to, each with its group's id, in the order of the compiler."""
    rules = {(group.id, rule.id): rule for group in groups for rule in group.security_group_rules}
    enabled = [
        group.model_copy(
            update={
                "security_group_rules": tuple(
                    r.model_copy(update={"enabled": True}) for r in group.security_group_rules
                )
            }
        )
        for group in groups
    ]
    written = written_rules(enabled).get((question.direction, question.ethertype), [])
    for _, (rule_id, group_id), *_ in sorted(written, key=lambda row: row[0]):
        yield group_id, rules[group_id, rule_id]


def _alone(rule: SecurityGroupRule, question: Question) -> Iterator[tuple[str, SecurityGroupRule | None]]:
    """Each field that a rule has, with a rule in which all else fits; None where it cannot fit, whatever it says."""
    any_packet = SecurityGroupRule.model_construct(id="-", direction=rule.direction, ethertype=rule.ethertype)

    def only(**values: Any) -> SecurityGroupRule:
        return any_packet.model_copy(update=values)

    if not rule.enabled:
        yield "enabled", None
    if rule.protocol is not None:
        yield "protocol", only(protocol=rule.protocol)
    if rule.multiport is not None:
        yield "multiport", only(protocol=question.protocol, multiport=rule.multiport) if question.port else None
    if rule.icmp_type is not None:
        named = str(rule.protocol)
        kind = icmp.type_number(named, rule.icmp_type)
        yield "icmp_type", only(protocol=question.icmp, icmp_type=kind) if question.kind else None
        if rule.icmp_code is not None:
            code = icmp.code_number(named, kind, rule.icmp_code)
            fitting = question.kind and only(protocol=question.icmp, icmp_type=question.kind[0], icmp_code=code)
            yield "icmp_code", fitting or None
    for name in REMOTES:
        if (value := getattr(rule, name)) is not None:
            yield name, only(**{name: value})


def _ask(policy: Policy, question: Question, rules: Iterable[SecurityGroupRule]) -> list[bool]:
    """Whether each rule by itself matches, if it is enabled."""
    rules = list(rules)
    # An instance for each rule; the others stay for who is in which group.
    groups = [
        SecurityGroup.model_construct(id=f"rule {number}", security_group_rules=(rule,))
        for number, rule in enumerate(rules)
    ]
    instances = [Instance.model_construct(id=group.id, addresses=(), security_groups=(group.id,)) for group in groups]
    without_rules = [group.model_copy(update={"security_group_rules": ()}) for group in policy.security_groups]
    asked = policy.model_copy(
        update={
            "security_groups": (*without_rules, *groups),
            "instances": (*policy.instances, *instances),
            "load_balancers": (),
        }
    )
    compiler = Compiler(Names())
    zones, _ = compiler.compile(asked)
    direction, family = dict(DIRECTIONS)[question.direction], len(question.remote) == 16
    remote, action = ffi.new("uint8_t[16]", question.remote.ljust(16, b"\0")), ffi.new("uint32_t *")
    tables = (zones[len(policy.instances) + number].table[direction][family] for number in range(len(rules)))
    return [bool(lib.dp_rule_table_lookup(table, remote, question.selector, action)) for table in tables]
