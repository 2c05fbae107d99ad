"""Expectations of a replay (SPEC 7, `--expect`): what they select, what they compare, and how failures are told."""

from __future__ import annotations

import io
import ipaddress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from dataplane._core import ffi, lib
from dataplane.policy import Policy, PolicyError
from dataplane.policy.changes import apply, parse_change
from dataplane.replay.expectation import Expectation
from dataplane.replay.expectations import Expectations, Failure
from dataplane.verdict import DIRECTION_WORDS, ORIGIN_WORDS, REASON_WORDS, STATE_WORDS, VERDICT_WORDS, Names

TCP, UDP, ICMP = 6, 17, 1


def check(
    instance: str = "ecs-a",
    direction: str = "ingress",
    verdict: str = "allow",
    state: str = "new",
    reason: str = "rule",
    rule: tuple[str, str] | None = ("A01", "sg-a"),
    connection: str | None = "inbound",
) -> dict[str, Any]:
    """One check of a packet."""
    return dict(locals())


DENIED: dict[str, Any] = {"verdict": "deny", "reason": "no-rule-matched", "rule": None, "connection": None}


class Capture:
    """Packets as the replay hands them over: records, flows and the names in them."""

    def __init__(self) -> None:
        self.names = Names()
        self.records: list[dict[str, Any]] = []
        self.flows: list[dict[str, Any]] = []

    def add(
        self,
        *checks: dict[str, Any],
        source: str = "10.0.0.1",
        destination: str = "172.16.0.5",
        protocol: int = TCP,
        ports: tuple[int, int] = (40000, 22),
    ) -> Capture:
        """Appends a packet with up to two checks; without any it is bypassed."""
        allowed = all(c["verdict"] == "allow" for c in checks)
        word = ("allow" if allowed else "deny") if checks else "bypass"
        self.records.append(
            {
                "time_ns": 1_700_000_000_000_000_001 + len(self.records) * 1_000_000_000,
                "verdict": VERDICT_WORDS.index(word),
                "checks": len(checks),
                "check": [self._check(c) for c in checks],
            }
        )
        ends = ipaddress.ip_address(source), ipaddress.ip_address(destination)
        self.flows.append(
            {
                "family": ends[0].version,
                "protocol": protocol,
                "source": ends[0].packed.ljust(16, b"\0"),
                "destination": ends[1].packed.ljust(16, b"\0"),
                "source_port": ports[0],
                "destination_port": ports[1],
                "transport": True,
            }
        )
        return self

    def _check(self, words: dict[str, Any]) -> dict[str, int]:
        return {
            "zone": self.names.zone(words["instance"]),
            "rule": self.names.rule_number(*words["rule"]) if words["rule"] else 0,
            "direction": DIRECTION_WORDS.index(words["direction"]),
            "verdict": VERDICT_WORDS.index(words["verdict"]),
            "state": STATE_WORDS.index(words["state"]),
            "reason": REASON_WORDS.index(words["reason"]),
            "origin": ORIGIN_WORDS.index(words["connection"]) if words["connection"] else lib.DP_ORIGIN_NONE,
        }

    def failures(self, *items: dict[str, Any], batch: int = 1000) -> list[Failure]:
        """Holds items against the packets, `batch` packets at a time."""
        expectations = Expectations([(f"expect.yaml:{n}", Expectation(**item)) for n, item in enumerate(items, 1)])
        for first in range(0, len(self.records), batch):
            records = ffi.new("struct dp_record[]", self.records[first : first + batch])
            flows = ffi.new("struct dp_flow[]", self.flows[first : first + batch])
            expectations.observe(first + 1, len(records), records, flows, self.names)
        return expectations.finish()


def differences(failures: list[Failure]) -> list[tuple[int, str, str | None, str | None]]:
    """All differences of some failures: packet, field, expected, found."""
    return [(m.packet, d.field, d.expected, d.found) for f in failures for m in f.mismatches for d in m.differences]


