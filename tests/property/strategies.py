"""Stories to play: few hosts, few ports, and times that lie on the timeouts' edges.

Each story is a policy and a list of events that are drawn independently, so that it shrinks well: towards one instance,
one SG, and few packets without pauses.

Left out because the specification leaves the answer open: TCP over an address that two instances hold with changing
MACs, packets of an instance to itself, DHCP servers, fragments, and the fair share
of a full table among several instances.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from . import frames
from .conversation import Flow, Host
from .endpoint import STEPS
from .packet_model import QUERIES, SCTP, TCP, UDP
from .policy_model import Document
from .policy_model import pairs as address_pairs
from .policy_strategies import (
    CLIENTS,
    LB_ADDRESS,
    LB_CLIENT,
    LB_MAC,
    VIRTUAL_IP,
    VIRTUAL_MACS,
    changes,
    documents,
    guarding_documents,
    items,
    joins,
    mac,
    open_documents,
)
from .story import ERROR_TYPES, Change, Datagram, Error, Event, Message, Query, Segments, Story

SECOND = 1_000_000_000
MS = SECOND // 1000

#: In nanoseconds, about the edges of every timeout of SPEC 4.2.
PAUSES = [0, MS, 9900 * MS, 10 * SECOND, 29999 * MS, 30 * SECOND, 179900 * MS, 180 * SECOND, 599900 * MS, 600 * SECOND]
#: That add up to 30 s, 180 s and 600 s, to just before and to just beyond, with changes between.
HOLD_PAUSES = [0] * 6 + [MS, 10 * SECOND, 20 * SECOND, 9999 * MS, 30 * SECOND, 150 * SECOND, 570 * SECOND]
#: How long to wait before a packet, and by how much its timestamp is late.
TIMES = [(0, 0)] * 16 + [(MS, 0)] * 3 + [(pause, 0) for pause in PAUSES[2:]]
TIMES += [(0, MS), (0, SECOND), (0, 40 * SECOND), (10 * SECOND, 20 * SECOND), (30 * SECOND, 40 * SECOND)]

#: Whole pieces of conversations, each (from the server?, step).
OPENING = [(False, "syn"), (True, "syn-ack"), (False, "ack")]
CLOSINGS = [
    [(False, "fin"), (True, "ack"), (True, "fin"), (False, "ack")],
    [(True, "fin"), (False, "fin"), (True, "ack")],
    [(False, "fin"), (True, "fin"), (True, "ack"), (False, "ack")],
    [(True, "rst")],
]
PIECES = [
    *[OPENING] * 4,
    [*OPENING, (False, "data")],
    [*OPENING, (False, "data"), (True, "data")],
    *CLOSINGS,
    [(False, "syn"), (True, "syn"), (False, "syn-ack"), (True, "syn-ack")],
    [(False, "new syn"), (True, "syn-ack"), (False, "ack")],
    [(False, "syn"), (True, "rst-ack")],
    [(False, "data")],
    [(True, "data")],
]

#: What a connection can be opened with.
Talk = Datagram | Segments | Query

PORTS = [22, 80, 1024]
PORTLESS = [47, 50, 4]
WITH_PORTS = [17, 17, 17, 136, 132, 33]


def hosts(document: Document) -> list[Host]:
    """Every end that may speak: the instances' addresses, the outside, the balancer, and virtual IPs by each holder."""
    found = [Host(VIRTUAL_IP, mac) for mac in VIRTUAL_MACS if _has_virtual_macs(document)]
    found += [Host(address, i["mac"]) for i in document["instances"] for address in i["addresses"]]
    found += [Host(VIRTUAL_IP, i["mac"]) for i in document["instances"] if i.get("allowed_address_pairs")]
    found += [Host(address) for address in CLIENTS]
    if any(i.get("allowed_address_pairs") for i in document["instances"]):
        # As seen beyond a router: no MAC tells who has it.
        found.append(Host(VIRTUAL_IP))
    if document.get("load_balancers"):
        found += [Host(LB_ADDRESS, LB_MAC), Host(LB_ADDRESS), Host(LB_CLIENT, LB_MAC), Host(CLIENTS[0], LB_MAC)]
    return found


def _has_virtual_macs(document: Document) -> bool:
    return any(mac for instance in document["instances"] for _, mac in address_pairs(instance))


