"""Parts of the policy in force as tables, for people at a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dataplane.cli.ctl.text import moment, table
from dataplane.terminal import columns as terminal_columns

#: Of a list in a table.
_FIRST = 8
#: Columns that a table of rules with a column for each field takes.
_RULES_WIDTH = 120


def print_rules(rules: Sequence[Mapping[str, Any]]) -> None:
    """Rules of the policy in force; where there is no room for a column of each field, the rule is a sentence."""
    if terminal_columns() < _RULES_WIDTH:
        told = ((rule["id"], rule["security_group"], _rule(rule), _hit(rule["last_hit"])) for rule in rules)
        table("Rules", ("rule", "security group", "what it does", "last hit"), told)
        return
    table(
        "Rules",
        (
            "rule",
            "security group",
            "direction",
            "ethertype",
            "protocol",
            "ports",
            "remote",
            "action",
            "priority",
            "last hit",
        ),
        [
            (
                rule["id"],
                rule["security_group"],
                rule["direction"],
                rule["ethertype"],
                _protocol(rule),
                rule["multiport"] or "all",
                _remote(rule),
                _action(rule),
                rule["priority"],
                _hit(rule["last_hit"]),
            )
            for rule in rules
        ],
    )


def print_uses(rules: Sequence[Mapping[str, Any]]) -> None:
    """Rules with the times of their use."""
    table(
        "Rules",
        ("rule", "security group", "last hit", "there since"),
        [
            (
                rule["rule"] + ("" if rule["enabled"] else " (disabled)"),
                rule["security_group"],
                _hit(rule["last_hit"]),
                moment(rule["since"]),
            )
            for rule in rules
        ],
    )


def _hit(seconds: float | None) -> str:
    return "never" if seconds is None else moment(seconds)


def _action(rule: Mapping[str, Any]) -> str:
    until = f" (until {ends})" if (ends := rule.get("expires_at")) else ""
    return f"{rule['action']}{'' if rule['enabled'] else ' (disabled)'}{until}"


def _remote(rule: Mapping[str, Any]) -> str:
    return rule["remote_ip_prefix"] or rule["remote_group_id"] or rule["remote_address_group_id"] or "any"


def _rule(rule: Mapping[str, Any]) -> str:
    ports = f" {rule['multiport']}" if rule["multiport"] else ""
    side = "from" if rule["direction"] == "ingress" else "to"
    what = f"{rule['direction']} {rule['ethertype']} {_protocol(rule)}{ports} {side} {_remote(rule)}"
    return f"{_action(rule)} {what}, priority {rule['priority']}"


def _protocol(rule: Mapping[str, Any]) -> str:
    if rule["protocol"] is None:
        return "all"
    words = [str(rule["protocol"])]
    words += [f"{name[5:]} {rule[name]}" for name in ("icmp_type", "icmp_code") if rule.get(name) is not None]
    return " ".join(words)


def print_instances(instances: Sequence[Mapping[str, Any]]) -> None:
    """Instances of the policy in force; virtual IPs have a mark."""
    table(
        "Instances",
        ("instance", "name", "addresses", "security groups", "interface"),
        [
            (
                i["id"],
                i["name"] or "-",
                ", ".join([*i["addresses"], *(f"{_virtual(pair)} (virtual)" for pair in i["allowed_address_pairs"])]),
                ", ".join(i["security_groups"]),
                i["interface"] or "-",
            )
            for i in instances
        ],
    )


def _virtual(pair: str | Mapping[str, str]) -> str:
    return pair if isinstance(pair, str) else pair["ip"]


def print_address_groups(groups: Sequence[Mapping[str, Any]]) -> None:
    """Address groups of the policy in force; of a large one, the first addresses."""
    table(
        "Address groups",
        ("address group", "name", "addresses", "rules"),
        [(g["id"], g["name"] or "-", _first(g["ip_set"]), _first(g["rules"])) for g in groups],
    )


def print_balancers(balancers: Sequence[Mapping[str, Any]]) -> None:
    """Load balancers of the policy in force."""
    table(
        "Load balancers",
        ("balancer", "name", "known by", "backends", "transfer_client_ip"),
        [
            (
                b["id"],
                b["name"] or "-",
                ", ".join([*b["addresses"], *(known for known in (b["mac"], b["interface"]) if known)]),
                ", ".join(b["backends"]) or "-",
                "true" if b["transfer_client_ip"] else "false",
            )
            for b in balancers
        ],
    )


def _first(words: Sequence[str]) -> str:
    """A list as a table has it; of a long one its beginning and how many there are more."""
    more = f" and {len(words) - _FIRST:,} more" if len(words) > _FIRST else ""
    return ", ".join(words[:_FIRST]) + more or "-"


def print_groups(groups: Sequence[Mapping[str, Any]]) -> None:
    """Security groups of the policy in force."""
    table(
        "Security groups",
        ("security group", "name", "rules", "instances"),
        [(g["id"], g["name"] or "-", g["rules"], ", ".join(g["instances"]) or "-") for g in groups],
    )