# ---- what holds, and what does not ----


def test_every_field_is_compared() -> None:
    """Verdict, state, reason, rule, security group and connection hold as found, and each fails otherwise."""
    capture = Capture().add(check())
    found = {
        "verdict": "allow",
        "state": "new",
        "reason": "rule",
        "rule": "A01",
        "security_group": "sg-a",
        "connection": "inbound",
    }
    wrong = {
        "verdict": "deny",
        "state": "established",
        "reason": "connection",
        "rule": "A02",
        "security_group": "sg-b",
        "connection": "outbound",
    }
    assert capture.failures({"packet": 1, **found}) == []
    for name in found:
        assert differences(capture.failures({"packet": 1, **found, name: wrong[name]})) == [
            (1, name, wrong[name], found[name])
        ]


def test_null_expects_none() -> None:
    """`null` for rule, security group and connection holds where there is none, and only there."""
    capture = Capture().add(check(**DENIED)).add(check())
    none = {"rule": None, "security_group": None, "connection": None}
    assert capture.failures({"packet": 1, **none}) == []
    assert differences(capture.failures({"packet": 2, **none})) == [
        (2, "rule", None, "A01"),
        (2, "security_group", None, "sg-a"),
        (2, "connection", None, "inbound"),
    ]
    assert differences(capture.failures({"packet": 1, "rule": "A01"})) == [(1, "rule", "A01", None)]


def test_a_bypassed_packet_has_a_verdict_and_nothing_else() -> None:
    """A packet without a check is `bypass`; it has no rule, and no reason."""
    capture = Capture().add()
    assert capture.failures({"packet": 1, "verdict": "bypass", "rule": None, "connection": None}) == []
    assert differences(capture.failures({"packet": 1, "reason": "rule"})) == [(1, "reason", "rule", None)]


# ---- which check is looked at ----

EGRESS = check("ecs-a", "egress", rule=("A-out", "sg-a"), connection="outbound")


def test_the_last_check_decides_when_all_allow() -> None:
    """SPEC 1: egress at one instance, then ingress at the other, which is the last word."""
    capture = Capture().add(EGRESS, check("ecs-b", rule=("B01", "sg-b")))
    assert capture.failures({"packet": 1, "verdict": "allow", "rule": "B01", "connection": "inbound"}) == []
    assert capture.failures({"packet": 1, "rule": "A-out"}) != []


def test_the_check_that_denied_decides() -> None:
    """Whatever else was said about the packet."""
    capture = Capture().add(check("ecs-b", **DENIED), EGRESS).add(EGRESS, check("ecs-b", **DENIED))
    for packet in (1, 2):
        assert capture.failures({"packet": packet, "verdict": "deny", "reason": "no-rule-matched"}) == []


def test_direction_and_instance_mean_one_check() -> None:
    """With a direction or an instance, verdict and all else are those of that check."""
    capture = Capture().add(EGRESS, check("ecs-b", **DENIED))
    assert (
        capture.failures(
            {"packet": 1, "direction": "egress", "verdict": "allow", "rule": "A-out"},
            {"packet": 1, "instance": "ecs-a", "verdict": "allow", "rule": "A-out"},
            {"packet": 1, "direction": "ingress", "verdict": "deny", "rule": None},
            {"packet": 1, "direction": "ingress", "instance": "ecs-b", "verdict": "deny"},
        )
        == []
    )
    for selector in ({"direction": "egress"}, {"instance": "ecs-a"}):
        assert differences(capture.failures({**selector, "verdict": "deny"})) == [(1, "verdict", "deny", "allow")]


def test_packets_without_such_a_check_are_not_selected() -> None:
    """A direction and an instance select packets, like any other selector."""
    capture = Capture().add(EGRESS).add(check("ecs-b")).add()
    assert capture.failures({"direction": "egress", "verdict": "allow", "count": 1}) == []
    assert capture.failures({"instance": "ecs-b", "verdict": "allow", "count": 1}) == []
    assert capture.failures({"instance": "ecs-b", "direction": "egress", "count": 0}) == []