def _pairs(ends: Sequence[Host], document: Document) -> list[tuple[Host, Host]]:
    """Who may talk to whom: the same family, not the same machine, and an instance among them."""
    macs = {instance["mac"] for instance in document["instances"]} | set(VIRTUAL_MACS)
    return [
        (one, two)
        for one in ends
        for two in ends
        if (":" in one.address) == (":" in two.address)
        and one.mac != two.mac
        and one.address != two.address
        and (one.mac in macs or two.mac in macs)
    ]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """A policy of any kind and events of every kind under it."""
    document = draw(st.one_of(open_documents(), documents()))
    ends = hosts(document)
    pairs = _pairs(ends, document)
    by_address = {host.address: host for host in draw(st.permutations(ends))}
    known = [h for h in ends if by_address[h.address] == h and h != Host(VIRTUAL_IP)]
    tcp_pairs = _pairs(known, document)
    # Few conversations, many packets: so that packets meet the entries of earlier ones.
    talks: list[Event] = []
    for flow in draw(st.lists(_flows(pairs), min_size=1, max_size=2)):
        talks += [Datagram(flow), Datagram(flow, reply=True), Datagram(flow, extension=True)] * 3
    for flow in draw(st.lists(_tcp_flows(tcp_pairs), max_size=2)) if tcp_pairs else ():
        talks += _segments(flow, 1)
    for client, server, kind, identifier in draw(st.lists(_queries(pairs), max_size=2)):
        asked = QUERIES[6 if ":" in client.address else 4][kind]
        talks += [Query(client, server, kind, identifier, reply) for reply in (None, asked)] * 3
    others = [_errors(ends), changes(document).map(lambda change: Change(*change)), _messages(ends, document)]
    choices = [*map(st.just, talks), *others * (len(talks) // 6)]
    return Story(document, draw(_lists(_timed(st.sampled_from(choices).flatmap(lambda chosen: chosen)))))


def _segments(flow: Flow, strays: int) -> list[Event]:
    """What may be said in a TCP flow: pieces of conversations, and each possible step, `strays` times."""
    steps = [[(from_server, step)] for step in STEPS for from_server in (False, True)]
    return [Segments(flow, steps) for steps in steps * strays + PIECES * 2]


def _lists(events: st.SearchStrategy[Event]) -> st.SearchStrategy[list[Event]]:
    """Lists of about 25 events: lists of lists, because those are long by themselves and shrink by whole pieces."""
    pieces = st.lists(st.lists(events, min_size=1, max_size=9), min_size=1, max_size=9)
    return pieces.map(lambda lists: [event for piece in lists for event in piece])


def _timed(events: st.SearchStrategy[Event]) -> st.SearchStrategy[Event]:
    return st.builds(_timed_and_tagged, events, st.sampled_from(TIMES), st.sampled_from([0] * 5 + [5]))


def _timed_and_tagged(event: Event, times: tuple[int, int], vlan: int) -> Event:
    """TCP goes without tags: a conversation is followed in one network."""
    tag = 0 if isinstance(event, Segments) else event.vlan or vlan
    return replace(event, wait_ns=times[0], late_ns=times[1], vlan=tag)


@st.composite
def disrupted_stories(draw: st.DrawFn) -> Story:
    """Connections, changes that cut them or not, and their packets about the ends of the holds (SPEC 5)."""
    document = draw(open_documents())
    pairs = [pair for pair in _pairs(hosts(document), document) if ":" not in pair[0].address]
    talks: list[Talk] = draw(st.lists(_talks(pairs), min_size=1, max_size=6))
    rounds = draw(st.lists(_rounds(changes(document), talks), min_size=1, max_size=4))
    return Story(document, [event for turn in rounds for event in turn])


@st.composite
def moving_stories(draw: st.DrawFn) -> Story:
    """Connections while instances, groups and load balancers come and go, and their packets afterwards (SPEC 5)."""
    document = draw(open_documents())
    pairs = [pair for pair in _pairs(hosts(document), document) if ":" not in pair[0].address]
    talks: list[Talk] = draw(st.lists(_talks(pairs), min_size=2, max_size=6))
    rounds = draw(st.lists(_rounds(items(document), talks), min_size=2, max_size=4))
    return Story(document, [event for turn in rounds for event in turn])


@st.composite
def quarantine_stories(draw: st.DrawFn) -> Story:
    """Connections into one instance from others, some of which come into the group that it denies (SPEC 5.4)."""
    document = draw(guarding_documents())
    (guarded, *others) = document["instances"]
    own = {address for other in others for address in other["addresses"]}
    pairs = [
        (client, server)
        for client, server in _pairs(hosts(document), document)
        if ":" not in client.address and client.address in own and server.address in guarded["addresses"]
    ]
    talks: list[Talk] = draw(st.lists(_talks(pairs), min_size=1, max_size=6))
    turns = st.one_of(*[joins(document)] * 3, changes(document))
    rounds = draw(st.lists(_rounds(turns, talks), min_size=1, max_size=3))
    return Story(document, [event for turn in rounds for event in turn])


@st.composite
def _talks(draw: st.DrawFn, pairs: Sequence[tuple[Host, Host]]) -> Talk:
    client, server = draw(st.sampled_from(pairs))
    talks: list[Talk] = [
        Segments(Flow(TCP, client, server, (1024, 22)), OPENING),
        Datagram(Flow(UDP, client, server, (1024, 22))),
        Query(client, server, 8, 7),
    ]
    return draw(st.sampled_from(talks))


@st.composite
def _rounds(
    draw: st.DrawFn, turns: st.SearchStrategy[tuple[dict[str, Any], bool]], talks: Sequence[Talk]
) -> list[Event]:
    """Openings, one or two changes, and packets of what was opened."""
    pauses = st.sampled_from(HOLD_PAUSES)
    events: list[Event] = [talk for talk in talks if draw(st.integers(0, 3))]
    for change, broken in draw(st.lists(turns, min_size=1, max_size=2)):
        events.append(Change(change, broken, wait_ns=draw(pauses)))
    events += [
        replace(draw(_again(talk)), wait_ns=draw(pauses), late_ns=0) for talk in talks if draw(st.integers(0, 3))
    ]
    return events


@st.composite
def tcp_stories(draw: st.DrawFn) -> Story:
    """One TCP conversation through open doors, with every segment that is out of place (SPEC 4.2, 4.4)."""
    rules: list[dict[str, Any]] = [{"id": "in", "direction": "ingress"}]
    if draw(st.booleans()):
        rules.append({"id": "out", "direction": "egress"})
    addresses = ["10.0.0.1", "10.0.0.2"][: draw(st.integers(1, 2))]
    document: Document = {
        "security_groups": [{"id": "sg-1", "security_group_rules": rules}],
        "instances": [
            {"id": f"ecs-{n}", "addresses": [address], "mac": mac(n), "security_groups": ["sg-1"]}
            for n, address in enumerate(addresses)
        ],
        "conntrack": {key: True for key in ("tcp_loose", "tcp_be_liberal") if draw(st.integers(0, 3)) == 3},
    }
    ends = [Host(CLIENTS[0]), *(Host(address, mac(n)) for n, address in enumerate(addresses))]
    client, server = draw(st.sampled_from(_pairs(ends, document)))
    # Now and then another flow on the same ends, whose client is the first one's server.
    flow, swapped = Flow(TCP, client, server, (1024, 22)), Flow(TCP, server, client, (22, 1024))
    segments = _segments(flow, 1) * 6 + _segments(swapped, 1)
    return Story(document, draw(_lists(_timed(st.sampled_from(segments)))))


@st.composite
def crowded_stories(draw: st.DrawFn) -> Story:
    """One instance that allows everything, a table of few entries, and more connections than fit (SPEC 4.9)."""
    open_rules = [{"id": f"{d}-all", "direction": d} for d in ("ingress", "egress")]
    here = Host("10.0.0.1", mac(0))
    document: Document = {
        "security_groups": [{"id": "sg-1", "security_group_rules": open_rules}],
        "instances": [{"id": "ecs-a", "addresses": [here.address], "mac": here.mac, "security_groups": ["sg-1"]}],
        "conntrack": {"max_entries": draw(st.integers(1, 4))},
    }
    return Story(document, draw(_lists(_timed(_crowd(here, Host(CLIENTS[0]))))))


def _crowd(here: Host, there: Host) -> st.SearchStrategy[Event]:
    events: list[Event] = []
    for client, server in ((here, there), (there, here)):
        for ports in [(one, two) for one in PORTS for two in PORTS]:
            events += [Datagram(Flow(UDP, client, server, ports), reply) for reply in (False, True)]
            tcp = Flow(TCP, client, server, ports)
            events += [Segments(tcp, steps) for steps in (OPENING[:1], OPENING[:2], *CLOSINGS, OPENING, OPENING)]
        events += [Query(client, server, 8, identifier, reply) for identifier in (7, 8) for reply in (None, 0)] * 5
    return st.sampled_from(events)


@st.composite
def _again(draw: st.DrawFn, event: Talk) -> Event:
    """Another packet of the same connection."""
    if isinstance(event, Segments):
        return replace(event, steps=[(draw(st.booleans()), draw(st.sampled_from(["data", "syn", "fin", "rst"])))])
    if isinstance(event, Query):
        return replace(event, reply=draw(st.sampled_from([None, 0])))
    return replace(event, reply=draw(st.booleans()))


@st.composite
def _flows(draw: st.DrawFn, pairs: Sequence[tuple[Host, Host]]) -> Flow:
    client, server = draw(st.sampled_from(pairs))
    protocol = draw(st.sampled_from(WITH_PORTS + PORTLESS))
    ports = (0, 0) if protocol in PORTLESS else draw(st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS)))
    return Flow(protocol, client, server, ports)


