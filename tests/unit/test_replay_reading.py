"""What of captures is read, with which addresses, and what of it is written: `--time`, `--map`, `--filter` (SPEC 7)."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6ND_NS, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vrrp import VRRPv3
from scapy.packet import Packet, Raw

from dataplane import DataPlane, Policy
from dataplane.replay.chosen import Chosen, FilterError
from dataplane.replay.window import Mapping, Window, WindowError, read_mappings

POLICY = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: ssh, direction: ingress, protocol: tcp, multiport: "22", remote_ip_prefix: 10.0.0.0/24}
      - {id: ssh6, ethertype: IPv6, direction: ingress, protocol: tcp, multiport: "22", remote_ip_prefix: "fd01::/64"}
      - {id: dns, direction: ingress, protocol: udp, multiport: "53", remote_ip_prefix: 10.0.0.0/24}
      - {id: out, direction: egress}
      - {id: out6, direction: egress, ethertype: IPv6}
instances:
  - {id: a, addresses: [192.168.7.10, "fd00::10"], mac: "02:00:00:00:00:0a", security_groups: [sg]}
  - {id: b, addresses: [192.168.7.11, "fd00::11"], allowed_address_pairs: [192.168.7.99], security_groups: [sg]}
conntrack: {verify_checksums: true}
"""
START = 1_700_000_000


def pcap(path: Path, frames: Sequence[Packet | bytes], times: Sequence[float] | None = None) -> Path:
    """A pcap of frames a second apart, or at these seconds."""
    data = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
    for number, frame in enumerate(frames):
        raw, at = bytes(frame), times[number] if times else number
        data += struct.pack("<IIII", START + int(at), round(at % 1 * 1e9), len(raw), len(raw)) + raw
    path.write_bytes(data)
    return path


def records(path: Path, **options: Any) -> list[dict[str, Any]]:
    """The records of a replay of a capture."""
    out = path.with_suffix(".jsonl")
    DataPlane(Policy.parse(POLICY)).replay(path, verdicts=out, **options)
    return [json.loads(line) for line in out.read_text().splitlines()]


# ---- time ----


def syn(port: int, source: str = "10.0.0.5") -> Packet:
    return Ether() / IP(src=source, dst="192.168.7.10") / TCP(sport=port, dport=22, flags="S")


TIMES = (0, 1, 2.5, 2.25, 4, 10)


@pytest.mark.parametrize(
    ("window", "inside"),
    [
        ("0..", range(6)),
        ("1..4", (1, 2, 3)),
        ("..2.5", (0, 1, 3)),
        ("2.5..", (2, 4, 5)),
        ("4..4.000000001", (4,)),
        ("2023-11-14T22:13:21Z..2023-11-14T22:13:24Z", (1, 2, 3)),
        ("1..2023-11-14T23:13:24+01:00", (1, 2, 3)),
        ("11..", ()),
    ],
)
@pytest.mark.parametrize("captures", [1, 40])
def test_packets_outside_of_the_time_are_as_if_they_were_not_there(
    window: str, inside: Sequence[int], captures: int, tmp_path: Path
) -> None:
    """As a capture that was cut so before; only `capture_packet` counts all. Also of more captures than are open."""
    frames = [syn(4000 + number) for number in range(6)]
    whole = pcap(tmp_path / "whole.pcap", frames, TIMES)
    cut = pcap(tmp_path / "cut.pcap", [frames[i] for i in inside], [TIMES[i] for i in inside])
    found = records(whole, time=window)
    assert [record.pop("capture_packet") for record in found] == [i + 1 for i in inside]
    expected = records(cut)
    for record in (*found, *expected):
        record.pop("capture"), record.pop("capture_packet", None)
    assert found == expected
    if captures > 1:
        paths = [pcap(tmp_path / f"{n}.pcap", frames, TIMES) for n in range(captures)]
        summary = DataPlane(Policy.parse(POLICY)).replay(*paths, time=window)
        assert summary.packets == captures * len(inside)


def test_changes_count_from_the_first_packet_that_is_read(tmp_path: Path) -> None:
    from dataplane.policy.schedule import load_changes

    path = pcap(tmp_path / "c.pcap", [syn(4000 + n) for n in range(6)])
    (tmp_path / "changes.yaml").write_text("- {at: 1, delete_rule: {id: ssh}}\n")
    changes = load_changes(tmp_path / "changes.yaml")
    assert [r["verdict"] for r in records(path, time="3..", changes=changes)] == ["allow", "deny", "deny"]


