"""ICMP and ICMPv6 (SPEC 4.5): queries by identifier, errors by the packet that they quote."""

from __future__ import annotations

import pytest

from dataplane import DataPlane, Policy
from tests.property.frames import datagram, error, ethernet, icmp, packet, query, tcp

HOST, HOST6, PEER, PEER6 = "10.0.0.1", "fd00::1", "192.0.2.9", "2001:db8::9"
ROUTER, ROUTER6 = "198.51.100.1", "2001:db8:ffff::1"
POLICY = f"""
security_groups:
  - id: sg
    security_group_rules:
      - {{id: web, direction: ingress, protocol: tcp, multiport: "80"}}
      - {{id: web6, direction: ingress, ethertype: IPv6, protocol: tcp, multiport: "80"}}
      - {{id: out, direction: egress}}
      - {{id: out6, direction: egress, ethertype: IPv6}}
instances: [{{id: host, addresses: [{HOST}, "{HOST6}"], security_groups: [sg]}}]
"""


@pytest.fixture
def firewall() -> DataPlane:
    return DataPlane(Policy.parse(POLICY), seed=1)


def said(firewall: DataPlane, ip: bytes, time: float = 1) -> str:
    """The reason of the only check."""
    (check,) = firewall.process(ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", ip), time=time).checks
    return check.reason


def ends(six: bool, back: bool = False) -> tuple[str, str]:
    """The host and its peer, or the other way round."""
    pair = (HOST6, PEER6) if six else (HOST, PEER)
    return pair[::-1] if back else pair


def ask(six: bool, kind: int, identifier: int = 7, back: bool = False) -> bytes:
    pair = ends(six, back)
    return packet(*pair, 58 if six else 1, query(*pair, kind, identifier))


def report(kind: int, code: int, quoted: bytes, source: str, destination: str, size: int = 1000) -> bytes:
    body = error(source, destination, kind, code, quoted[:size])
    return packet(source, destination, 58 if ":" in source else 1, body)


def segment(six: bool, flags: int, seq: int, ack: int, back: bool = False, length: int = 0) -> bytes:
    """A segment of the peer's connection to port 80; `back` is the host's."""
    pair, ports = ends(six, not back), (80, 4000) if back else (4000, 80)
    return packet(*pair, 6, tcp(*pair, ports, flags, seq, ack, bytes(length)))


def establish(firewall: DataPlane, six: bool) -> None:
    steps = [segment(six, 2, 100, 0), segment(six, 18, 900, 101, back=True), segment(six, 16, 101, 901)]
    assert [said(firewall, step) for step in steps] == ["rule", "connection", "connection"]


@pytest.mark.parametrize(
    ("six", "kind", "reply"),
    [(False, 8, 0), (False, 13, 14), (False, 15, 16), (False, 17, 18), (True, 128, 129)],
    ids=["echo", "timestamp", "information", "mask", "ICMPv6 echo"],
)
def test_a_query_and_its_reply(firewall: DataPlane, six: bool, kind: int, reply: int) -> None:
    """SPEC 4.5: by type and identifier; a reply nobody asked for is invalid, as is the peer's own query here."""
    assert said(firewall, ask(six, reply, back=True)) == "invalid"
    assert said(firewall, ask(six, kind)) == "rule"
    assert said(firewall, ask(six, reply, back=True)) == "connection"
    assert said(firewall, ask(six, reply, identifier=8, back=True)) == "invalid"
    assert said(firewall, ask(six, kind, back=True)) == "no-rule-matched"
    assert said(firewall, ask(six, reply)) == "invalid"
    assert said(firewall, ask(six, reply, back=True), 30.999) == "connection"
    assert said(firewall, ask(six, reply, back=True), 61) == "invalid"


ERRORS = [
    (False, 3, 1),
    (False, 3, 4),
    (False, 4, 0),
    (False, 11, 0),
    (False, 12, 0),
    (True, 1, 4),
    (True, 2, 0),
    (True, 3, 0),
    (True, 4, 1),
]


@pytest.mark.parametrize(("six", "kind", "code"), ERRORS)
def test_an_error_is_related_from_any_router(firewall: DataPlane, six: bool, kind: int, code: int) -> None:
    """SPEC 4.5: by the quoted packet, of which 8 bytes of transport are enough; it refreshes nothing."""
    establish(firewall, six)
    host, peer = ends(six)
    header = 40 if six else 20
    sent = segment(six, 16, 901, 101, back=True)
    for source in (ROUTER6 if six else ROUTER, peer):
        assert said(firewall, report(kind, code, sent, source, host), 600) == "related"
    assert said(firewall, report(kind, code, sent, source, host, header + 8), 600) == "related"
    assert said(firewall, report(kind, code, sent, source, host, header + 7), 600) == "invalid"
    assert said(firewall, report(kind, code, segment(six, 16, 101, 901), host, peer), 600) == "related"
    assert said(firewall, report(kind, code, sent, source, host), 601) == "invalid"


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_forged_and_reversed_quotes_are_invalid(firewall: DataPlane, six: bool) -> None:
    """SPEC 4.5: the quote must be of a packet that went the other way, from the error's destination."""
    establish(firewall, six)
    host, _ = ends(six)
    router, kind = (ROUTER6, 1) if six else (ROUTER, 3)
    pair = ends(six)
    forged = {
        "reversed": segment(six, 16, 101, 901),
        "another port": packet(*pair, 6, tcp(*pair, (80, 4001), 16, 901, 101)),
        "another protocol": packet(*pair, 17, datagram(*pair, 17, (80, 4000))),
        "another peer": packet(host, router, 6, tcp(host, router, (80, 4000), 16, 901, 101)),
        "an error": packet(*pair, 58 if six else 1, icmp(*pair, kind, 0, bytes(36))),
    }
    for name, quoted in forged.items():
        assert said(firewall, report(kind, 3, quoted, router, host)) == "invalid", name
    mixed = packet(*ends(not six), 6, tcp(*ends(not six), (80, 4000), 16, 901, 101))
    assert said(firewall, report(kind, 3, mixed, router, host)) == "invalid"
    assert said(firewall, report(kind, 3, segment(six, 16, 901, 101, back=True), router, host)) == "related"


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_the_quoted_sequence_number_does_not_matter(firewall: DataPlane, six: bool) -> None:
    """SPEC 4.5: an error passes exactly when the quoted packet belongs to a live connection and fits its direction."""
    establish(firewall, six)
    host, _ = ends(six)
    router, kind = (ROUTER6, 1) if six else (ROUTER, 3)
    at = 901
    for _ in range(20):
        assert said(firewall, segment(six, 24, at, 101, back=True, length=1000)) == "connection"
        at += 1000
        assert said(firewall, segment(six, 16, 101, at)) == "connection"
    for seq in (0, 901, at, at + 65_000, at + 70_000, 1 << 31):
        quoted = segment(six, 16, seq, 101, back=True)
        assert said(firewall, report(kind, 3, quoted, router, host)) == "related", seq
    assert said(firewall, segment(six, 24, at, 101, back=True, length=1000)) == "connection"


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_a_packet_too_big_for_a_live_connection_always_passes(firewall: DataPlane, six: bool) -> None:
    """SPEC 4.5: no path-MTU black hole: for any segment of a window that is under way, of TCP, UDP and echo."""
    establish(firewall, six)
    host, peer = ends(six)
    router, kind, code = (ROUTER6, 2, 0) if six else (ROUTER, 3, 4)
    window = [segment(six, 16, 901 + 1460 * n, 101, back=True, length=1460) for n in range(40)]
    assert {said(firewall, one) for one in window} == {"connection"}
    for one in window:
        assert said(firewall, report(kind, code, one, router, host, 500)) == "related"
    for sent in (
        packet(host, peer, 17, datagram(host, peer, 17, (5000, 53), bytes(1500))),
        ask(six, 128 if six else 8),
    ):
        assert said(firewall, sent) == "rule"
        assert said(firewall, report(kind, code, sent, router, host, 500)) == "related"


@pytest.mark.parametrize(("six", "kind"), [(False, 5), (False, 9), (False, 10), (True, 138), (True, 200)])
def test_what_is_neither_query_nor_error_nor_control_is_invalid(firewall: DataPlane, six: bool, kind: int) -> None:
    """SPEC 4.5: redirects of IPv4 are not among the errors that pass."""
    establish(firewall, six)
    host, peer = ends(six)
    assert said(firewall, report(kind, 0, segment(six, 16, 901, 101, back=True), peer, host)) == "invalid"
