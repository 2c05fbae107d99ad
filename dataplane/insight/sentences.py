"""What an explanation says in sentences: a rule, why it missed a packet, a connection's history, a verdict's reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dataplane.conntrack import NANOSECONDS
from dataplane.installation import document
from dataplane.packet_words import NAMES, icmp_words
from dataplane.policy.addresses import address_text

if TYPE_CHECKING:
    from dataplane.insight.explain import Explanation
    from dataplane.insight.explained import ExplainedCheck
    from dataplane.insight.replayed_packet import ConnectionHistory, Event
    from dataplane.insight.rules_tried import Question, RuleTried
    from dataplane.policy.rule import SecurityGroupRule

#: Why a packet is invalid or malformed, by cause.
CAUSES = {
    "short-header": "its headers were cut off",
    "bad-length": "a length in its headers does not fit",
    "bad-version": "its IP version is not the one that the frame says",
    "extension-chain": "its IPv6 extension headers lead to no transport header",
    "bad-checksum": "a checksum is wrong",
    "fragment": "it is a fragment that overlaps others, is too small, or makes a datagram too long",
    "fragment-limit": "its datagram's first fragment did not come, or there was no room to wait for it",
    "tcp-flags": "no TCP sends such flags together",
    "tcp-no-connection": "it belongs to no connection, and only a SYN opens one",
    "tcp-state": "its connection is in a state in which no such segment comes",
    "tcp-window": "it is outside its connection's sequence window",
    "icmp-unsolicited": "it is a reply that nobody asked for",
    "icmp-unrelated": "the packet quoted in it belongs to no connection here",
    "icmp-type": "nothing is known of ICMP messages of this type",
    "neighbour-discovery": "it is no neighbour discovery that a host sends or may believe",
    "multicast-listener": "it is no multicast listener message that a host sends",
    "arp": "it is no ARP as it should be",
    "dhcp": "it comes by the ports of DHCP and is no DHCP",
    "dhcp-server": "it is a DHCP server's, and the instance does not say dhcp_server: true",
    "control-rate": "its instance sends more control traffic than it may",
    "spoofed": "its sender has no right to this address or MAC here",
    "not-ip": "it is neither IP nor ARP",
}


def time_words(time_ns: int, first_ns: int) -> str:
    """A time since the first packet, as changes have it."""
    text = f"{(time_ns - first_ns) / NANOSECONDS:.6f}".rstrip("0").rstrip(".")
    return f"{text} s"


# ---- rules ----


def rule_words(rule: SecurityGroupRule) -> str:
    """``A01 allows tcp 22 from 172.16.0.0/24``."""
    words = [rule.id, "allows" if rule.action == "allow" else "denies"]
    words.append("all" if rule.protocol is None else str(rule.protocol))
    words += [rule.multiport] if rule.multiport else []
    if rule.icmp_type is not None:
        words.append(str(rule.icmp_type) if rule.icmp_code is None else f"{rule.icmp_type}/{rule.icmp_code}")
    words.append("from" if rule.direction == "ingress" else "to")
    if rule.remote_group_id is not None:
        words.append(f"instances in {rule.remote_group_id}")
    elif rule.remote_address_group_id is not None:
        words.append(f"address group {rule.remote_address_group_id}")
    else:
        words.append(rule.remote_ip_prefix or "any")
    return " ".join(words)


def near_miss(tried: RuleTried, question: Question) -> str:
    """What a rule says, and what of the packet did not fit."""
    misfits = ", ".join(_misfit(field, question) for field in tried.mismatch)
    return f"{rule_words(tried.rule)}; {misfits}"


def _misfit(field: str, question: Question) -> str:
    if field == "enabled":
        return "it is not enabled"
    if field == "protocol":
        return f"the protocol is {NAMES.get(question.protocol, question.protocol)}"
    if field == "multiport":
        return "there is no port" if question.port is None else f"the port is {question.port}"
    if field in ("icmp_type", "icmp_code"):
        if question.kind is None:
            return "it is no ICMP message"
        return f"the message is {icmp_words(question.icmp, *question.kind)}"
    side = "source" if question.direction == "ingress" else "destination"
    return f"the {side} is {address_text(question.remote)}"


def near_misses(check: ExplainedCheck, most: int = 3) -> list[str]:
    """Of what was denied, the rules that would have allowed it and miss by fewest fields, in sentences."""
    if check.question is None or check.check.verdict == "allow":
        return []
    missed = [t for group in check.groups for t in group.rules if not t.matched and t.rule.action == "allow"]
    fewest = min((len(tried.mismatch) for tried in missed), default=0)
    return [near_miss(tried, check.question) for tried in missed if len(tried.mismatch) == fewest][:most]


def tried_words(check: ExplainedCheck) -> Iterator[tuple[str, str]]:
    """Each group that was tried, and what came of it."""
    for group in check.groups:
        if not group.rules:
            kind = f"{check.check.direction} {check.question.ethertype}" if check.question else check.check.direction
            yield group.id, f"has no {kind} rule"
        elif group.rules[-1].matched:
            tried = group.rules[-1]
            before = len(group.rules) - 1
            behind = f", behind {before:,} that {'does' if before == 1 else 'do'} not match" if before else ""
            yield group.id, f"{rule_words(tried.rule)}{behind}"
        else:
            n = len(group.rules)
            yield group.id, "its only rule does not match" if n == 1 else f"none of its {n:,} rules matches"


# ---- connections ----

_EVENTS = {
    "answered": "answered",
    "established": "established",
    "closing": "closing",
    "half-closed": "half-closed",
    "closed": "closed",
    "reset": "reset",
    "kept": "kept after all, by the rules of then,",
}


def history_words(history: ConnectionHistory, packet: int, first_ns: int) -> str:
    """``opened by packet 12 under A01; cut by the change at 10.5 s; held until 40.5 s``."""
    told = [_event(event, history, packet, first_ns) for event in _worth_telling(history.history)]
    if history.opened_by is None:
        told.insert(0, f"opened before under {history.rule}" if history.rule else "opened before")
    if history.more:
        told.append(f"and {history.more:,} more {'event' if history.more == 1 else 'events'}")
    return "; ".join(told)


def _worth_telling(events: Sequence[Event]) -> list[Event]:
    """Without the steps on the way to what an event says itself."""
    told: list[Event] = []
    for event in events:
        if told and (told[-1].event, event.event) in (
            ("answered", "established"),
            ("closing", "half-closed"),
            ("closing", "closed"),
            ("half-closed", "closing"),
            ("half-closed", "closed"),
        ):
            told.pop()
        told.append(event)
    return told


def _event(event: Event, history: ConnectionHistory, packet: int, first_ns: int) -> str:
    at = time_words(event.time_ns, first_ns)
    ago = f"{time_words(first_ns, event.time_ns)} before this packet"
    if event.event == "last-packet":
        return f"its last packet came {ago}"
    if event.event == "disconnected":
        if event.change is None:
            return f"cut by a change {f'at {at}' if event.time_ns >= first_ns else ago}"
        return f"cut by the change at {at} ({event.change.change.summary})"
    if event.event == "held-until":
        return f"held until {at}" if history.opened_by is not None else f"held for {at} more"
    if event.event in ("expired", "ended"):
        return f"{event.event} at {at}"
    by = "by this packet" if event.packet == packet else f"by packet {event.packet}"
    if event.event == "opened":
        return f"opened {by} under {history.rule}" if history.rule else f"opened {by}"
    return f"{_EVENTS[event.event]} {by}"


# ---- verdicts ----


def reason_words(check: ExplainedCheck) -> str:
    """Why the check came to its verdict, in a clause."""
    of = check.check
    admitted = check.connection.rule if check.connection else None
    by = f" that {admitted} admitted" if admitted else ""
    groups = ", ".join(group.id for group in check.groups)
    if of.reason == "rule":
        return f"{of.rule} of {of.security_group} {'allows' if of.verdict == 'allow' else 'denies'} it"
    if of.cause:
        return CAUSES[of.cause]
    return {
        "no-rule-matched": f"no rule of {groups} matches it" if groups else "no rule matches it",
        "connection": f"it belongs to a connection{by}",
        "related": f"it is an ICMP error about a connection{by}",
        "disconnected": "its connection was cut by a change of the policy",
        "table-full": f"rules allow it, and the connection table has no room for {of.instance}",
        "load-balancer": "it goes between a load balancer and its backend",
        "control": "it is control traffic, which no rule is asked about",
    }.get(of.reason, of.reason)


def page_of(explanation: Explanation) -> str | None:
    """The section of the documents that says what to do about a denied packet; None for what was not denied."""
    denied = next((check.check for check in explanation.checks if check.check.verdict == "deny"), None)
    return f"{document('dropped.md')}#{denied.cause or denied.reason}" if denied else None


def headline(explanation: Explanation) -> str:
    """The verdict and its reason in a sentence."""
    checks = explanation.checks
    if not checks:
        return "bypass: neither of its sides is an instance of the policy"
    decided = next((check for check in checks if check.check.verdict == "deny"), checks[-1])
    return f"{explanation.verdict}: {reason_words(decided)}"