def test_times_reach_as_far_as_captures_do(tmp_path: Path) -> None:
    """SPEC 7: a capture whose first frame has no clock yet goes on decades later, and so do its changes."""
    from dataplane.policy.schedule import load_changes

    path = pcap(
        tmp_path / "c.pcap", [syn(4000 + n) for n in range(3)], [-START, 1_226_048_710 - START, 4_294_967_295 - START]
    )
    (tmp_path / "changes.yaml").write_text("- {at: 4294967295, delete_rule: {id: ssh}}\n")
    changes = load_changes(tmp_path / "changes.yaml")
    assert [r["verdict"] for r in records(path, changes=changes)] == ["allow", "allow", "deny"]
    assert [r["capture_packet"] for r in records(path, time="1226048710..4294967295")] == [2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("5", "5: write FROM..TO"),
        ("..", "..: write FROM..TO"),
        ("a..5", "a..5: a is no time: write seconds since the first packet, or 2026-01-31T12:00:00Z"),
        ("5..5", "5..5: FROM must be before TO"),
        ("5..-1", "5..-1: -1 is no time"),
        ("1e3..", "1e3..: 1e3 is no time"),
        ("0..99999999999", "0..99999999999: 99999999999 is out of range: up to 9223372036 seconds are allowed"),
    ],
)
def test_a_time_that_cannot_be_read(text: str, told: str) -> None:
    with pytest.raises(WindowError) as caught:
        Window.read(text)
    assert str(caught.value).startswith(told)


# ---- map ----

A, B, HERE, THERE = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "172.20.5", "192.168.7"


def story(net: str, net6: str) -> list[Packet]:
    """Frames with addresses of two networks, of each kind in which an address is looked at."""
    a, b, a6, far, far6 = f"{net}.10", f"{net}.11", f"{net6}::10", "10.0.0.5", "fd01::5"
    enter, leave = Ether(src=B, dst=A), Ether(src=A, dst=B)
    quoted = IP(src=a, dst=far) / UDP(sport=3000, dport=53) / b"x"
    quoted6 = IPv6(src=a6, dst=far6) / UDP(sport=3000, dport=53) / b"x"
    big = fragment(IP(src=far, dst=a, id=7) / UDP(sport=5000, dport=53) / Raw(b"y" * 3000), fragsize=1000)
    wrong = IP(src=far, dst=a) / TCP(sport=4001, dport=22, flags="S", chksum=0x1234)
    bad_header = IP(src=far, dst=a, chksum=0x1111) / TCP(sport=4002, dport=22, flags="S")
    return [
        enter / IP(src=far, dst=a) / TCP(sport=4000, dport=22, flags="S"),
        leave / IP(src=a, dst=far) / TCP(sport=22, dport=4000, flags="SA"),
        leave / quoted,
        enter / IP(src="10.0.0.9", dst=a) / ICMP(type=3, code=3) / quoted,
        leave / quoted6,
        enter / IPv6(src="fd01::9", dst=a6) / ICMPv6DestUnreach(code=4) / quoted6,
        enter / Dot1Q(vlan=7) / IPv6(src=far6, dst=a6) / IPv6ExtHdrDestOpt() / TCP(sport=4000, dport=22, flags="S"),
        *(enter / piece for piece in big),
        leave / ARP(op=1, hwsrc=A, psrc=a, pdst=b),
        leave / ARP(op=1, hwsrc=A, psrc=b, pdst=f"{net}.1"),
        leave / IPv6(src=a6, dst="ff02::1:ff00:11", hlim=255) / ICMPv6ND_NS(tgt=f"{net6}::11"),
        enter / IP(src=b, dst="224.0.0.18", ttl=255, proto=112) / VRRPv3(addrlist=[f"{net}.99"], vrid=1),
        enter / IP(src="10.0.0.6", dst=f"{net}.99") / TCP(sport=1, dport=22, flags="S"),
        enter / wrong,
        enter / bad_header,
        enter / IP(src=far, dst=a, ihl=3) / TCP(sport=4003, dport=22, flags="S"),
        enter / IP(src=b, dst=a) / TCP(sport=5, dport=22, flags="S"),
        enter / IP(src="10.9.9.9", dst="10.9.9.8") / UDP(),
        enter / Raw(b"\x86\xdd"),
    ]


def built(frames: Sequence[Packet]) -> list[bytes]:
    return [bytes(Ether(bytes(frame))) for frame in frames]