def _tcp_flows(pairs: Sequence[tuple[Host, Host]]) -> st.SearchStrategy[Flow]:
    ports = st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS))
    return st.builds(lambda pair, ports: Flow(TCP, pair[0], pair[1], ports), st.sampled_from(pairs), ports)


@st.composite
def _queries(draw: st.DrawFn, pairs: Sequence[tuple[Host, Host]]) -> tuple[Host, Host, int, int]:
    client, server = draw(st.sampled_from(pairs))
    kinds = QUERIES[6 if ":" in client.address else 4]
    return client, server, draw(st.sampled_from(sorted(kinds))), draw(st.sampled_from([7, 8]))


@st.composite
def _errors(draw: st.DrawFn, ends: Sequence[Host]) -> Error:
    back = draw(st.sampled_from([0, 0, 0, 1, 2, 3]))
    kind = draw(st.sampled_from([*["unreachable"] * 4, *ERROR_TYPES]))
    source = draw(st.sampled_from([None] * 8 + [Host("198.51.100.9"), Host("2001:db8:9::9")] * 2 + [*ends]))
    target = draw(st.sampled_from([None] * 12 + [Host("192.0.2.77"), *ends]))
    quoted = draw(st.sampled_from([100, 100, 100, 56, 22]))
    return Error(back, kind, source, target, quoted)


