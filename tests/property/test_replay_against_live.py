"""What was recorded live and is replayed under the same policy gets the same verdict, frame by frame (SPEC 7, "At a
port").

The live side is a firewall whose ports are socket pairs: its own worker, switch and feed, and the capture that
`dataplane ctl capture` writes, for random frames of every kind. Frames that waited for the first of their datagram have
no verdict in a live capture; where a replay says one, it is held against what the firewall did with the frame.
"""

from __future__ import annotations

import os
import socket
import struct
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataplane import Policy, Verdict
from dataplane.live.capture import Capture
from dataplane.live.feed import Feed
from dataplane.live.firewall import Firewall
from dataplane.live.interfaces.port import Port
from dataplane.plane import Plane
from dataplane.replay import Captures, Replay
from dataplane.verdict import verdict_of

from .frames import datagram, error, ethernet, icmp, packed, packet, query, tcp

EXAMPLES = {"long": 3000}.get(os.environ.get("DATAPLANE_PROPERTIES", "quick"), 100)

#: `c` has no MAC in the policy, `d` no port security, `e` a DHCP server; the uplink eth1 is on the command line only.
POLICY = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: web, direction: ingress, protocol: tcp, multiport: "80,443"}
      - {id: members, direction: ingress, protocol: udp, remote_group_id: sg}
      - {id: no-dns, direction: egress, protocol: udp, multiport: "53", action: deny}
      - {id: out, direction: egress}
      - {id: out6, direction: egress, ethertype: IPv6}
      - {id: ping6, direction: ingress, ethertype: IPv6, protocol: icmpv6}
  - id: shut
    security_group_rules:
      - {id: ping, direction: ingress, protocol: icmp}
      - {id: all-udp, direction: ingress, protocol: udp}
      - {id: some, direction: egress, protocol: tcp}
instances:
  - {id: a, addresses: [10.0.0.1, "fd00::1"], mac: "02:00:00:00:00:01", security_groups: [sg], interface: tap-a,
     allowed_address_pairs: [{ip: 10.0.0.50, mac: "00:00:5e:00:01:07"}, 10.0.0.60]}
  - {id: b, addresses: [10.0.0.2, "fd00::2"], mac: "02:00:00:00:00:02", security_groups: [shut, sg], interface: tap-b,
     allowed_address_pairs: [{ip: 10.0.0.50, mac: "00:00:5e:00:01:07"}, 10.0.0.60]}
  - {id: c, addresses: [10.0.0.3], security_groups: [sg], interface: tap-c}
  - {id: d, addresses: [10.0.0.4], mac: "02:00:00:00:00:04", security_groups: [shut], interface: tap-d,
     port_security_enabled: false}
  - {id: e, addresses: [10.0.0.5], mac: "02:00:00:00:00:05", security_groups: [sg, shut], interface: tap-e,
     dhcp_server: true}
load_balancers:
  - {id: elb, addresses: [10.0.0.100], mac: "02:00:00:00:00:64", backends: [a, c], transfer_client_ip: true,
     interface: elb0}