# ---- selecting by flow ----


def mixed() -> Capture:
    """1: TCP to port 22; 2: its answer; 3: UDP from port 22; 4: ping; 5: IPv6."""
    capture = Capture()
    capture.add(check())
    capture.add(check(), source="172.16.0.5", destination="10.0.0.1", ports=(22, 40000))
    capture.add(check(), source="10.0.1.9", protocol=UDP, ports=(22, 53))
    capture.add(check(), source="10.0.1.9", protocol=ICMP, ports=(22, 22))
    capture.add(check(), source="2001:db8::1", destination="2001:db8:1::5", ports=(40000, 443))
    return capture


@pytest.mark.parametrize(
    ("selectors", "count"),
    [
        ({}, 5),
        ({"address": "10.0.0.1"}, 2),
        ({"address": "10.0.0.0/16"}, 4),
        ({"address": "10.0.0.0/24"}, 2),
        ({"address": "0.0.0.0/0"}, 4),
        ({"address": "2001:db8:1::/48"}, 1),
        ({"address": "::/0"}, 1),
        ({"address": "192.0.2.1"}, 0),
        ({"port": 22}, 3),
        ({"port": 40000}, 3),
        ({"port": 443}, 1),
        ({"protocol": "tcp"}, 3),
        ({"protocol": "udp"}, 1),
        ({"protocol": 1}, 1),
        ({"protocol": "gre"}, 0),
        ({"protocol": "tcp", "port": 22}, 2),
        ({"protocol": "tcp", "address": "10.0.1.9"}, 0),
        ({"address": "172.16.0.5", "port": 22, "protocol": "udp"}, 1),
    ],
)
@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_selectors_of_the_flow(selectors: dict[str, Any], count: int, batch: int) -> None:
    """Address or prefix and port of either side, and protocol, joined by "and", however the packets are batched."""
    assert mixed().failures({**selectors, "count": count}, batch=batch) == []
    assert mixed().failures({**selectors, "count": count + 1}, batch=batch) != []


def test_only_selected_packets_are_compared() -> None:
    """What an item says of some packets says nothing of others."""
    capture = mixed()
    assert [m.packet for m in capture.failures({"protocol": "udp", "verdict": "deny"})[0].mismatches] == [3]
    assert [m.packet for m in capture.failures({"port": 22, "verdict": "deny"}, batch=2)[0].mismatches] == [1, 2, 3]


# ---- how many ----


def test_an_item_that_selects_nothing_fails() -> None:
    """A mistyped selector must not look like success."""
    (failure,) = mixed().failures({"address": "192.0.2.1", "verdict": "allow"})
    assert failure.problem == "selects no packet"
    assert failure.packets == 0


def test_count_is_exact() -> None:
    """`count` may be too small or too large; 0 expects that there is none."""
    capture = mixed()
    assert capture.failures({"protocol": "udp", "verdict": "allow", "count": 1}) == []
    assert capture.failures({"protocol": "udp", "count": 0})[0].problem == "expected to select 0 packets, found 1"
    assert capture.failures({"protocol": "gre", "count": 0, "verdict": "deny"}) == []
    assert capture.failures({"count": 6})[0].problem == "expected to select 6 packets, found 5"


# ---- packet numbers ----


@pytest.mark.parametrize("batch", [1, 3, 1000])
@pytest.mark.parametrize("packet", [3, "3", [3], "2-4", [2, "3-4"], [4, 2, 3, 3, "2-3"]])
def test_packet_numbers_lists_and_ranges(packet: Any, batch: int) -> None:
    """Numbers count from 1; ranges include both ends; nothing is compared twice."""
    capture = Capture()
    for n in range(1, 6):
        capture.add(check() if n in (1, 5) else check(**DENIED))
    named = 1 if packet in (3, "3", [3]) else 3
    assert capture.failures({"packet": packet, "verdict": "deny", "count": named}, batch=batch) == []
    (failure,) = capture.failures({"packet": packet, "verdict": "allow"}, batch=batch)
    assert failure.packets == named