@st.composite
def _messages(draw: st.DrawFn, ends: Sequence[Host], document: Document) -> Message:
    """Control traffic, damaged packets and frames without IP."""
    macs = {instance["mac"] for instance in document["instances"]}
    inside = [host for host in ends if host.mac in macs]
    here = draw(st.sampled_from(inside))
    six = ":" in here.address
    there = Host("2001:db8::53" if six else "192.0.2.53")
    pair = (here, there) if draw(st.booleans()) else (there, here)
    vlan = draw(st.sampled_from([0, 0, 5]))
    kinds = [
        "dhcp",
        "announcement",
        "announcement",
        "redundancy",
        "cut tcp",
        "bad offset",
        "cut udp",
        "bad checksum",
        "no ip",
    ] + (["neighbour discovery"] * 4 if six else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "no ip":
        return Message(*pair, None, bytes(46), vlan=vlan)
    if kind == "announcement":
        return draw(_announcements(pair, [*sorted(macs), *VIRTUAL_MACS], vlan))
    if kind == "redundancy":
        return draw(_redundancy(here, [*sorted(macs), *VIRTUAL_MACS], vlan))
    if kind == "neighbour discovery":
        message = draw(st.sampled_from([133, 134, 135, 136, 137, 130, 131, 132, 143]))
        rest = bytes({133: 4, 134: 12, 135: 4, 136: 4, 137: 4}.get(message, 20))
        if message in (135, 136, 137):
            rest += frames.packed("fd00::77") * (2 if message == 137 else 1)
        rest += draw(
            st.sampled_from([b"", b"", b"\x01\x01\x02\0\0\0\0\1", b"\x01\x02\x02\0\0\0\0\1", b"\x01\0" + bytes(6)])
        )
        rest += draw(
            st.sampled_from([b"", b"", b"", b"\x0e\1" + bytes(6), b"\xc8\1" + bytes(6), b"\x0d\x09" + bytes(70)])
        )
        if message == 143:
            records = [b"", b"\4\0\0\0" + frames.packed("ff02::fb"), b"\4\1\0\0" + frames.packed("ff02::fb") + bytes(4)]
            record = draw(st.sampled_from(records))
            rest = struct.pack("!HH", 0, draw(st.sampled_from([0, 1, 1, 1]))) + record
        elif message in (130, 131, 132):
            group = frames.packed(draw(st.sampled_from(["ff02::fb", "ff02::fb", "::", "fd00::1"])))
            rest = bytes(4) + group + draw(st.sampled_from([b"", b"", bytes(4), bytes(20)]))
        ends = list(pair)
        if message in (130, 131, 132, 134, 137, 143):
            ends[0] = draw(st.sampled_from([pair[0], Host("fe80::1", pair[0].mac), Host("::", pair[0].mac)]))
        if draw(st.booleans()):
            ends[1] = Host(draw(st.sampled_from(["ff02::1", "ff02::2", "fe80::9", "ff02::1:ff00:77"])), pair[1].mac)
        body = frames.icmp(ends[0].address, ends[1].address, message, draw(st.sampled_from([0, 0, 0, 1])), rest)
        right = 1 if message in (130, 131, 132, 143) else 255
        return Message(*ends, 58, body, draw(st.sampled_from([right, right, right, 64])), vlan=vlan)
    if kind == "dhcp":
        client, server = (546, 547) if six else (68, 67)
        ports = (client, server) if pair[0] is here else (server, client)
        ports = draw(st.sampled_from([ports, ports, ports, ports[::-1], (1024, client)]))
        request = draw(st.sampled_from([pair[0] is here] * 4 + [pair[0] is not here]))
        body = bytes([1 if request else 7, 0, 0, 1]) if six else _bootp(request)
        body += draw(st.sampled_from([b""] * 4 + [b"\0\1\0\1x", b"\0\1\0\7x", b"\0\1"]))
        body = draw(st.sampled_from([body] * 4 + [b"no DHCP" * 40]))
        ends = list(pair)
        if pair[0] is here and draw(st.booleans()):
            ends[1] = Host("ff02::1:2" if six else "255.255.255.255", there.mac)
        if pair[0] is here and draw(st.sampled_from([False] * 4 + [True])):
            ends[0] = Host("fe80::77" if six else "0.0.0.0", here.mac)
        datagram = frames.datagram(ends[0].address, ends[1].address, UDP, ports, body)
        return Message(*ends, UDP, datagram, vlan=vlan)
    segment = frames.tcp(pair[0].address, pair[1].address, (1024, 22), 2, 1000, 0)
    if kind == "cut tcp":
        return Message(*pair, TCP, segment[:12], vlan=vlan)
    if kind == "bad offset":
        offset = draw(st.sampled_from([4, 6]))
        return Message(*pair, TCP, segment[:12] + bytes([offset << 4]) + segment[13:], vlan=vlan)
    if kind == "bad checksum":
        protocol = draw(st.sampled_from(WITH_PORTS))
        datagram = frames.datagram(pair[0].address, pair[1].address, protocol, (1024, 22), b"four")
        at = 8 if protocol == SCTP else 6
        return Message(*pair, protocol, datagram[:at] + bytes([datagram[at] ^ 1]) + datagram[at + 1 :], vlan=vlan)
    return Message(*pair, UDP, struct.pack("!HH", 1024, 22), vlan=vlan)


@st.composite
def _announcements(draw: st.DrawFn, pair: tuple[Host, Host], macs: Sequence[str], vlan: int) -> Message:
    """Who has an address, by ARP or a neighbour advertisement, in a frame of an instance or of somebody else."""
    one, two = (Host(host.address, draw(st.sampled_from([host.mac, *macs]))) for host in pair)
    hardware = bytes.fromhex(draw(st.sampled_from([one.mac, *macs])).replace(":", ""))
    if ":" in one.address:
        target = draw(st.sampled_from([one.address, "fd00::1", "fd00::77"]))
        option = draw(st.sampled_from([b"", b"\2\1" + hardware, b"\2\0" + hardware]))
        body = frames.icmp(one.address, two.address, 136, 0, bytes(4) + frames.packed(target) + option)
        return Message(one, two, 58, body, 255, vlan=vlan)
    sender = draw(st.sampled_from([one.address, VIRTUAL_IP, "10.0.0.1"]))
    target = draw(st.sampled_from([sender, two.address]))
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, draw(st.sampled_from([1, 2, 1, 2, 3])))
    body = head + hardware + frames.packed(sender) + bytes(6) + frames.packed(target)
    body += bytes(draw(st.sampled_from([0, 0, 18, 22, 23])))
    return Message(one, two, None, body, ethertype=0x0806, vlan=vlan)


