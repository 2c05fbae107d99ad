"""What the control socket answers, as JSON values: the forms that outside programs read."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from dataplane._core import lib
from dataplane.connection_table import PROTOCOLS, flow_protocol
from dataplane.counters import record
from dataplane.packet_words import address_in, has_ports
from dataplane.terminal import host_port
from dataplane.verdict import CAUSE_WORDS, DIRECTION_WORDS, REASON_WORDS, VERDICT_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dataplane.connection_table import Connection, Row, Rule
    from dataplane.control.answers import DifferentFlow, DifferentRules
    from dataplane.control.answers import Disconnected as DisconnectedRecord
    from dataplane.live.firewall import Firewall
    from dataplane.policy import Policy
    from dataplane.update import Disconnected

#: Why a frame did not leave a port, or was not taken from it, by enum dp_port_drop.
DROP_WORDS = {
    lib.DP_DROP_FULL: "queue-full",
    lib.DP_DROP_ERROR: "error",
    lib.DP_DROP_NO_DESTINATION: "no-destination",
    lib.DP_DROP_FRAGMENT: "fragment-not-held",
    lib.DP_DROP_MISSED: "missed",
    lib.DP_DROP_DAMAGED: "damaged",
    lib.DP_DROP_TOO_LONG: "too-long",
    lib.DP_DROP_UNREADABLE: "unreadable",
    lib.DP_DROP_OFFLOAD: "offload",
    lib.DP_DROP_REFUSED: "refused",
}


def connection_record(connection: Connection, *, now_ns: int) -> dict[str, Any]:
    """A connection; `expires_in` and `idle` are seconds, from now and since its last packet (or since it was cut)."""
    return row_record(astuple(connection), now_ns)


def row_record(row: Row, now_ns: int) -> dict[str, Any]:
    """The same of a row of `Connections.rows`."""
    instance, origin, protocol, state, local, local_port, remote, remote_port, *more = row
    icmp_id, rule, group, disconnected, last_ns, expires_ns, icmp_type = more
    return {
        "instance": instance,
        "origin": origin,
        "protocol": protocol,
        "state": state,
        "local": local,
        "local_port": local_port,
        "remote": remote,
        "remote_port": remote_port,
        "icmp_id": icmp_id,
        "icmp_type": icmp_type,
        "rule": rule,
        "security_group": group,
        "disconnected": disconnected,
        "expires_in": (expires_ns - now_ns) / 1e9 if expires_ns > now_ns else 0.0,
        "idle": (now_ns - last_ns) / 1e9 if now_ns > last_ns else 0.0,
    }


def disconnected_record(result: Disconnected) -> DisconnectedRecord:
    """What a change disconnected, or would."""
    return {"total": result.total, "by_instance": dict(result.by_instance), "revoked": result.revoked}


#: So many of the connections that stay and would be denied are told one by one.
_FLOWS_TOLD = 1000


def difference_record(firewall: Firewall, policy: Policy) -> dict[str, Any]:
    """What putting a policy in force would do to connections; in `flows` the first of those that it would deny."""
    pairs: Counter[tuple[str | None, str | None, bool]] = Counter()
    flows: list[DifferentFlow] = []
    for found in firewall.reconsider(policy):
        for number, (old, new, cut) in enumerate(found.fates):
            pairs[old and old[0], new and new[0], cut] += 1
            if not cut and len(flows) < _FLOWS_TOLD:
                flows.append(_different_flow(found.connection(number), new))
    changed = sum(n for (_, _, cut), n in pairs.items() if not cut)
    rules: list[DifferentRules] = [
        {"old": old, "new": new, "connections": pairs[old, new, False], "disconnected": pairs[old, new, True]}
        for old, new in {(old, new) for old, new, _ in pairs}
    ]
    rules.sort(key=lambda pair: (-pair["connections"] - pair["disconnected"], str(pair["old"]), str(pair["new"])))
    same = len(firewall.connections) - sum(pairs.values())
    return {"connections": {"same": max(0, same), "changed": changed}, "flows": flows, "rules": rules}


def _different_flow(connection: Connection, new: Rule) -> DifferentFlow:
    here = connection.local, connection.local_port
    there = connection.remote, connection.remote_port
    source, destination = (there, here) if connection.origin == "inbound" else (here, there)
    text = f"{connection.protocol} {host_port(*source)} > {host_port(*destination)}"
    if connection.icmp_id is not None:
        text = f"{text} {connection.icmp_type} id {connection.icmp_id}"
    reason = "rule" if new else "no-rule-matched"
    return {
        "flow": text,
        "instance": connection.instance,
        "origin": connection.origin,
        "old": {"verdict": "allow", "reason": "connection", "rule": connection.rule},
        "new": {"verdict": "deny", "reason": reason, "rule": new and new[0]},
    }


def flow_record(flow: Any) -> dict[str, Any]:
    """A `struct dp_flow`; all are null where the packet was neither IP nor ARP."""
    if not flow.family:
        return dict.fromkeys(("protocol", "source", "source_port", "destination", "destination_port", "icmp_id"))
    is_icmp = flow.protocol in (PROTOCOLS["icmp"], PROTOCOLS["icmpv6"])
    ported = has_ports(flow)
    return {
        "protocol": flow_protocol(flow),
        "source": address_in(flow.source, flow.family),
        "source_port": flow.source_port if ported else None,
        "destination": address_in(flow.destination, flow.family),
        "destination_port": flow.destination_port if ported else None,
        "icmp_id": (flow.source_port or None) if is_icmp else None,
    }


def checks_of(table: Any) -> Iterator[tuple[str, str, Any]]:
    """(verdict, reason, counter) of a table of counters by verdict and reason, those that are not 0."""
    for v, verdict in enumerate(VERDICT_WORDS):
        for r, reason in enumerate(REASON_WORDS):
            if table[v][r].packets:
                yield verdict, reason, table[v][r]


def counters_record(firewall: Firewall) -> dict[str, Any]:
    """The counters of a firewall; of checks, states and causes those that are 0 are left out."""
    told = record(firewall.counters())
    checks = [
        {"verdict": verdict, "reason": reason, **traffic}
        for verdict, reasons in told["checks"].items()
        for reason, traffic in reasons.items()
    ]
    connections = told["connections"]
    return {
        **told,
        "checks": checks,
        # Their names of before.
        "connections": {"live": connections["entries"], "limit": connections["max_entries"], **connections},
        "ports": _ports(firewall),
        "rules": list(_rules(firewall)),
        "denied_flows": [
            {
                "instance": firewall.names.instances[found.zone],
                "direction": DIRECTION_WORDS[found.direction],
                "reason": REASON_WORDS[found.reason],
                "cause": CAUSE_WORDS[found.cause] if found.cause else None,
                **flow_record(found.flow),
                # They are taken together.
                "source_port": None,
                **_traffic(found.count),
                "overcount": found.overcount,
                "consequences": _traffic(found.consequences),
            }
            for found in firewall.denied(10)
        ],
    }


def _traffic(counter: Any) -> dict[str, int]:
    return {"packets": counter.packets, "bytes": counter.bytes}


def _ports(firewall: Firewall) -> list[dict[str, Any]]:
    counters = firewall.port_counters()
    return [_port(port.name, counters[number]) for number, port in firewall.ports.items()]


def _port(name: str, counters: Any) -> dict[str, Any]:
    return {
        "port": name,
        "received": _traffic(counters.received),
        "sent": _traffic(counters.sent),
        "segmented": _traffic(counters.segmented),
        "checks": [
            {"direction": direction, "verdict": verdict, "reason": reason, **_traffic(counter)}
            for d, direction in enumerate(DIRECTION_WORDS)
            for verdict, reason, counter in checks_of(counters.check[d])
        ],
        "drops": {word: counters.drop[drop] for drop, word in DROP_WORDS.items() if counters.drop[drop]},
    }


def _rules(firewall: Firewall) -> Iterator[dict[str, Any]]:
    """The rules of the policy in force, and those of before under which connections may still live."""
    now = firewall.policy.rules_by_id
    for named, counter in zip(firewall.names.rules, firewall.rule_counters(), strict=True):
        if named and (counter.hits or counter.traffic.packets or named[0] in now):
            yield {"rule": named[0], "security_group": named[1], "hits": counter.hits, **_traffic(counter.traffic)}