def test_a_packet_that_is_named_must_be_there() -> None:
    """A number beyond the captures fails, in a range too."""
    capture = mixed()
    for packet in (6, "4-6"):
        (failure,) = capture.failures({"packet": packet, "verdict": "allow"})
        assert failure.problem == "names packet 6, but the captures have 5"
    assert capture.failures({"packet": "1-5", "verdict": "allow"}) == []


def test_a_packet_that_is_named_must_meet_the_other_selectors() -> None:
    """So that expectations do not slip when a capture is made anew."""
    capture = mixed()
    assert capture.failures({"packet": "1-2", "protocol": "tcp", "port": 22, "verdict": "allow"}) == []
    assert capture.failures({"packet": [3, 5], "port": 53, "verdict": "allow"})[0].packets == 1
    assert capture.failures({"packet": 3, "protocol": "udp", "verdict": "allow"}) == []
    (failure,) = capture.failures({"packet": "1-3", "protocol": "tcp", "verdict": "allow"})
    assert [(m.packet, m.differences) for m in failure.mismatches] == [(3, ())]
    (failure,) = capture.failures({"packet": 1, "direction": "egress", "verdict": "allow"})
    assert [(m.packet, m.differences) for m in failure.mismatches] == [(1, ())]


@pytest.mark.parametrize(
    "packet", [0, "0", "7-3", "a", "3-", "-3", "1-2-3", "", [], ["x"], True, 1.5, None, {"a": 1}, [[1]]]
)
def test_packet_numbers_that_are_none(packet: Any) -> None:
    """Anything but numbers from 1 and ranges is a mistake."""
    with pytest.raises(ValidationError) as caught:
        Expectation(packet=packet, verdict="allow")
    assert [error["loc"][0] for error in caught.value.errors()] == ["packet"]


# ---- files ----


def load(tmp_path: Path, text: str) -> Expectations:
    file = tmp_path / "expect.yaml"
    file.write_text(text)
    return Expectations.load(file)


def mistakes(tmp_path: Path, text: str) -> list[str]:
    """The mistakes found in a file, without its folder."""
    with pytest.raises(PolicyError) as caught:
        load(tmp_path, text)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def test_a_file_of_expectations(tmp_path: Path) -> None:
    """A YAML list; each item keeps its place."""
    loaded = load(
        tmp_path,
        "# comment\n- {packet: [1, 3-4], verdict: allow, rule: null}\n\n"
        "- address: 2001:db8::/32\n  protocol: tcp\n  count: 0\n",
    )
    assert loaded.total == 2
    (first, one), (second, other) = loaded.items
    assert (first, second) == (f"{tmp_path}/expect.yaml:2", f"{tmp_path}/expect.yaml:4")
    assert one.packet == ((1, 1), (3, 4))
    assert one.expected == {"verdict": "allow", "rule": None}
    assert (other.address, other.protocol, other.count, other.expected) == ("2001:db8::/32", "tcp", 0, {})


