"""Arguments of the library that cannot be meant (the README's library): an error of Python that says what to give."""

from __future__ import annotations

import math
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from dataplane import DataPlane, Policy

FRAME = bytes(Ether() / IP(dst="10.0.0.1") / ICMP())
LAST = 2**63 - 1


@pytest.fixture
def firewall() -> DataPlane:
    return DataPlane(Policy.parse("instances: [{id: a, addresses: [10.0.0.1]}]"), seed=1)


@pytest.mark.parametrize("frame", ["str", None, 5, [1, 2], {}, object()])
@pytest.mark.parametrize("link", [None, "ethernet"])
def test_a_frame_is_bytes_or_a_scapy_packet(firewall: DataPlane, frame: Any, link: str | None) -> None:
    words = f"a frame is bytes or a scapy packet, not {type(frame).__name__}"
    for time in (1, None):
        with pytest.raises(TypeError, match=words):
            firewall.process(frame, time, link=link)
    with pytest.raises(TypeError, match=words):
        firewall.process_batch([FRAME, frame], [1, 2], link=link)
    with pytest.raises(TypeError, match=words):
        firewall.process_batch([frame], link=link)
    assert firewall.counters().verdict[0].packets == 0


def test_frames_of_all_kinds(firewall: DataPlane) -> None:
    kinds = [FRAME, bytearray(FRAME), memoryview(FRAME), Ether(FRAME), IP(FRAME[14:])]
    assert {firewall.process(frame, 1.0).checks[0].instance for frame in kinds} == {"a"}
    assert firewall.process_batch([Ether(FRAME)])[0].verdict == "deny"


def test_a_link_type_that_is_not_known(firewall: DataPlane) -> None:
    with pytest.raises(ValueError, match="link type 'token ring' is not known: one of ethernet, raw"):
        firewall.process(FRAME, 1, link="token ring")
    for packet in (Raw(FRAME), ARP()):
        with pytest.raises(ValueError, match=f"a {packet.name} packet does not say its link type: give link=, one of"):
            firewall.process(packet, 1)
    assert firewall.process(Raw(FRAME), 1, link="ethernet").verdict == "deny"


def test_one_time_is_given(firewall: DataPlane) -> None:
    both = "give time= in seconds or time_ns= in nanoseconds, not both"
    with pytest.raises(ValueError, match=both):
        firewall.process(FRAME, 1.0, time_ns=5)
    with pytest.raises(ValueError, match=both):
        firewall.process(FRAME, 0, time_ns=0)
    with pytest.raises(ValueError, match=both):
        firewall.apply({"add_rule": {"security_group": "default", "rule": {"direction": "egress"}}}, 1, time_ns=1)
    with pytest.raises(ValueError, match="a packet needs a time: give time="):
        firewall.process(FRAME)


@pytest.mark.parametrize("time", [-1, -1e-9, 2**63 / 1e9, 1e300, math.inf, -math.inf, math.nan])
def test_times_out_of_range(firewall: DataPlane, time: float) -> None:
    with pytest.raises(ValueError, match=r"the time .* is out of range: 0 to 9223372036\.854775807 seconds"):
        firewall.process(FRAME, time)
    with pytest.raises(ValueError, match="out of range"):
        firewall.apply({"delete_rule": {"id": "default-egress-ipv4"}}, time)
    assert firewall.policy.rule("default-egress-ipv4")
    assert firewall.counters().verdict[1].packets == 0


@pytest.mark.parametrize("time_ns", [-1, LAST + 1, 2**64, 10**30])
def test_nanoseconds_out_of_range(firewall: DataPlane, time_ns: int) -> None:
    words = r"the time .* is out of range: 0 to 9223372036\.854775807 seconds"
    with pytest.raises(ValueError, match=words):
        firewall.process(FRAME, time_ns=time_ns)
    with pytest.raises(ValueError, match=words):
        firewall.process_batch([FRAME, FRAME], [0, time_ns])
    with pytest.raises(ValueError, match=words):
        firewall.advance(time_ns)
    with pytest.raises(ValueError, match=words):
        firewall.apply({"delete_rule": {"id": "default-egress-ipv4"}}, time_ns=time_ns)


@pytest.mark.parametrize("time", ["5", [], object()])
def test_times_that_are_no_numbers(firewall: DataPlane, time: Any) -> None:
    with pytest.raises(TypeError, match="a time in seconds is a number, not"):
        firewall.process(FRAME, time)
    for at in (time, 1.5):
        with pytest.raises(TypeError, match="a time in nanoseconds is an int, not"):
            firewall.process(FRAME, time_ns=at)
        with pytest.raises(TypeError, match="a time in nanoseconds is an int, not"):
            firewall.process_batch([FRAME], [at])


def test_the_ends_of_time(firewall: DataPlane) -> None:
    assert firewall.process(FRAME, time_ns=0).verdict == "deny"
    assert firewall.process(FRAME, time_ns=LAST).verdict == "deny"
    assert firewall.process(FRAME, 9223372036).verdict == "deny"