@pytest.mark.parametrize("at", [None, "a"])
def test_frames_with_mapped_addresses_get_the_records_of_frames_that_have_them(at: str | None, tmp_path: Path) -> None:
    """Verdicts, reasons, causes and what is told of the packet; checksums that are wrong stay wrong."""
    old = pcap(tmp_path / "old.pcap", built(story(HERE, "fd55")))
    new = pcap(tmp_path / "new.pcap", built(story(THERE, "fd00")))
    mapped = {f"{HERE}.0/24": f"{THERE}.0/24", "fd55::/64": "fd00::/64"}
    found, expected = records(old, mapped=mapped, at=at), records(new, at=at)
    for record in (*found, *expected):
        record.pop("capture")
    # The bad header is as wrong as it was, whatever the sum of the new one would be.
    assert found == expected
    reasons = {check["reason"] for record in expected for check in record["checks"]}
    assert {"rule", "related", "control", "malformed"} <= reasons
    assert sum(check["cause"] == "bad-checksum" for record in expected for check in record["checks"]) >= 2
    assert records(old, at=at) != found


def test_frames_are_written_as_they_were_captured(tmp_path: Path) -> None:
    """SPEC 8.1: bytes unchanged; the comment tells of what was judged."""
    frames = built(story(HERE, "fd55"))
    path = pcap(tmp_path / "old.pcap", frames)
    out = tmp_path / "met.pcapng"
    DataPlane(Policy.parse(POLICY)).replay(path, annotate=out, mapped={f"{HERE}.0/24": f"{THERE}.0/24"})
    written = out.read_bytes()
    assert all(frame in written for frame in frames)
    assert b"allow rule" in written


def test_the_longest_prefix_counts_and_hosts_keep_their_place(tmp_path: Path) -> None:
    frames = [syn(4000, f"172.16.{n}.{n}") for n in range(4)]
    path = pcap(tmp_path / "c.pcap", frames)
    mapped = {"172.16.0.0/15": "10.0.0.0/15", "172.16.2.2": "8.8.8.8", "172.16.3.0/25": "1.2.3.128/25"}
    assert [r["source"] for r in records(path, mapped=mapped)] == ["10.0.0.0", "10.0.1.1", "8.8.8.8", "1.2.3.131"]


def test_mapping_reads_nothing_outside_of_a_frame(tmp_path: Path) -> None:
    """Frames that are cut anywhere, or have any byte changed, are judged and not crashed on."""
    generator = random.Random(7)
    frames = []
    for frame in built(story(HERE, "fd55")):
        frames += [frame[:cut] for cut in range(0, len(frame), 7)]
        for _ in range(8):
            changed = bytearray(frame)
            changed[generator.randrange(len(frame))] = generator.randrange(256)
            frames.append(bytes(changed))
    path = pcap(tmp_path / "c.pcap", frames)
    mapped = {"0.0.0.0/1": "128.0.0.0/1", "128.0.0.0/1": "0.0.0.0/1", "::/1": "8000::/1", "8000::/1": "::/1"}
    assert len(records(path, mapped=mapped)) == len(frames)


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["10.0.0.1"], "10.0.0.1: write OLD=NEW, two addresses or two prefixes of one length"),
        (["10.0.0.1="], "10.0.0.1=: write OLD=NEW, two addresses or two prefixes of one length"),
        (["= 10.0.0.1"], "= 10.0.0.1: write OLD=NEW, two addresses or two prefixes of one length"),
        (["10.0.0.0/8=10.0.0.0/9"], "10.0.0.0/8=10.0.0.0/9: the prefixes have 8 and 9 bits"),
        (["10.0.0.1=::1"], "10.0.0.1=::1: one is IPv4 and the other IPv6"),
        (["10.0.0.1/8=11.0.0.0/8"], '10.0.0.1/8=11.0.0.0/8: 10.0.0.1/8 has host bits set: write "10.0.0.0/8"'),
        (["10.0.0.1=1.1.1.1", "10.0.0.1/32=2.2.2.2"], "10.0.0.1/32=2.2.2.2: 10.0.0.1/32 is mapped to 1.1.1.1/32 al"),
    ],
)
def test_a_mapping_that_cannot_be_read(texts: list[str], told: str) -> None:
    with pytest.raises(WindowError) as caught:
        read_mappings(texts)
    assert str(caught.value).startswith(told)


def test_mappings_come_in_the_order_of_their_lengths() -> None:
    found = read_mappings(["10.0.0.1=1.1.1.1", "10.0.0.0/8=11.0.0.0/8", "10.0.0.1=1.1.1.1"])
    assert found == [Mapping("10.0.0.0/8", "11.0.0.0/8"), Mapping("10.0.0.1/32", "1.1.1.1/32")]