uplinks: [{interface: eth0}]
conntrack: {max_entries: 4096}
"""
PORTS = ("tap-a", "tap-b", "tap-c", "tap-d", "tap-e", "elb0", "eth0", "eth1")
#: The MAC of who is behind each port, then some that are nobody's, a virtual one, and a group's.
OWN = [*(f"02:00:00:00:00:{n:02x}" for n in (1, 2, 3, 4, 5, 0x64)), "02:00:00:00:09:01", "02:00:00:00:09:02"]
STRANGE, VIRTUAL, GROUP = "02:00:00:00:77:77", "00:00:5e:00:01:07", "01:00:5e:00:00:01"
BROADCAST = "ff:ff:ff:ff:ff:ff"
SOURCES = [*OWN, STRANGE, VIRTUAL, GROUP]
DESTINATIONS = [*OWN, STRANGE, VIRTUAL, BROADCAST, BROADCAST, GROUP, "33:33:00:00:00:01"]
FOUR = [*(f"10.0.0.{n}" for n in (1, 2, 3, 4, 5, 100, 9, 10)), "10.0.0.50", "10.0.0.60", "0.0.0.0", "255.255.255.255"]
SIX = ["fd00::1", "fd00::2", "fe80::ff:fe00:1", "fe80::ff:fe00:2", "fd00::9", "fe80::9", "ff02::1", "::"]


def _vnet_header(kind: int, frame: bytes) -> bytes:
    """A virtio-net header: of nothing (0), of a checksum to be completed (1), of one that was found right (2).

    A checksum can be completed at its own place only; where a frame has none, it is as found right.
    """
    if kind != 1:
        return bytes([kind]) + bytes(9)
    is_whole = len(frame) >= 34 and frame[20:22] in (b"\0\0", b"\x40\0")
    if frame[12:14] == b"\x08\0" and is_whole and frame[23] in (6, 17):
        start, offset = 14 + (frame[14] & 15) * 4, 16 if frame[23] == 6 else 6
        if start >= 34 and len(frame) >= start + 20:
            return struct.pack("<BBHHHH", 1, 0, 0, 0, start, offset)
    return bytes([2]) + bytes(9)


class Step(NamedTuple):
    """A frame that comes by a port: what is in it are numbers, small ones for what is plain."""

    port: int
    kind: int
    source_mac: int  # 0: that of who is behind the port
    destination_mac: int
    source: int  # 0: the address of who is behind the port
    destination: int  # 0: the address of who has the MAC
    variant: int
    vlan: int
    header: int
    together: bool  # with the next one, if that comes by the same port
    answered: bool = False

    @property
    def answer(self) -> Step:
        """The same back, by the port of whom it was for; a SYN is acknowledged."""
        variant = self.variant + 2 if self.variant % 8 < 2 else self.variant
        return self._replace(
            port=self.destination_mac % len(PORTS),
            destination_mac=self.port,
            source=0,
            destination=0,
            source_mac=0,
            variant=variant,
            answered=False,
        )


def of(choices: list[str], number: int) -> str:
    return choices[number % len(choices)]


def transport(step: Step, source: str, destination: str) -> tuple[int, bytes]:
    """A protocol and what it carries, by the step's kind and variant."""
    ports = (4000, (80, 53, 22)[step.variant // 8 % 3])
    # Who is nearer to the first port is the server.
    ports = ports if step.port > step.destination_mac % len(PORTS) else ports[::-1]
    match step.kind % 8:
        case 0:
            flags = (2, 2, 0x12, 0x12, 0x10, 0x18, 0x11, 4)[step.variant % 8]
            return 6, tcp(source, destination, ports, flags, 1 + (flags != 2), flags & 0x10 and 2, b"x" * (flags == 24))
        case 1:
            return 17, datagram(source, destination, 17, ports, b"data")
        case 2:
            echo = (8, 0) if ":" not in source else (128, 129)
            return (1 if ":" not in source else 58), query(source, destination, echo[step.variant % 2], 7)
        case 3:
            quoted = packet(destination, source, 17, datagram(destination, source, 17, ports[::-1], b"data"))
            unreachable = (3, 1) if ":" not in source else (1, 4)
            return (1 if ":" not in source else 58), error(source, destination, *unreachable, quoted)
        case 4:
            request = step.variant % 2 == 0
            body = bytes([1 if request else 2, 1, 6, 0, 1, 2, 3, 4]) + bytes(228) + b"\x63\x82\x53\x63\x35\x01\x01\xff"
            return 17, datagram(source, destination, 17, (68, 67) if request else (67, 68), body)
        case 5:
            target = packed(of(SIX, step.variant)) if step.variant % 2 else packed("fd00::1")
            neighbour = 135 + step.variant % 3 // 2
            return 58, icmp(source if ":" in source else "fd00::9", "ff02::1", neighbour, 0, bytes(4) + target)
        case 6:
            return 112, b"\x21\x07\x64\x01" + bytes(8)
        case _:
            return (47, 50, 132, 4)[step.variant % 4], b"\0" * 12


def ends(step: Step, family: list[str]) -> tuple[str, str]:
    source = of(family, step.port % len(PORTS) if step.source == 0 else step.source)
    return source, of(family, step.destination_mac if step.destination == 0 else step.destination)


def ip(step: Step) -> bytes:
    family = SIX if step.kind % 8 == 5 or step.vlan == 4 else FOUR
    source, destination = ends(step, family)
    protocol, body = transport(step, source, destination)
    hop_limit = 255 if protocol in (58, 112) else 64
    whole = packet(source, destination, protocol, body, hop_limit)
    if step.kind < 24 or family is SIX:
        return whole
    if step.kind < 32:
        return whole[: 10 + step.variant]  # cut: its headers lie
    if step.kind < 40:
        return whole[:-1] + bytes([whole[-1] ^ 1])  # a wrong checksum
    # One of three fragments of a UDP datagram, or one that overlaps them.
    body = datagram(source, destination, 17, (4000, 53 if step.variant & 8 else 5000), bytes(range(64)))
    start, end, more = ((0, 32, 1), (32, 64, 1), (64, 72, 0), (24, 40, 1))[step.variant % 4]
    piece = bytearray(packet(source, destination, 17, body[start:end]))
    struct.pack_into("!HH", piece, 4, 1 + (step.variant >> 2 & 1), start // 8 | more << 13)
    piece[10:12] = bytes(2)
    total = sum(struct.unpack("!10H", piece[:20]))
    struct.pack_into("!H", piece, 10, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
    return bytes(piece)


def frame_of(step: Step) -> bytes:
    port = step.port % len(PORTS)
    source = OWN[port] if step.source_mac == 0 else of(SOURCES, step.source_mac)
    destination = of(DESTINATIONS, step.destination_mac)
    vlan = step.vlan if step.vlan < 3 else 0
    if step.kind < 48:
        return ethernet(source, destination, ip(step), vlan=vlan)
    if step.kind < 56:
        sender, target = ends(step, FOUR)
        named = source if step.variant % 4 else of(SOURCES, step.variant)
        addresses = bytes.fromhex(named.replace(":", "")) + packed(sender) + bytes(6) + packed(target)
        reverse = step.variant % 8 == 7
        head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, (3 if reverse else 1) + (step.variant >> 1 & 1) * (not reverse))
        if reverse:
            addresses = 2 * bytes.fromhex(source.replace(":", "")) + bytes(8)
        return ethernet(source, destination, head + addresses, 0x8035 if reverse else 0x0806, vlan)
    return ethernet(source, destination, bytes(46), (0x88CC, 0x8863, 0x0027, 0x0800)[step.variant % 4], vlan)


STEPS = st.builds(
    Step,
    port=st.sampled_from([0, 0, 1, 1, 2, 3, 4, 5, 6, 6, 7]),
    kind=st.sampled_from([*[0] * 20, *[1] * 8, *[40] * 8, *range(60)]),
    source_mac=st.sampled_from([*[0] * 20, *range(len(SOURCES))]),
    destination_mac=st.sampled_from([0, 0, 1, 1, 2, 2, 6, 6, *range(len(DESTINATIONS))]),
    source=st.sampled_from([*[0] * 12, *range(12)]),
    destination=st.sampled_from([*[0] * 12, *range(12)]),
    variant=st.integers(0, 31),
    vlan=st.integers(0, 7),
    header=st.sampled_from([0, 0, 0, 1, 2]),
    together=st.booleans(),
    answered=st.booleans(),
)


class Told(Capture):
    """A capture that also keeps what each item says, and by which port it came or went."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.told: list[tuple[bool, Verdict]] = []

    def convert(self, item: Any) -> bytes:
        """As a capture does."""
        self.told.append((bool(item.sent), verdict_of(item.record, self._firewall.names)))
        return super().convert(item)


class Live:
    """A firewall between socket pairs, one for each port."""

    def __init__(self) -> None:
        self.policy = Policy.parse(POLICY)
        self.firewall = Firewall(self.policy, io_uring=False, seed=1)
        self.ends: list[socket.socket] = []
        instances = {instance.interface: instance for instance in self.policy.instances}
        balancers = {balancer.interface: balancer for balancer in self.policy.load_balancers}
        self._theirs: list[socket.socket] = []
        for name in PORTS:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            theirs.setblocking(False)
            self.ends.append(ours)
            self._theirs.append(theirs)
            fds = (theirs.fileno(),)
            self.firewall.add_port(Port(name, "tap", fds, False, instances.get(name), balancers.get(name)))
        self.feed = Feed(self.firewall)
        self.capture = Told(self.firewall, lambda: None)
        self.feed.subscribe(self.capture)
        self.firewall.start()

    def receive(self, steps: list[Step]) -> None:
        """Sends frames to the firewall, and takes what it tells of them and sends on."""
        for received, step in enumerate(steps, 1):
            frame = frame_of(step)
            self.ends[step.port].send(_vnet_header(step.header, frame) + frame)
            following = steps[received : received + 1]
            if not step.together or not following or following[0].port != step.port:
                self._wait_for(received)
        # What a burst sends on is told after what it received.
        self.firewall.stop()
        while self.feed.pump():
            continue
        assert not self.capture.lost

    def _wait_for(self, received: int) -> None:
        end = time.monotonic() + 60
        while sum(not sent for sent, _ in self.capture.told) < received:
            assert time.monotonic() < end, "a frame was not told of"
            self.feed.pump()
        for end_of_port in self.ends:
            try:
                while end_of_port.recv(1 << 17):
                    continue
            except BlockingIOError:
                continue

    def close(self) -> None:
        """Ends the workers, and closes all."""
        self.firewall.stop()
        for end in (*self.ends, *self._theirs):
            end.close()


def replayed(policy: Policy, capture: bytes, at: str | None = None) -> list[Verdict]:
    """The verdicts of a replay of a capture."""
    found: list[Verdict] = []
    engine = Plane(policy, seed=2)

    def keep(records: Any, flows: Any, seen: Any, n: int) -> None:
        found.extend(verdict_of(records[i], engine.names) for i in range(n))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "live.pcapng"
        path.write_bytes(capture)
        with Captures([path]) as captures:
            summary = Replay(engine, captures, at=at, write=keep).run()
    assert not summary.faults
    return found


def plain(**fields: int) -> Step:
    return Step(**{**dict.fromkeys(Step._fields, 0), **fields})  # type: ignore[arg-type]


@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < 1000)
@given(st.lists(STEPS, min_size=1, max_size=80))
@example([plain(destination_mac=1, variant=8), plain(kind=48, variant=7, destination_mac=10)])
@example([plain(kind=1, destination_mac=2, answered=True)])
def test_a_live_capture_gets_the_same_verdicts(steps: list[Step]) -> None:
    """SPEC 7: frames that entered by a port get the verdict, checks, reason, cause and rule that they got live; copies
    that left by one are `bypass`."""
    live = Live()
    try:
        live.receive([one for step in steps for one in ((step, step.answer) if step.answered else (step,))])
        verdicts = replayed(live.policy, live.capture.take() + live.capture.ending())
        assert len(verdicts) == len(live.capture.told)
        for (sent, was), now in zip(live.capture.told, verdicts, strict=True):
            if sent:
                assert (now.verdict, now.checks) == ("bypass", ())
            elif was.verdict == "waiting":
                assert now.verdict in ("allow", "deny", "bypass")
            else:
                assert (now.verdict, now.checks) == (was.verdict, was.checks)
    finally:
        live.close()