def test_all_mistakes_at_once_with_line_and_column(tmp_path: Path) -> None:
    """Unknown keys and words, bad values, nothing expected, doubled keys: each with what was found and is allowed."""
    text = """\
- {packet: 1, verdict: alow}
- {packet: 0, colour: red, verdict: allow}
- {packet: [1, 7-3], direction: in, reason: because}
- {address: 10.0.0.1/8, port: 70000, protocol: tcpp, state: old, connection: none}
- {packet: 4}
- {packet: 4, direction: ingress, verdict: bypass}
- {instance: , count: -1}
- 7
- {packet: 1, packet: 2, verdict: allow}
"""
    assert mistakes(tmp_path, text) == [
        'expect.yaml:1:24: verdict "alow" is not allowed: write deny, allow or bypass',
        "expect.yaml:2:12: packet 0 is out of range: packets count from 1, and a range has its smaller end first",
        'expect.yaml:2:15: key "colour" is not known: allowed are packet, address, port, protocol, direction, instance,'
        " verdict, state, reason, rule, security_group, connection, count",
        'expect.yaml:3:16: packet[1] "7-3" is out of range: packets count from 1, and a range has its smaller end'
        " first",
        'expect.yaml:3:33: direction "in" is not allowed: write ingress or egress',
        'expect.yaml:3:45: reason "because" is not allowed: write rule, no-rule-matched, connection, related,'
        " disconnected, invalid, malformed, table-full, load-balancer, control or null",
        'expect.yaml:4:13: address "10.0.0.1/8" has host bits set: write "10.0.0.0/8"',
        "expect.yaml:4:31: port 70000 is out of range: 0..65535",
        'expect.yaml:4:48: protocol "tcpp" is not allowed: tcp, udp, icmp, icmpv6, gre, sctp, dccp, udplite or a'
        " number 0..255; did you mean tcp?",
        'expect.yaml:4:61: state "old" is not allowed: write new, established, related, disconnected, invalid,'
        " untracked or null",
        'expect.yaml:4:78: connection "none" is not allowed: write inbound, outbound or null',
        "expect.yaml:5:3: nothing is expected: write at least one of verdict, state, reason, rule, security_group,"
        " connection, count",
        'expect.yaml:6:44: verdict "bypass" is not allowed with a direction or an instance: write allow or deny',
        "expect.yaml:7:14: instance is empty: write text, or leave the key out",
        "expect.yaml:7:23: count -1 is out of range: 0..1000000000000",
        "expect.yaml:8:3: expectation 7 is not allowed: write a mapping",
        'expect.yaml:9:15: key "packet" is given twice: it stands on line 9 already',
    ]


@pytest.mark.parametrize("key", ["packet", "address", "port", "protocol", "direction", "instance", "verdict", "count"])
def test_an_empty_key_is_a_mistake(tmp_path: Path, key: str) -> None:
    """`packet:` with nothing behind it must not select every packet."""
    (mistake,) = mistakes(tmp_path, f"- rule: A01\n  {key}:\n")
    assert mistake.startswith("expect.yaml:2:")
    assert f": {key} is empty: " in mistake


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "expect.yaml:1:1: the file is not a list: write an item for each expectation"),
        ("packet: 1\n", "expect.yaml:1:1: the file is not a list: write an item for each expectation"),
        ("- {packet: 1\n", "expect.yaml:2:1: the YAML cannot be read: "),
    ],
)
def test_a_file_that_is_no_list(tmp_path: Path, text: str, mistake: str) -> None:
    """It is refused with its place."""
    (found,) = mistakes(tmp_path, text)
    assert found.startswith(mistake)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """The reason is the system's."""
    with pytest.raises(PolicyError, match=r"missing\.yaml: the file cannot be read: No such file or directory"):
        Expectations.load(tmp_path / "missing.yaml")


# ---- how failures are told ----


def told(failures: list[Failure], total: int, width: int = 200) -> str:
    """What is printed where there is no terminal."""
    out = io.StringIO()
    expectations = Expectations([("expect.yaml:1", Expectation(verdict="allow"))] * total)
    expectations.print_failures(failures, Console(file=out, width=width))
    return out.getvalue()