@st.composite
def _redundancy(draw: st.DrawFn, here: Host, macs: Sequence[str], vlan: int) -> Message:
    """An advertisement of VRRP or CARP, or what looks like one, from an instance's address by its MAC or another."""
    six = ":" in here.address
    sender = Host(here.address, draw(st.sampled_from([here.mac, *macs])))
    group = Host("ff02::12" if six else "224.0.0.18", "01:00:5e:00:00:12")
    first = draw(st.sampled_from([0x31, 0x31, 0x21, 0x32]))
    if draw(st.integers(0, 3)) == 3:
        body = bytes([0x21, 7, draw(st.sampled_from([0, 100, 255])), 7, 0, draw(st.sampled_from([1, 255]))]) + bytes(30)
    else:
        listed = ["fd00::1", "fd00::77"] if six else [VIRTUAL_IP, "10.0.0.1", "10.0.0.97"]
        said = draw(st.lists(st.sampled_from(listed), max_size=3))
        body = bytes([first, 7, draw(st.sampled_from([0, 100, 255])), draw(st.sampled_from([len(said)] * 3 + [9]))])
        body += bytes(4) + b"".join(map(frames.packed, said)) + bytes(draw(st.sampled_from([0, 2, 8])))
    return Message(sender, group, 112, body[: draw(st.sampled_from([999, 999, 999, 6]))], 255, vlan=vlan)


