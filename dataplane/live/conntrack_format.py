"""Connections, events and drops as lines; connections in the format of conntrack-tools, so that its users' scripts fit.

What conntrack-tools has no word for stands at the end of a line: the instance, who opened the connection, the rule that
admitted it and its group. ``[DISCONNECTED]`` marks a connection that a change has cut (SPEC 5.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dataplane.connection_table import PROTOCOLS
from dataplane.terminal import host_port

#: The type of an ICMP query's reply, by that of its request.
_REPLIES = {8: 0, 13: 14, 15: 16, 17: 18, 128: 129}
_HALF_OPEN = ("SYN_SENT", "SYN_SENT2", "SYN_RECV", "CLOSE")


def connection_line(connection: Mapping[str, Any], *, event: str | None = None) -> str:
    """A connection record as conntrack -L lists it, or as conntrack -E tells of it."""
    protocol = connection["protocol"]
    number = PROTOCOLS.get(protocol)
    name = "unknown" if number is None else protocol
    words = [f"{name:<8} {protocol if number is None else number}"]
    if event != "DESTROY":
        words.append(str(int(connection["expires_in"])))
        if protocol == "tcp":
            words.append(connection["state"])
    words.extend(_tuples(connection))
    if _is_assured(connection):
        words.append("[ASSURED]")
    if connection["disconnected"]:
        words.append("[DISCONNECTED]")
    words += ["mark=0", "use=1", f"instance={connection['instance']}", f"origin={connection['origin']}"]
    if connection["rule"] is not None:
        words += [f"rule={connection['rule']}", f"security_group={connection['security_group']}"]
    line = " ".join(words)
    return line if event is None else f"{f'[{event}]':>9} {line}"


def event_line(event: Mapping[str, Any]) -> str:
    """An event as conntrack -E tells of it."""
    return connection_line(event["connection"], event=event["event"])


def _tuples(connection: Mapping[str, Any]) -> list[str]:
    """The way of the first packet, and that of its answer."""
    here = connection["local"], connection["local_port"]
    there = connection["remote"], connection["remote_port"]
    (source, sport), (destination, dport) = (there, here) if connection["origin"] == "inbound" else (here, there)
    unreplied = connection["state"] in ("UNREPLIED", "SYN_SENT")
    middle = ["[UNREPLIED]"] if unreplied else []
    if connection["icmp_id"] is not None:
        kind, number = connection["icmp_type"], connection["icmp_id"]
        asked = [f"type={kind}", "code=0", f"id={number}"]
        answered = [f"type={_REPLIES.get(kind, kind)}", "code=0", f"id={number}"]
    elif sport is not None:
        asked, answered = [f"sport={sport}", f"dport={dport}"], [f"sport={dport}", f"dport={sport}"]
    else:
        asked = answered = []
    return [
        *(f"src={source}", f"dst={destination}", *asked),
        *middle,
        *(f"src={destination}", f"dst={source}", *answered),
    ]


def _is_assured(connection: Mapping[str, Any]) -> bool:
    """Whether both sides have shown that they want the connection."""
    if connection["icmp_id"] is not None or connection["state"] == "UNREPLIED":
        return False
    return connection["state"] not in _HALF_OPEN


def drop_line(drop: Mapping[str, Any]) -> str:
    """A denied packet: when, where, what it was, and why."""
    words = [_clock(drop["time"]), "deny"]
    words += [drop["direction"] or "-", drop["instance"] or "-"]
    if drop["protocol"] is None:
        words.append("not-ip")
    else:
        source = host_port(drop["source"], drop["source_port"])
        words += [drop["protocol"], source, ">", host_port(drop["destination"], drop["destination_port"])]
        if drop["icmp_id"] is not None:
            words.append(f"id={drop['icmp_id']}")
    words.append(drop["reason"] or "-")
    if drop["cause"]:
        words.append(f"({drop['cause']})")
    if drop["rule"] is not None:
        words.append(f"rule={drop['rule']} security_group={drop['security_group']}")
    words += [f"port={drop['port']}", f"length={drop['length']}"]
    if drop.get("suppressed"):
        words.append(f"(and {drop['suppressed']:,} more before it that were not shown)")
    return " ".join(words)


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%H:%M:%S.%f")