def test_a_failure_names_place_packet_time_flow_and_each_difference() -> None:
    """The whole of one failure, as text."""
    capture = Capture().add(EGRESS, check("ecs-b", **DENIED), source="10.0.0.1", destination="172.16.0.5")
    text = told(capture.failures({"packet": 1, "verdict": "allow", "rule": "B01", "state": "new"}), total=3)
    assert text.splitlines() == [
        "expect.yaml:1:",
        "  packet 1, 1700000000.000000001, tcp 10.0.0.1:40000 > 172.16.0.5:22, ingress at ecs-b",
        "    verdict: expected allow, found deny",
        "    rule: expected B01, found none",
        "1 of 3 expectations failed.",
    ]


def test_flows_in_words() -> None:
    """IPv6 with ports in brackets; no ports for ICMP; protocols without a name by number; ARP; frames without IP."""
    capture = mixed().add(check(), protocol=99, ports=(0, 0))
    capture.add(check(), protocol=0, ports=(0, 0))
    capture.flows[-1]["arp"] = 1
    capture.add(check())
    capture.flows[-1]["family"] = 0
    (failure,) = capture.failures({"packet": "4-8", "verdict": "deny"})
    assert [m.flow for m in failure.mismatches] == [
        "icmp 10.0.1.9 > 172.16.0.5",
        "tcp [2001:db8::1]:40000 > [2001:db8:1::5]:443",
        "protocol 99 10.0.0.1 > 172.16.0.5",
        "arp 10.0.0.1 > 172.16.0.5",
        "no IP",
    ]


def test_lines_are_not_wrapped_and_ids_are_no_markup() -> None:
    """Output goes to files too; an id such as `[bold]` is shown as it is."""
    capture = Capture().add(check("[bold]" * 10))
    text = told(capture.failures({"packet": 1, "rule": "[red]x" * 20}), total=1, width=40)
    assert "expected " + "[red]x" * 20 + ", found A01" in text.splitlines()[2]
    assert "[bold]" * 10 in text


def test_some_are_shown_and_the_rest_is_counted() -> None:
    """A thousand failures do not fill the screen."""
    capture = Capture()
    for _ in range(1000):
        capture.add(check())
    failures = capture.failures(*[{"verdict": "deny"}] * 100, batch=64)
    text = told(failures, total=100)
    assert len(failures) == 100
    assert failures[0].packets == 1000
    assert text.count("expected deny, found allow") == 40
    assert "  ... and 995 packets more\n" in text
    assert "... and 92 more failed expectations\n" in text
    assert text.endswith("100 of 100 expectations failed.\n")


NAMES = """\
security_groups:
  - {id: web, security_group_rules: [{id: http, direction: ingress}]}
instances: [{id: srv, addresses: [10.0.0.1], security_groups: [web]}, {id: bare, addresses: [10.0.0.2]}]
"""


def test_an_expectation_with_a_name_that_no_policy_has_fails(tmp_path: Path) -> None:
    """With what was meant; a rule that a change makes, and one of the default group, are known."""
    path = tmp_path / "expect.yaml"
    path.write_text(
        "- {instance: srvv, verdict: allow, count: 0}\n- {verdict: allow, rule: htttp, count: 0}\n"
        "- {verdict: allow, security_group: wep, count: 0}\n"
        "- {instance: srv, rule: http, security_group: web, count: 0}\n"
        "- {rule: late, count: 0}\n- {rule: null, count: 0}\n"
        "- {rule: default-egress-ipv4, security_group: default, count: 0}\n"
    )
    policy = Policy.parse(NAMES)
    change = parse_change({"add_rule": {"security_group": "web", "rule": {"id": "late", "direction": "egress"}}})
    failures = Expectations.load(path, [policy, apply(policy, change)]).finish()
    assert [(failure.place, failure.problem) for failure in failures] == [
        (f"{path}:1", '"srvv" is no instance of this policy; did you mean "srv"?'),
        (f"{path}:2", '"htttp" is no rule of this policy; did you mean "http"?'),
        (f"{path}:3", '"wep" is no security group of this policy; did you mean "web"?'),
    ]
    assert Expectations.load(path).finish() == []