@st.composite
def shared_stories(draw: st.DrawFn) -> Story:
    """Who has a virtual IP that two instances may hold: what they say of it, send from it, and whom it reaches."""
    rules: list[dict[str, Any]] = [{"id": "in", "direction": "ingress"}, {"id": "in6", "direction": "ingress"}]
    rules[1]["ethertype"] = "IPv6"
    for family in ("IPv4", "IPv6"):
        for protocol in draw(st.sampled_from([(None,), (None,), ("udp",), (112,), ()])):
            rule = {"id": f"{family}-{protocol}", "direction": "egress", "ethertype": family, "protocol": protocol}
            rules.append(rule)
    instances = []
    for n, name in enumerate(("a", "b", "c")):
        shared = [
            VIRTUAL_IP,
            {"ip": VIRTUAL_IP, "mac": VIRTUAL_MACS[0]},
            {"ip": "10.0.0.96/28", "mac": VIRTUAL_MACS[1]},
        ]
        pair = [
            draw(st.sampled_from(shared)),
            draw(st.sampled_from(["fd00::77", {"ip": "fd00::77", "mac": VIRTUAL_MACS[0]}])),
        ]
        instance: dict[str, Any] = {"id": name, "addresses": [f"10.0.0.{n + 1}", f"fd00::{n + 1}"], "mac": mac(n)}
        instances.append(instance | {"security_groups": ["sg"], "allowed_address_pairs": pair if n < 2 else []})
    ends = [Host(address, instance["mac"]) for instance in instances for address in instance["addresses"]]
    macs = [*(instance["mac"] for instance in instances), *VIRTUAL_MACS, "02:00:00:00:ff:01"]
    events: list[Event] = []
    for _ in range(draw(st.integers(2, 12))):
        here, router = draw(st.sampled_from(ends)), Host("2001:db8::1", macs[-1])
        virtual = Host("fd00::77", draw(st.sampled_from(macs)))
        if ":" not in here.address:
            router, virtual = Host(CLIENTS[0], macs[-1]), Host(VIRTUAL_IP, virtual.mac)
        said = draw(st.sampled_from(["announcement", "redundancy", "talk"]))
        if said == "announcement":
            events.append(draw(_announcements((here, router), macs, 0)))
        elif said == "redundancy":
            events.append(draw(_redundancy(here, macs, 0)))
        else:
            events.append(Datagram(Flow(17, virtual, router, (4000, draw(st.sampled_from([22, 80]))))))
        events.append(Datagram(Flow(17, router, Host(virtual.address, "02:00:00:00:ff:02"), (53, 22))))
    return Story({"security_groups": [{"id": "sg", "security_group_rules": rules}], "instances": instances}, events)


def _bootp(request: bool) -> bytes:
    """A BOOTP message with the DHCP cookie and one option, the message type (RFC 2131)."""
    head = bytes([1 if request else 2, 1, 6, 0]) + bytes(232)
    return head + b"\x63\x82\x53\x63" + bytes([53, 1, 3 if request else 5, 255])