# ---- filter ----


def _selected(record: dict[str, Any], words: dict[str, Any]) -> bool:
    """The words of an expectation, looked at in a record by themselves."""
    checks = [
        check
        for check in record["checks"]
        if words.get("direction") in (None, check["direction"]) and words.get("instance") in (None, check["instance"])
    ]
    of_check = "direction" in words or "instance" in words
    if of_check and not checks:
        return False
    if "port" in words and words["port"] not in (record["source_port"], record["destination_port"]):
        return False
    if "protocol" in words and words["protocol"] != record["protocol"]:
        return False
    if "packet" in words and record["packet"] not in words["packet"]:
        return False
    check = ([c for c in checks if c["verdict"] == "deny"] or checks or [{}])[-1]
    looked_at = {name: check.get(name) for name in ("state", "reason", "rule", "security_group", "connection")}
    looked_at["verdict"] = check.get("verdict") if of_check else record["verdict"]
    return all(looked_at[name] == value for name, value in words.items() if name in looked_at)


@pytest.mark.parametrize(
    "words",
    [
        {"verdict": "deny"},
        {"verdict": "allow", "direction": "ingress"},
        {"port": 22},
        {"protocol": "udp"},
        {"rule": "ssh"},
        {"rule": None},
        {"rule": None, "instance": "a"},
        {"security_group": "sg", "state": "new"},
        {"state": None},
        {"reason": "malformed", "port": 22},
        {"connection": "outbound"},
        {"connection": None, "direction": "egress"},
        {"instance": "b", "direction": "ingress"},
        {"instance": "nobody"},
        {"packet": [2, 3, 4, 9], "verdict": "allow"},
    ],
    ids=str,
)
def test_a_filter_chooses_what_its_words_say(words: dict[str, Any], tmp_path: Path) -> None:
    """Judged are all packets: records, numbers and figures are those without a filter."""
    path = pcap(tmp_path / "c.pcap", built(story(THERE, "fd00")))
    whole = records(path)
    found = records(path, filters=[json.dumps(words)])
    assert found == [record for record in whole if _selected(record, words)]


def test_a_packet_is_chosen_by_any_of_several_filters_and_in_every_form(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow.parquet")
    path = pcap(tmp_path / "c.pcap", built(story(THERE, "fd00")) * 3)
    filters = ["verdict: deny", "protocol: udp, port: 53"]
    found = records(path, filters=filters)
    numbers = [record["packet"] for record in found]
    assert numbers == sorted(set(numbers))
    assert any(record["verdict"] == "allow" for record in found)
    plane = DataPlane(Policy.parse(POLICY))
    out = tmp_path / "v.parquet"
    summary = plane.replay(path, verdicts=out, annotate=tmp_path / "f.pcapng", filters=filters)
    assert summary.packets == 3 * len(story(THERE, "fd00"))
    rows = pyarrow.read_table(out).to_pylist()
    assert sorted({row["packet"] for row in rows}) == numbers
    whole = DataPlane(Policy.parse(POLICY)).replay(path, verdicts="arrow").to_pylist()
    assert rows == [row for row in whole if row["packet"] in numbers]
    assert (tmp_path / "f.pcapng").read_bytes().count(b"\x06\x00\x00\x00") >= len(numbers)
    denied = [record["packet"] for record in found if record["verdict"] == "deny"]
    csv = tmp_path / "v.csv"
    DataPlane(Policy.parse(POLICY)).replay(path, verdicts=csv, filters=["{verdict: deny}"])
    assert sorted({int(line.split(",")[0]) for line in csv.read_text().splitlines()[1:]}) == denied


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ": nothing is chosen: write it as verdict: deny, port: 22"),
        ("verdict=deny", "verdict=deny: verdict=deny is one word: write verdict: deny"),
        ("verdict: deny, port:22", "verdict: deny, port:22: port:22 is one word: write port: 22"),
        ("everything", 'everything: key "everything" is not known'),
        ("verdict: dney", "verdict: dney: verdict"),
        ("verdict: deny, count: 3", "verdict: deny, count: 3: count is for expectations: a filter has none"),
        ("{", "{: the YAML cannot be read"),
        ("verdict: bypass, direction: egress", 'verdict: bypass, direction: egress: verdict "bypass" is not allowed'),
    ],
)
def test_a_filter_that_cannot_be_read(text: str, told: str) -> None:
    with pytest.raises(FilterError) as caught:
        Chosen([text])
    assert str(caught.value).startswith(told)
