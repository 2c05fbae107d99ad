"""Single changes of a policy after which a packet gets the other verdict (SPEC 8.3), each tried before it is told.

What is tried is the same replay, with the change made before its first packet; where the schedule of the replay undoes
that, the change is made just before the packet. Candidates come from the rules that were tried and from the connection;
the fewest packets of other hosts and ports that a change could concern, the narrower it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from dataplane import conntrack
from dataplane.insight.rules_tried import GroupTried, Question, RuleTried
from dataplane.packet_words import PORTED
from dataplane.policy import icmp
from dataplane.policy.addresses import address_text, packed_address, packed_prefix
from dataplane.policy.changes import apply, parse_change
from dataplane.policy.fields import PROTOCOL_NAMES
from dataplane.policy.mistakes import ChangeError, PolicyError
from dataplane.policy.schedule import TimedChange

if TYPE_CHECKING:
    from dataplane.insight.explained import ExplainedCheck
    from dataplane.insight.replayed_packet import ConnectionHistory, Judged, Replayed
    from dataplane.policy.changes import Change
    from dataplane.policy.model import Policy
    from dataplane.policy.rule import SecurityGroupRule
    from dataplane.verdict import Check, Verdict

#: So many are tried, and so many are told.
TRIED_MAX, TOLD_MAX = 12, 5

_OTHER = {"allow": "deny", "deny": "allow"}
#: Reasons that no change of rules, groups or memberships has a part in.
_BEYOND_RULES = ("invalid", "malformed", "control", "load-balancer", "disconnected", "table-full")


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change as SPEC 7 writes it, without `at`, and the verdict that the packet gets by it.

    `at` is when it has to be made, in seconds since the first packet.
    """

    change: dict[str, Any]
    verdict: str
    at: float = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON values (SPEC 8.3)."""
        return {"change": self.change, "verdict": self.verdict, **({"at": self.at} if self.at else {})}


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A change that may turn the verdict; `size` is how many (instance, address, protocol and port) it is about."""

    size: int
    change: dict[str, Any]


def remedies(replayed: Replayed, judged: Judged, checks: Sequence[ExplainedCheck]) -> tuple[list[Remedy], Check | None]:
    """The remedies of a packet that was judged, the narrowest first.

    Without any, the check that would deny the packet all the same, were it not denied where it was; None if there is
    none such.
    """
    verdict = judged.verdict.verdict
    if verdict not in _OTHER:
        return [], None
    candidates: list[_Candidate] = []
    for check in checks:
        if check.check.verdict == verdict and check.check.reason not in _BEYOND_RULES:
            of = _allowing if verdict == "deny" else _denying
            candidates += of(judged.policy, check)
        elif check.check.reason == "disconnected" and judged.policy.conntrack.on_change == "reevaluate":
            candidates += _keeping(judged.policy, check)
    candidates.sort(key=lambda candidate: candidate.size)
    wanted = _OTHER[verdict]
    tried = [(c.change, _from_the_beginning(replayed, judged.packet, c.change)) for c in candidates[:TRIED_MAX]]
    found = [change for change, now in tried if now and now.verdict == wanted]
    at = 0.0
    if not found and replayed.changes:
        at = max((judged.record.time_ns - judged.first_ns) / conntrack.NANOSECONDS, 0)
        tried = [(change, _just_before(replayed, judged, change, at)) for change, _ in tried]
        found = [change for change, now in tried if now and now.verdict == wanted]
    if found or verdict == "allow":
        return [Remedy(change, wanted, at) for change in found[:TOLD_MAX]], None
    further = (now.checks[-1] for _, now in tried if now and len(now.checks) > len(checks))
    return [], next(further, None)


# ---- trying ----


def _from_the_beginning(replayed: Replayed, packet: int, change: dict[str, Any]) -> Verdict | None:
    """The packet's verdict when the change is made before the first packet; None where it cannot be made."""
    try:
        policy = apply(replayed.policy, parse_change(change, replayed.policy))
        return replayed.verdict(packet, policy)
    except (ChangeError, PolicyError):
        return None


def _just_before(replayed: Replayed, judged: Judged, change: dict[str, Any], at: float) -> Verdict | None:
    """The packet's verdict when the change is made before it, behind what the schedule has done until then."""
    try:
        made: Change = parse_change(change, judged.policy)
        schedule = sorted([*replayed.changes, TimedChange(at, made)], key=lambda timed: timed.at)
        return replayed.verdict(judged.packet, changes=schedule)
    except (ChangeError, PolicyError):
        return None


# ---- how much a change is about ----


