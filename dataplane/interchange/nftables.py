"""A policy as a rule set for nftables (SPEC 8.8), which decides about first packets as the policy does.

The kernel's own connection tracking stands in for ours: a packet of a known connection passes. What the kernel has no
words for is said at the head of the rule set (timeouts, cuts at a change, the check of senders), and what of this
policy cannot be expressed is listed.

The hook is `forward`: instances are reached through the host. A chain stands for each list of groups in one direction;
in an egress chain `return` allows, because the receiver's ingress chain is still to be asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_network

from dataplane.policy.addresses import pair_prefix
from dataplane.policy.document import Instance, LoadBalancer
from dataplane.policy.model import Policy
from dataplane.policy.rule import SecurityGroupRule

_HEAD = """\
#!/usr/sbin/nft -f
# Decides about the first packets of connections as the policy does; known connections pass.
# Not in it: timeouts, the fair share of the table, the cut of connections at a change, the check of senders.
# Loading it again replaces it: the table is made, deleted and made anew in one transaction.
table inet dataplane
delete table inet dataplane
"""
_FAMILIES = {"IPv4": ("ip", "ipv4_addr", "v4"), "IPv6": ("ip6", "ipv6_addr", "v6")}
_COMMENT = 120

Names = dict[tuple[str, str, str], str]


def exported(policy: Policy) -> tuple[str, list[str]]:
    """The rule set, and sentences about what of the policy it cannot express."""
    left_out: list[str] = []
    instances = list(_expressible(policy, left_out))
    left_out += [
        f"rule {rule.id}: that it ends at {rule.expires_at.text}"
        for _, rule in policy.rules_by_id.values()
        if rule.expires_at is not None
    ]
    names, sets = _sets(policy)
    lists = list(dict.fromkeys(instance.security_groups for instance in instances))
    chains = [
        _chain(policy, direction, groups, number, names)
        for number, groups in enumerate(lists)
        for direction in ("egress", "ingress")
    ]
    number_of = {groups: number for number, groups in enumerate(lists)}
    forward = _forward(policy, instances, number_of, left_out)
    blocks = [*sets, _sane(policy), *chains, forward]
    return f"{_HEAD}table inet dataplane {{\n{chr(10).join(blocks)}}}\n", left_out


# ---- who is protected ----


def _expressible(policy: Policy, left_out: list[str]) -> Iterator[Instance]:
    """The instances whose addresses are theirs alone: the kernel knows them by nothing else."""
    holders: dict[str, str] = {}
    for instance in policy.instances:
        twice = [a for a in instance.addresses if a in holders]
        if twice:
            left_out.append(f"instance {instance.id}: its address {twice[0]} is also that of {holders[twice[0]]}")
            continue
        holders.update(dict.fromkeys(instance.addresses, instance.id))
        yield instance


def _virtual(instances: Sequence[Instance], left_out: list[str]) -> Iterator[tuple[str, Instance]]:
    """Virtual IPs that one instance alone may hold, as prefixes."""
    taken: list[tuple[object, str]] = []
    for instance in instances:
        for pair in instance.allowed_address_pairs:
            prefix = ip_network(pair_prefix(pair))
            other = next((who for net, who in taken if net.version == prefix.version and net.overlaps(prefix)), None)  # type: ignore[attr-defined]
            if other is not None:
                left_out.append(f"instance {instance.id}: the virtual IP {prefix} may also be held by {other}")
                continue
            taken.append((prefix, instance.id))
            yield str(prefix), instance


# ---- sets ----


def _sets(policy: Policy) -> tuple[Names, list[str]]:
    """Sets of the remotes that rules name, by (kind, id, ethertype), and how they are written."""
    names: Names = {}
    texts = []
    for group in policy.security_groups:
        for rule in group.security_group_rules:
            remote = rule.remote_group_id or rule.remote_address_group_id
            kind = "group" if rule.remote_group_id else "addresses"
            key = (kind, remote or "", rule.ethertype)
            if remote is None or key in names:
                continue
            _, type_name, suffix = _FAMILIES[rule.ethertype]
            names[key] = f"{kind}{len(names) + 1}_{suffix}"
            texts.append(_set(names[key], type_name, remote, _members(policy, kind, remote, rule.ethertype)))
    return names, texts


def _members(policy: Policy, kind: str, remote: str, ethertype: str) -> list[str]:
    version = int(ethertype[-1])
    if kind == "group":
        addresses = [a for instance in policy.members(remote) for a in instance.addresses]
        return [a for a in addresses if (":" in a) == (version == 6)]
    group = policy.address_group(remote)
    return list(group.ip_set) if group.ip_version == version else []


def _set(name: str, type_name: str, what: str, members: Iterable[str]) -> str:
    elements = ", ".join(dict.fromkeys(members))
    lines = [f"type {type_name}", "flags interval", "auto-merge", f'comment "{_text(what)}"']
    if elements:
        lines.append(f"elements = {{ {elements} }}")
    return _block(f"set {name}", lines)


# ---- chains ----


def _sane(policy: Policy) -> str:
    lines = ["ct state invalid drop"]
    if not policy.conntrack.tcp_loose:
        lines.append("ct state new tcp flags & (fin | syn | rst | ack) != syn drop")
    return _block("chain sane", lines)


def _chain(policy: Policy, direction: str, groups: Sequence[str], number: int, names: Names) -> str:
    lines = ["jump sane"]
    for group in groups:
        rules = [r for r in policy.group(group).security_group_rules if r.enabled and r.direction == direction]
        for rule in sorted(rules, key=lambda r: (r.priority, r.action != "deny")):
            lines.append(_rule(rule, direction, names))
    lines.append("counter drop")
    return _block(f"chain {direction}{number}", [f'comment "{_text(", ".join(groups))}"', *lines])


def _rule(rule: SecurityGroupRule, direction: str, names: Names) -> str:
    ip = _FAMILIES[rule.ethertype][0]
    side = "saddr" if direction == "ingress" else "daddr"
    remote = rule.remote_group_id or rule.remote_address_group_id
    words = []
    if rule.remote_ip_prefix is not None and not rule.remote_ip_prefix.endswith("/0"):
        words.append(f"{ip} {side} {rule.remote_ip_prefix}")
    elif remote is not None:
        kind = "group" if rule.remote_group_id else "addresses"
        words.append(f"{ip} {side} @{names[kind, remote, rule.ethertype]}")
    else:
        words.append(f"meta nfproto {'ipv4' if ip == 'ip' else 'ipv6'}")
    words.append(_selection(rule))
    verdict = "drop" if rule.action == "deny" else "return" if direction == "egress" else "accept"
    return " ".join(filter(None, [*words, "counter", verdict, f'comment "{_text(rule.id)}"']))


def _selection(rule: SecurityGroupRule) -> str:
    if rule.protocol is None:
        return ""
    if rule.multiport is not None:
        return f"{rule.protocol} dport {{ {rule.multiport.replace(',', ', ')} }}"
    (low, high), *_ = rule.selectors
    if rule.icmp_type is None:
        return f"meta l4proto {rule.protocol_number}"
    text = f"{rule.protocol} type {low >> 8 & 0xFF}"
    return text if rule.icmp_code is None else f"{text} {rule.protocol} code {high & 0xFF}"


def _forward(
    policy: Policy, instances: Sequence[Instance], number_of: dict[tuple[str, ...], int], left_out: list[str]
) -> str:
    lines = ["type filter hook forward priority filter; policy accept;", "ct state established,related accept"]
    for balancer in policy.load_balancers:
        lines.extend(_past_rules(policy, balancer, left_out))
    virtual = list(_virtual(instances, left_out))
    for ip, is_six in (("ip", False), ("ip6", True)):
        own = [(a, instance) for instance in instances for a in instance.addresses if (":" in a) == is_six]
        held = [(prefix, instance) for prefix, instance in virtual if (":" in prefix) == is_six]
        for side, direction in (("saddr", "egress"), ("daddr", "ingress")):
            if own:
                lines.append(_map(f"{ip} {side}", direction, own, number_of))
            if held:
                others = f"{ip} {side} != {{ {', '.join(a for a, _ in own)} }} " if own else ""
                lines.append(others + _map(f"{ip} {side}", direction, held, number_of))
    # Both families' senders first: an egress chain that allows leads back here, an ingress chain decides.
    head = [line for line in lines if "egress" not in line and "ingress" not in line]
    checks = [line for word in ("egress", "ingress") for line in lines if f"jump {word}" in line]
    return _block("chain forward", [*head, *checks])


def _map(
    match: str, direction: str, whose: Iterable[tuple[str, Instance]], number_of: dict[tuple[str, ...], int]
) -> str:
    elements = ", ".join(f"{a} : jump {direction}{number_of[i.security_groups]}" for a, i in whose)
    return f"{match} vmap {{ {elements} }}"


def _past_rules(policy: Policy, balancer: LoadBalancer, left_out: list[str]) -> Iterator[str]:
    """Packets between a balancer and its backends (SPEC 3.5), by the balancer's address."""
    if not balancer.transfer_client_ip:
        return
    if balancer.mac or balancer.interface:
        left_out.append(f"load balancer {balancer.id}: known by its address only, not by its MAC or interface")
    for ip, is_six in (("ip", False), ("ip6", True)):
        ours = [a for a in balancer.addresses if (":" in a) == is_six]
        theirs = [a for b in balancer.backends for a in policy.instance(b).addresses if (":" in a) == is_six]
        for first, second in ((ours, theirs), (theirs, ours)):
            if first and second:
                yield f"{ip} saddr {{ {', '.join(first)} }} {ip} daddr {{ {', '.join(second)} }} accept"


def _block(head: str, lines: Iterable[str]) -> str:
    return "".join([f"    {head} {{\n", *(f"        {line}\n" for line in lines), "    }\n"])


def _text(text: str) -> str:
    """A text as a comment: nft has no escapes in them, and a bound."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "?" for c in text)
    return plain[:_COMMENT]
