"""Rules that open remote logins and data stores to everybody, which the source advises against (Recommendations)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataplane.insight.packet_sets import Box, Match, kept, uncovered, whole
from dataplane.insight.rule_sets import BITS, Membership, NumberedRule, Tables
from dataplane.policy.fields import PROTOCOL_NUMBERS
from dataplane.policy.mistakes import shown

if TYPE_CHECKING:
    from dataplane.policy.model import Policy
    from dataplane.policy.rule import SecurityGroupRule

#: Protocol, number, and what listens there.
Port = tuple[str, int, str]

#: Remote login, then data stores and shared files (docs/lint.md).
PORTS: tuple[Port, ...] = (
    ("tcp", 22, "SSH"),
    ("tcp", 23, "Telnet"),
    ("tcp", 512, "rexec"),
    ("tcp", 513, "rlogin"),
    ("tcp", 514, "rsh"),
    ("tcp", 3389, "RDP"),
    ("udp", 3389, "RDP"),
    ("tcp", 5900, "VNC"),
    ("tcp", 5985, "WinRM"),
    ("tcp", 5986, "WinRM"),
    ("tcp", 111, "NFS portmapper"),
    ("tcp", 445, "SMB"),
    ("tcp", 1433, "SQL Server"),
    ("tcp", 1521, "Oracle"),
    ("tcp", 2049, "NFS"),
    ("tcp", 2379, "etcd"),
    ("tcp", 3306, "MySQL"),
    ("tcp", 5432, "PostgreSQL"),
    ("tcp", 5984, "CouchDB"),
    ("tcp", 6379, "Redis"),
    ("tcp", 9042, "Cassandra"),
    ("tcp", 9200, "Elasticsearch"),
    ("tcp", 9300, "Elasticsearch"),
    ("tcp", 11211, "memcached"),
    ("udp", 11211, "memcached"),
    ("tcp", 27017, "MongoDB"),
)


@dataclass(slots=True)
class Exposure:
    """A rule that lets every address of its family in to some ports, and where some of them come through."""

    item: NumberedRule
    ports: list[Port]
    membership: Membership
    through: Box


def open_logins(policy: Policy) -> tuple[str, ...]:
    """A warning for each rule that opens port 22, which the source advises never to do, one sentence each."""
    return tuple(
        f"rule {shown(found.item.rule.id)} of security group {shown(found.item.group.id)} opens TCP port 22 to every"
        f" {found.item.rule.ethertype} address: name the addresses that may log in"
        for found in exposures(Tables(policy), PORTS[:1])
    )


def exposures(tables: Tables, ports: tuple[Port, ...] = PORTS) -> Iterator[Exposure]:
    """The rules that are open to every address on one of the ports where no deny rule before them shuts it.

    Shut is a port whose every source is denied, at each instance of the group, by rules that are tried before.
    """
    for ethertype in BITS:
        found: dict[int, Exposure] = {}
        everybody = whole(BITS[ethertype])
        everyone = ((everybody.remote_low, everybody.remote_high),)
        opening = {
            item.number: tuple(port for port in ports if _selects(item.rule, _selector(port)))
            for item in tables.rules
            if item.rule.direction == "ingress"
            and item.rule.ethertype == ethertype
            and item.allows
            and tables.remotes(item.rule) == everyone
        }
        for membership in tables.memberships:
            _look(tables, membership, everybody, opening, found)
        yield from (found[number] for number in sorted(found))


def _look(
    tables: Tables,
    membership: Membership,
    everybody: Box,
    opening: dict[int, tuple[Port, ...]],
    found: dict[int, Exposure],
) -> None:
    """Adds what one ordered list of groups opens."""
    ethertype = "IPv4" if everybody == whole(BITS["IPv4"]) else "IPv6"
    matches = tables.of_groups(membership.groups, ("ingress", ethertype))
    wanted = [
        (place, m.number, port)
        for place, m in enumerate(matches)
        for port in opening.get(m.number, ())
        if m.number not in found or port not in found[m.number].ports
    ]
    if not wanted:
        return
    order = {m.number: place for place, m in enumerate(matches)}
    denies = [m for m in matches if not tables.rules[m.number].allows]
    denied: dict[Port, list[Match]] = {}
    for place, number, port in wanted:
        box = everybody._replace(selector_low=_selector(port), selector_high=_selector(port))
        if port not in denied:
            denied[port] = kept(box, denies, len(denies) + 1)[0]
        through = uncovered(box, [m for m in denied[port] if order[m.number] < place])
        if through is not None:
            found.setdefault(number, Exposure(tables.rules[number], [], membership, through)).ports.append(port)


def _selector(port: Port) -> int:
    return PROTOCOL_NUMBERS[port[0]] << 16 | port[1]


def _selects(rule: SecurityGroupRule, selector: int) -> bool:
    return any(low <= selector <= high for low, high in rule.selectors)