def _members(policy: Policy, group: str) -> int:
    return max(1, len(policy.members(group)))


def _addresses(policy: Policy, rule: SecurityGroupRule) -> int:
    """How many remote addresses a rule has."""
    bits = 32 if rule.ethertype == "IPv4" else 128
    if rule.remote_ip_prefix is not None:
        return int(2 ** (bits - packed_prefix(rule.remote_ip_prefix)[1]))
    if rule.remote_address_group_id is not None:
        return sum(2 ** (bits - length) for _, length in policy.address_group(rule.remote_address_group_id).prefixes)
    if rule.remote_group_id is not None:
        return sum(len(member.packed_addresses) for member in policy.members(rule.remote_group_id))
    return int(2**bits)


def _selected(rule: SecurityGroupRule) -> int:
    """How many protocols and ports, or types and codes, a rule has."""
    return sum(high - low + 1 for low, high in rule.selectors)


def _size(policy: Policy, group: str, rule: SecurityGroupRule) -> int:
    return _members(policy, group) * _addresses(policy, rule) * _selected(rule)


# ---- candidates ----


def _exact(question: Question, action: str) -> dict[str, Any]:
    """The fields of a rule about one remote address, protocol and port or type."""
    rule: dict[str, Any] = {"direction": question.direction}
    if question.ethertype == "IPv6":
        rule["ethertype"] = "IPv6"
    rule["protocol"] = PROTOCOL_NAMES.get(question.protocol, question.protocol)
    if question.port:
        rule["multiport"] = str(question.port)
    if question.kind:
        names = {number: name for name, number in reversed(icmp.type_names(question.icmp).items())}
        rule["icmp_type"] = names.get(question.kind[0], question.kind[0])
        rule["icmp_code"] = question.kind[1]
    rule["remote_ip_prefix"] = f"{address_text(question.remote)}/{8 * len(question.remote)}"
    rule["action"] = action
    return rule


def _add(policy: Policy, group: str, rule: dict[str, Any]) -> _Candidate:
    return _Candidate(_members(policy, group), {"add_rule": {"security_group": group, "rule": rule}})


def _disable(policy: Policy, group: str, rule: SecurityGroupRule) -> _Candidate:
    change = {"update_rule": {"id": rule.id, "enabled": False}}
    return _Candidate(_size(policy, group, rule), change)


def _decider(groups: Sequence[GroupTried]) -> tuple[str, RuleTried] | None:
    """The rule that matched, behind its group's id."""
    if groups and groups[-1].rules and groups[-1].rules[-1].matched:
        return groups[-1].id, groups[-1].rules[-1]
    return None


def _allowing(policy: Policy, check: ExplainedCheck) -> Iterator[_Candidate]:
    """What may let a packet pass that the rules have denied."""
    question = check.question
    if question is None:
        return
    decider = _decider(check.groups)
    rule = _exact(question, "allow")
    for group in check.groups:
        # At the same priority deny goes first.
        if not decider or decider[0] != group.id or decider[1].rule.priority > 1:
            yield _add(policy, group.id, rule)
    for group in check.groups:
        for tried in group.rules:
            if tried.rule.action == "allow" and len(tried.mismatch) == 1:
                yield from _fitting(policy, group.id, tried.rule, tried.mismatch[0], question)
    if decider:
        yield _disable(policy, decider[0], decider[1].rule)
        yield from _narrowed(policy, decider[0], decider[1].rule, question)


def _keeping(policy: Policy, check: ExplainedCheck) -> Iterator[_Candidate]:
    """What may keep a connection that was cut, where the rules of now judge its initiator's packets (SPEC 5.7)."""
    if check.connection:
        rule = _exact(_opening(check.check.instance, check.connection), "allow")
        rule.pop("icmp_code", None)
        for group in policy.instance(check.check.instance).security_groups:
            yield _add(policy, group, rule)


def _fitting(
    policy: Policy, group: str, rule: SecurityGroupRule, field: str, question: Question
) -> Iterator[_Candidate]:
    """What makes a rule match a packet that only this field of it misses."""
    members = _members(policy, group)
    remote = address_text(question.remote)
    change: dict[str, Any]
    if field == "enabled":
        yield _Candidate(_size(policy, group, rule), {"update_rule": {"id": rule.id, "enabled": True}})
    elif field == "multiport" and question.port:
        change = {"update_rule": {"id": rule.id, "multiport": f"{rule.multiport},{question.port}"}}
        yield _Candidate(members * _addresses(policy, rule), change)
    elif field == "remote_address_group_id":
        entries = policy.address_group(str(rule.remote_address_group_id)).ip_set
        change = {"update_address_group": {"id": rule.remote_address_group_id, "ip_set": [*entries, remote]}}
        yield _Candidate(_used(policy, field, str(rule.remote_address_group_id)), change)
    elif field == "remote_group_id":
        for instance in policy.instances:
            if question.remote in instance.packed_addresses:
                change = {"add_instance": {"security_group": rule.remote_group_id, "instance": instance.id}}
                yield _Candidate(_joining(policy, str(rule.remote_group_id)), change)


