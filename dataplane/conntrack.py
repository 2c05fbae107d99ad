"""Connection tracking as people read and change it: TCP transitions, timeouts, and what a change disconnects.

C holds the entries and follows what is written here (SPEC 4 and 5); it has no policy of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataplane._core import ffi, lib
from dataplane.policy.replaced import come, different, gone

if TYPE_CHECKING:
    from dataplane.policy.document import AddressGroup, Conntrack, Instance, SecurityGroup
    from dataplane.policy.model import Policy
    from dataplane.policy.rule import SecurityGroupRule

    _Rules = Sequence[SecurityGroupRule]

NANOSECONDS = 1_000_000_000

# States of an entry (enum dp_conn_state). For TCP, I and R are the connection's initiator and responder: FIN_WAIT_I has
# seen the initiator's FIN, CLOSE_WAIT_I has seen it acknowledged, LAST_ACK_I still lacks its acknowledgement.
NONE = lib.DP_CONN_INVALID
SYN_SENT = lib.DP_CONN_TCP_SYN_SENT
SIMULTANEOUS = lib.DP_CONN_TCP_SIMULTANEOUS
SYN_RECEIVED = lib.DP_CONN_TCP_SYN_RECEIVED
SYN_RECEIVED_I = lib.DP_CONN_TCP_SYN_RECEIVED_INITIATOR
ESTABLISHED = lib.DP_CONN_TCP_ESTABLISHED
FIN_WAIT_I = lib.DP_CONN_TCP_FIN_WAIT_INITIATOR
FIN_WAIT_R = lib.DP_CONN_TCP_FIN_WAIT_RESPONDER
CLOSE_WAIT_I = lib.DP_CONN_TCP_CLOSE_WAIT_INITIATOR
CLOSE_WAIT_R = lib.DP_CONN_TCP_CLOSE_WAIT_RESPONDER
CLOSING = lib.DP_CONN_TCP_CLOSING
LAST_ACK_I = lib.DP_CONN_TCP_LAST_ACK_INITIATOR
LAST_ACK_R = lib.DP_CONN_TCP_LAST_ACK_RESPONDER
TIME_WAIT = lib.DP_CONN_TCP_TIME_WAIT
CLOSE = lib.DP_CONN_TCP_CLOSE
ICMP_ONE_WAY = lib.DP_CONN_ICMP_ONE_WAY
ICMP_TWO_WAY = lib.DP_CONN_ICMP_TWO_WAY
OTHER_ONE_WAY = lib.DP_CONN_OTHER_ONE_WAY
OTHER_TWO_WAY = lib.DP_CONN_OTHER_TWO_WAY

# Sides and events of a segment. ACK_FIN and FIN_ACK_FIN also acknowledge the other side's FIN.
I, R = lib.DP_INITIATOR, lib.DP_RESPONDER  # noqa: E741
SYN = lib.DP_TCP_SYN
SYN_ACK = lib.DP_TCP_SYN_ACK
ACK = lib.DP_TCP_ACK
ACK_FIN = lib.DP_TCP_ACK_FIN
FIN = lib.DP_TCP_FIN
FIN_ACK_FIN = lib.DP_TCP_FIN_ACK_FIN
RST = lib.DP_TCP_RST

# state, side, {event: next state}. What is not listed is impossible there: `invalid` (SPEC 4.4, RFC 9293 3.3.2).
# A SYN in a state of REOPENS never comes here: it is a new connection.
TCP_TRANSITIONS: tuple[tuple[int, int, dict[int, int]], ...] = (
    # Only a plain SYN opens a connection; tcp_loose adds LOOSE.
    (NONE, I, {SYN: SYN_SENT}),
    # The SYN repeated, or given up.
    (SYN_SENT, I, {SYN: SYN_SENT, RST: CLOSE}),
    # Answered; or both opened at once; or challenged because of an older connection (RFC 5961, 4); or refused.
    (SYN_SENT, R, {SYN_ACK: SYN_RECEIVED, SYN: SIMULTANEOUS, ACK: SYN_SENT, RST: CLOSE}),
    # Both SYNs are under way: each side's SYN-ACK acknowledges the other's.
    (SIMULTANEOUS, I, {SYN: SIMULTANEOUS, SYN_ACK: SYN_RECEIVED_I, RST: CLOSE}),
    (SIMULTANEOUS, R, {SYN: SIMULTANEOUS, SYN_ACK: SYN_RECEIVED, RST: CLOSE}),
    # Only the initiator's acknowledgement completes the handshake: repeats of SYN and SYN-ACK never do.
    (SYN_RECEIVED, I, {SYN: SYN_RECEIVED, SYN_ACK: ESTABLISHED, ACK: ESTABLISHED, FIN: FIN_WAIT_I, RST: CLOSE}),
    # The server may send, and even close, before that acknowledgement (RFC 7413).
    (SYN_RECEIVED, R, {SYN_ACK: SYN_RECEIVED, ACK: SYN_RECEIVED, FIN: FIN_WAIT_R, RST: CLOSE}),
    # The same with the sides exchanged, after a simultaneous open.
    (SYN_RECEIVED_I, I, {SYN_ACK: SYN_RECEIVED_I, ACK: SYN_RECEIVED_I, FIN: FIN_WAIT_I, RST: CLOSE}),
    (SYN_RECEIVED_I, R, {SYN: SYN_RECEIVED_I, SYN_ACK: ESTABLISHED, ACK: ESTABLISHED, FIN: FIN_WAIT_R, RST: CLOSE}),
    # A SYN inside the window is let through to be challenged; it changes nothing (RFC 5961, 4).
    (ESTABLISHED, I, {SYN: ESTABLISHED, SYN_ACK: ESTABLISHED, ACK: ESTABLISHED, FIN: FIN_WAIT_I, RST: CLOSE}),
    (ESTABLISHED, R, {SYN: ESTABLISHED, SYN_ACK: ESTABLISHED, ACK: ESTABLISHED, FIN: FIN_WAIT_R, RST: CLOSE}),
    # Half-closed by the initiator: the responder may send on.
    (FIN_WAIT_I, I, {ACK: FIN_WAIT_I, FIN: FIN_WAIT_I, RST: CLOSE}),
    (
        FIN_WAIT_I,
        R,
        {
            SYN_ACK: FIN_WAIT_I,
            ACK: FIN_WAIT_I,
            ACK_FIN: CLOSE_WAIT_I,
            FIN: CLOSING,
            FIN_ACK_FIN: LAST_ACK_R,
            RST: CLOSE,
        },
    ),
    (CLOSE_WAIT_I, I, {ACK: CLOSE_WAIT_I, FIN: CLOSE_WAIT_I, RST: CLOSE}),
    (
        CLOSE_WAIT_I,
        R,
        {ACK: CLOSE_WAIT_I, ACK_FIN: CLOSE_WAIT_I, FIN: LAST_ACK_R, FIN_ACK_FIN: LAST_ACK_R, RST: CLOSE},
    ),
    # Half-closed by the responder.
    (FIN_WAIT_R, R, {SYN_ACK: FIN_WAIT_R, ACK: FIN_WAIT_R, FIN: FIN_WAIT_R, RST: CLOSE}),
    (FIN_WAIT_R, I, {ACK: FIN_WAIT_R, ACK_FIN: CLOSE_WAIT_R, FIN: CLOSING, FIN_ACK_FIN: LAST_ACK_I, RST: CLOSE}),
    (CLOSE_WAIT_R, R, {ACK: CLOSE_WAIT_R, FIN: CLOSE_WAIT_R, RST: CLOSE}),
    (
        CLOSE_WAIT_R,
        I,
        {ACK: CLOSE_WAIT_R, ACK_FIN: CLOSE_WAIT_R, FIN: LAST_ACK_I, FIN_ACK_FIN: LAST_ACK_I, RST: CLOSE},
    ),
    # Both FINs crossed; each side's acknowledgement of the other's leaves its own to be acknowledged.
    (CLOSING, I, {ACK: CLOSING, FIN: CLOSING, ACK_FIN: LAST_ACK_I, FIN_ACK_FIN: LAST_ACK_I, RST: CLOSE}),
    (CLOSING, R, {ACK: CLOSING, FIN: CLOSING, ACK_FIN: LAST_ACK_R, FIN_ACK_FIN: LAST_ACK_R, RST: CLOSE}),
    (LAST_ACK_I, I, {ACK: LAST_ACK_I, FIN: LAST_ACK_I, ACK_FIN: LAST_ACK_I, FIN_ACK_FIN: LAST_ACK_I, RST: CLOSE}),
    (LAST_ACK_I, R, {ACK: LAST_ACK_I, FIN: LAST_ACK_I, ACK_FIN: TIME_WAIT, FIN_ACK_FIN: TIME_WAIT, RST: CLOSE}),
    (LAST_ACK_R, R, {ACK: LAST_ACK_R, FIN: LAST_ACK_R, ACK_FIN: LAST_ACK_R, FIN_ACK_FIN: LAST_ACK_R, RST: CLOSE}),
    (LAST_ACK_R, I, {ACK: LAST_ACK_R, FIN: LAST_ACK_R, ACK_FIN: TIME_WAIT, FIN_ACK_FIN: TIME_WAIT, RST: CLOSE}),
    # Fully closed: late repeats only.
    (TIME_WAIT, I, {ACK: TIME_WAIT, ACK_FIN: TIME_WAIT, FIN: TIME_WAIT, FIN_ACK_FIN: TIME_WAIT, RST: CLOSE}),
    (TIME_WAIT, R, {ACK: TIME_WAIT, ACK_FIN: TIME_WAIT, FIN: TIME_WAIT, FIN_ACK_FIN: TIME_WAIT, RST: CLOSE}),
    # Reset: what was under way may still arrive.
    (CLOSE, I, {ACK: CLOSE, ACK_FIN: CLOSE, FIN: CLOSE, FIN_ACK_FIN: CLOSE, RST: CLOSE}),
    (CLOSE, R, {SYN_ACK: CLOSE, ACK: CLOSE, ACK_FIN: CLOSE, FIN: CLOSE, FIN_ACK_FIN: CLOSE, RST: CLOSE}),
)

# Mid-stream pick-up: what else opens a connection with tcp_loose. A RST never does.
LOOSE = (NONE, I, {SYN_ACK: ESTABLISHED, ACK: ESTABLISHED, FIN: FIN_WAIT_I})

HALF_OPEN = (SYN_SENT, SIMULTANEOUS, SYN_RECEIVED, SYN_RECEIVED_I)
FIN_SEEN = (FIN_WAIT_I, FIN_WAIT_R, CLOSING, LAST_ACK_I, LAST_ACK_R)
HALF_CLOSED = (CLOSE_WAIT_I, CLOSE_WAIT_R)
CLOSED = (TIME_WAIT, CLOSE)

# The timeout (a field of the policy's `conntrack.timeouts`) of each state (SPEC 4.2).
TIMEOUTS: dict[str, tuple[int, ...]] = {
    "tcp_half_open": HALF_OPEN,
    "tcp_established": (ESTABLISHED,),
    "tcp_fin_wait": FIN_SEEN,
    "tcp_close_wait": HALF_CLOSED,
    "tcp_close": CLOSED,
    "icmp": (ICMP_ONE_WAY, ICMP_TWO_WAY),
    "other_unidirectional": (OTHER_ONE_WAY,),
    "other_bidirectional": (OTHER_TWO_WAY,),
}

# A SYN here is a new connection, judged afresh (SPEC 4.4, port reuse).
REOPENS = FIN_SEEN + HALF_CLOSED + CLOSED

# Entries that go first when the table is full (SPEC 4.9).
TENTATIVE = (*HALF_OPEN, *CLOSED, ICMP_ONE_WAY, OTHER_ONE_WAY)

# Control traffic that one instance may send (SPEC 4.8), in packets a second and at once: as much as a host that looks
# for all neighbours of a group of 6,000 instances in both families, and no more than about a megabit a second,
# since large packets count more.
CONTROL_RATE = 1000
CONTROL_BURST = 12000


def settings(conntrack: Conntrack, *, verify_checksums: bool) -> Any:
    """The policy's `conntrack` section and the tables above as a `struct dp_conntrack_config`.

    `verify_checksums` stands in where the section does not say it: without it they are verified at ports only.
    """
    config = ffi.new("struct dp_conntrack_config *")
    for state in range(lib.DP_CONN_STATES):
        config.timeout_ns[state] = NANOSECONDS
    for name, states in TIMEOUTS.items():
        for state in states:
            config.timeout_ns[state] = max(1, round(getattr(conntrack.timeouts, name) * NANOSECONDS))
    for state, side, events in (*TCP_TRANSITIONS, *([LOOSE] if conntrack.tcp_loose else [])):
        for event, after in events.items():
            config.tcp_next[state][side][event] = after
    for state in TENTATIVE:
        config.tentative[state] = 1
    for state in REOPENS:
        config.reopens[state] = 1
    config.max_entries = conntrack.max_entries
    config.control_rate, config.control_burst = CONTROL_RATE, CONTROL_BURST
    config.tcp_be_liberal = conntrack.tcp_be_liberal
    config.reevaluate = conntrack.on_change == "reevaluate"
    said = conntrack.verify_checksums
    unsaid = lib.DP_VERIFY_ALWAYS if verify_checksums else lib.DP_VERIFY_AT_PORTS
    config.verify_checksums = unsaid if said is None else lib.DP_VERIFY_ALWAYS if said else lib.DP_VERIFY_NEVER
    return config


@dataclass(frozen=True, slots=True)
class Disconnection:
    """What a change disconnects (SPEC 5.2 to 5.5).

    `instances` lose all their inbound connections. The others are (rule id, group id, packed address): of `revoked`,
    inbound connections that this rule admitted from this address; of `arrived`, those from this address that this rule,
    which denies, would decide about now.
    """

    instances: frozenset[str] = frozenset()
    revoked: tuple[tuple[str, str, bytes], ...] = ()
    arrived: tuple[tuple[str, str, bytes], ...] = ()


def disconnection(old: Policy, new: Policy) -> Disconnection:
    """What the step from one policy to the next disconnects: the difference of the two is what changed (SPEC 5)."""
    groups = _changed_groups(old, new)
    if old.instances is new.instances:
        # Most changes are of one group: those who are in it are known together.
        members = list(map(new.ids_of_members, groups))
        return Disconnection(members[0] if len(members) == 1 else frozenset().union(*members))
    instances = _changed_instances(old, new)
    for group in groups:
        instances |= old.ids_of_members(group) | new.ids_of_members(group)
    # A zone that comes or goes with this change has nothing to disconnect.
    instances &= old.instances_by_id.keys() & new.instances_by_id.keys()
    revoked, arrived = _elsewhere(old, new, groups)
    return Disconnection(frozenset(instances), revoked, arrived)


def _rules_differ(a: SecurityGroup, b: SecurityGroup) -> bool:
    """Whether a rule was added, modified or deleted.

    Rules are known by their ids; those whose ids were generated, which only tell their places, by what is in them.
    """
    rules, rules_now = a.security_group_rules, b.security_group_rules
    if a is b or rules is rules_now:
        return False
    # What both have as the same objects is left aside: that is what a change leaves alone.
    parts = b.rules_replaced(a)
    compared = _compared(gone(rules, parts), come(rules_now, parts))
    # A rule that is named as one was that is gone may be one of those left out, which has got its name.
    return _compared(rules, rules_now) is not False if compared is None else compared


def _compared(rules: _Rules, rules_now: _Rules) -> bool | None:
    """Whether one was added, modified or deleted; None: yes, if there are no others that could have got its name."""
    (named, unnamed), (named_now, unnamed_now) = _effects(rules), _effects(rules_now)
    if any(named[rule_id] != named_now[rule_id] for rule_id in named.keys() & named_now.keys()):
        return True
    # A rule that got an id of its own, or lost it, neither came nor went.
    unnamed_now.subtract(named[rule_id] for rule_id in named.keys() - named_now.keys())
    unnamed.subtract(named_now[rule_id] for rule_id in named_now.keys() - named.keys())
    if unnamed != unnamed_now:
        return True
    return None if any(number < 0 for number in unnamed.values()) else False


def _effects(rules: _Rules) -> tuple[dict[str, object], Counter[object]]:
    """The effects of rules by id, and how often each is there without one."""
    return (
        {rule.id: rule.effect for rule in rules if not rule.has_generated_id},
        Counter(rule.effect for rule in rules if rule.has_generated_id),
    )


def _covered(group: AddressGroup | None) -> list[tuple[int, int]]:
    """The addresses of a group, however they are written: from the first to behind the last of each stretch."""
    covered: list[tuple[int, int]] = []
    begin = end = 0
    for packed, bits in sorted(group.prefixes) if group else ():
        first = int.from_bytes(packed, "big")
        if first > end:
            covered.append((begin, end))
            begin = first
        end = max(end, first + (1 << len(packed) * 8 - bits))
    covered.append((begin, end))
    return [stretch for stretch in covered if stretch != (0, 0)]


def _cover_the_same(a: AddressGroup | None, b: AddressGroup | None) -> bool:
    if a is b:
        return True
    # Where none has any, the version does not matter.
    if a and b and a.prefixes and b.prefixes and a.ip_version != b.ip_version:
        return False
    return _covered(a) == _covered(b)


def _changed_groups(old: Policy, new: Policy) -> set[str]:
    """Groups with a rule added, modified or deleted, a used address group changed, or members come or gone."""
    changed: set[str] = set()
    were, are = different(old.security_groups, new.security_groups)
    for group in are:
        before = old.groups_by_id.get(group.id)
        if before is not None and _rules_differ(before, group):
            changed.add(group.id)
    changed.update(group.id for group in were if group.id not in new.groups_by_id)
    if address_groups := _changed_address_groups(old, new):
        for group in new.security_groups:
            if group.id in old.groups_by_id and not address_groups.isdisjoint(group.remote_address_groups):
                changed.add(group.id)
    if old.instances is new.instances:
        return changed
    left, joined = different(old.instances, new.instances)
    for instance in joined:
        was = old.instances_by_id.get(instance.id)
        if was is None or was.security_groups is not instance.security_groups:
            changed.update(set(was.security_groups if was else ()) ^ set(instance.security_groups))
    for instance in left:
        if instance.id not in new.instances_by_id:
            changed.update(instance.security_groups)
    return changed


def _changed_address_groups(old: Policy, new: Policy) -> set[str]:
    if old.address_groups is new.address_groups:
        return set()
    before, after = old.address_groups_by_id, new.address_groups_by_id
    names = before.keys() | after.keys()
    return {name for name in names if not _cover_the_same(before.get(name), after.get(name))}


def _changed_instances(old: Policy, new: Policy) -> set[str]:
    """Instances whose list of groups (also its order) or whose own addresses changed."""
    if old.instances is new.instances:
        return set()
    changed = set()
    for instance in different(old.instances, new.instances)[1]:
        was = old.instances_by_id.get(instance.id)
        if was is None or was is instance:
            continue
        if tuple(was.security_groups) != tuple(instance.security_groups) or _addresses(was) != _addresses(instance):
            changed.add(instance.id)
    return changed


def _addresses(instance: Instance) -> frozenset[bytes]:
    return frozenset(instance.packed_addresses)


def _held(policy: Policy, group: str) -> frozenset[bytes]:
    return frozenset(address for instance in policy.members(group) for address in instance.packed_addresses)


#: (rule id, group id, packed address) each.
_Elsewhere = tuple[tuple[str, str, bytes], ...]


def _elsewhere(old: Policy, new: Policy, changed: Iterable[str]) -> tuple[_Elsewhere, _Elsewhere]:
    """SPEC 5.4: for ingress rules elsewhere, the addresses that their remote group lost; for deny rules, gained."""
    if old.instances is new.instances:
        return (), ()
    cut = set(changed)
    rules = [
        (rule.id, group.id, rule.remote_group_id, rule.ethertype, rule.action == "deny" and rule.enabled)
        for group in new.security_groups
        if group.id not in cut
        for rule in group.security_group_rules
        if rule.remote_group_id and rule.direction == "ingress"
    ]
    named = {remote for _, _, remote, _, _ in rules}
    before, now = ({group: _held(policy, group) for group in named} for policy in (old, new))
    lost = {group: sorted(before[group] - now[group]) for group in named}
    gained = {group: sorted(now[group] - before[group]) for group in named}
    size = {"IPv4": 4, "IPv6": 16}
    return (
        tuple((r, g, a) for r, g, remote, kind, _ in rules for a in lost[remote] if len(a) == size[kind]),
        tuple((r, g, a) for r, g, remote, kind, deny in rules if deny for a in gained[remote] if len(a) == size[kind]),
    )