def _used(policy: Policy, field: str, name: str) -> int:
    """How much one address more or less in a remote is about, in all rules that name it."""
    return sum(
        _members(policy, group.id) * _selected(rule)
        for group in policy.security_groups
        for rule in group.security_group_rules
        if getattr(rule, field) == name
    )


def _joining(policy: Policy, group: str) -> int:
    """How much an instance more or less in a group is about: as a remote, and by the group's own rules."""
    own = sum(_addresses(policy, rule) * _selected(rule) for rule in policy.group(group).security_group_rules)
    return own + _used(policy, "remote_group_id", group)


def _denying(policy: Policy, check: ExplainedCheck) -> Iterator[_Candidate]:
    """What may stop a packet that a rule has allowed, or the connection that it belongs to."""
    found = _admitted(policy, check)
    if found is None:
        return
    question, group, rule = found
    exact = _exact(question, "deny")
    if not check.question:
        # A connection tells the type of the query that opened it, not the code.
        exact.pop("icmp_code", None)
    yield _add(policy, group, exact)
    # Fewer instances may be in a group that is tried before.
    yield from (_add(policy, earlier, exact) for earlier in takewhile(group.__ne__, _groups_of(policy, check)))
    if rule is not None:
        yield _disable(policy, group, rule)
        yield from _narrowed(policy, group, rule, question)


def _groups_of(policy: Policy, check: ExplainedCheck) -> tuple[str, ...]:
    """The groups of the instance that a check is of, in the order tried."""
    return policy.instance(check.check.instance).security_groups


def _narrowed(policy: Policy, group: str, rule: SecurityGroupRule, question: Question) -> Iterator[_Candidate]:
    """What takes a packet out of what a rule matches, with little else."""
    change: dict[str, Any]
    if rule.multiport and question.port and (rest := _without_port(rule.multiport, question.port)):
        change = {"update_rule": {"id": rule.id, "multiport": rest}}
        yield _Candidate(_members(policy, group) * _addresses(policy, rule), change)
    if rule.remote_address_group_id is not None:
        entries = policy.address_group(rule.remote_address_group_id).ip_set
        rest_of = [entry for entry in entries if not _is_address(entry, question.remote)]
        if len(rest_of) < len(entries):
            change = {"update_address_group": {"id": rule.remote_address_group_id, "ip_set": rest_of}}
            yield _Candidate(_used(policy, "remote_address_group_id", rule.remote_address_group_id), change)


def _without_port(multiport: str, port: int) -> str:
    """Ports and ranges without one; empty where nothing is left."""
    rest = list[str]()
    for part in multiport.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if low <= port <= high:
            sides = ((low, port - 1), (port + 1, high))
            rest += [str(a) if a == b else f"{a}-{b}" for a, b in sides if a <= b]
        else:
            rest.append(part)
    return ",".join(rest)


def _is_address(entry: str, address: bytes) -> bool:
    """Whether an entry of an address group is this one address."""
    if "-" in entry:
        return False
    packed, bits = packed_prefix(entry)
    return packed == address and bits == 8 * len(packed)


def _admitted(policy: Policy, check: ExplainedCheck) -> tuple[Question, str, SecurityGroupRule | None] | None:
    """What the rules were asked when they allowed, and the group and the rule that did; None where none did."""
    if check.question and (decider := _decider(check.groups)):
        return check.question, decider[0], decider[1].rule
    lived = check.connection
    if lived is None or lived.security_group is None or lived.security_group not in policy.groups_by_id:
        return None
    known = policy.rules_by_id.get(str(lived.rule))
    return _opening(check.check.instance, lived), lived.security_group, known[1] if known else None


def _opening(instance: str, lived: ConnectionHistory) -> Question:
    """What the rules were asked about a connection's first packet, but for an ICMP code."""
    return Question(
        instance,
        "ingress" if lived.origin == "inbound" else "egress",
        packed_address(lived.remote),
        lived.protocol,
        lived.port if lived.protocol in PORTED else None,
        (lived.icmp_type, 0) if lived.icmp_type is not None else None,
    )
