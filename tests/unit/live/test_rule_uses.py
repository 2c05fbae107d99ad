"""When each rule was hit last: told, and kept over a restart."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP

from dataplane import Policy
from dataplane._core import ffi, lib
from dataplane.live import state
from dataplane.live.firewall import Firewall
from dataplane.live.rule_uses import RuleUses, SavedUse

from .scene import POLICY, SECOND
from .served import Served
from .test_ctl import ctl

DAY = 86_400 * SECOND


class Clock:
    """The wall clock, which is set by hand."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000 * SECOND

    def time_ns(self) -> int:
        return self.now_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "time_ns", made.time_ns)
    return made


def pass_through(firewall: Firewall, packet: Any) -> None:
    """A packet judged by the firewall's one shard, which no thread runs."""
    data = bytes(packet)
    buffer = ffi.from_buffer("uint8_t[]", data)
    frame = ffi.new("struct dp_frame *", {"time_ns": firewall.now(), "data": buffer, "link": lib.DP_LINK_RAW})
    frame.captured = frame.length = len(data)
    record = ffi.new("struct dp_record *")
    assert lib.dp_engine_process(lib.dp_plane_shard(firewall.plane, 0), frame, 1, record, ffi.NULL) == 0
    assert record.verdict == lib.DP_ALLOW


def web(port: int = 4000, flags: str = "S", **numbers: int) -> Any:
    return IP(src="192.0.2.9", dst="10.0.0.1") / TCP(sport=port, dport=80, flags=flags, **numbers)


def times(uses: RuleUses) -> dict[str, tuple[int, int | None]]:
    return {rule: (use.since_ns, use.last_ns) for rule, _, use in uses}


def test_the_last_hit_of_each_rule_is_kept(clock: Clock) -> None:
    """By the first packet and by those of its connection; a look at no new packet changes nothing."""
    firewall = Firewall(Policy.parse(POLICY), seed=1)
    begun = clock.now_ns
    uses = RuleUses(firewall)
    assert set(times(uses).values()) == {(begun, None)}
    pass_through(firewall, web(seq=7))
    clock.now_ns += SECOND
    uses.look()
    clock.now_ns += SECOND
    uses.look()
    assert times(uses)["web"] == (begun, begun + SECOND)
    answer = IP(src="10.0.0.1", dst="192.0.2.9") / TCP(sport=80, dport=4000, flags="SA", seq=1, ack=8)
    pass_through(firewall, answer)
    uses.look()
    assert times(uses)["web"] == (begun, begun + 2 * SECOND)
    assert times(uses)["out"] == (begun, None)


def test_a_rule_that_says_something_else_is_another_one(clock: Clock) -> None:
    """SPEC 5.5: not so one whose name changes; one that comes back begins anew."""
    firewall = Firewall(Policy.parse(POLICY), seed=1)
    uses = RuleUses(firewall)
    pass_through(firewall, web())
    pass_through(firewall, IP(src="10.0.0.1", dst="192.0.2.9") / UDP())
    uses.look()
    hit = begun = clock.now_ns
    for change, rule, expected in (
        ({"update_rule": {"id": "web", "description": "the shop"}}, "web", (begun, hit)),
        ({"update_rule": {"id": "out", "priority": 9}}, "out", (begun + 2 * DAY, None)),
        ({"delete_rule": {"id": "self"}}, "self", None),
        (
            {"add_rule": {"security_group": "sg", "rule": {"id": "self", "direction": "ingress", "protocol": "udp"}}},
            "self",
            (begun + 4 * DAY, None),
        ),
    ):
        clock.now_ns += DAY
        firewall.apply(change)
        uses.look()
        assert times(uses).get(rule) == expected


@pytest.mark.parametrize("change", [{"delete_rule": {"id": "web"}}, {"update_rule": {"id": "web", "multiport": "81"}}])
def test_a_change_that_is_taken_back_brings_the_times_of_before(clock: Clock, change: dict[str, Any]) -> None:
    """The rules that are in force again are the same ones; the ones that went with it are forgotten."""
    firewall = Firewall(Policy.parse(POLICY), seed=1)
    uses = RuleUses(firewall)
    pass_through(firewall, web())
    uses.look()
    hit, before, was = clock.now_ns, firewall.policy, times(uses)
    assert was["web"] == (hit, hit)
    for _ in range(2):
        clock.now_ns += DAY
        firewall.apply(change)
        uses.look()
        assert times(uses).get("web") in (None, (clock.now_ns, None))
        clock.now_ns += DAY
        firewall.replace(before)
        uses.look()
        assert times(uses) == was


def test_a_young_rule_is_not_called_unused(clock: Clock) -> None:
    firewall = Firewall(Policy.parse(POLICY), seed=1)
    uses = RuleUses(firewall)
    clock.now_ns += 29 * DAY
    pass_through(firewall, web())
    assert uses.unused(30 * 86400) == 0
    clock.now_ns += 2 * DAY
    uses.look()
    assert uses.unused(30 * 86400) == 4, "all but the one that was hit"


def test_they_are_kept_over_a_restart(clock: Clock, tmp_path: Path) -> None:
    """In the state file; what has changed meanwhile begins anew."""
    firewall = Firewall(Policy.parse(POLICY), seed=1)
    uses = RuleUses(firewall)
    begun = clock.now_ns
    pass_through(firewall, web())
    clock.now_ns += DAY
    uses.look()
    state.write(tmp_path / "state", state.taken(firewall, uses=uses.saved()))
    clock.now_ns += DAY
    found = state.read(tmp_path / "state")
    assert found
    after = Firewall(found.policy)
    after.replace(after.changed({"update_rule": {"id": "out", "protocol": "tcp"}}))
    told = times(RuleUses(after, found.policy, found.uses))
    assert (told["web"], told["in6"], told["out"]) == ((begun, begun + DAY), (begun, None), (begun + 2 * DAY, None))


def test_a_state_file_without_them_or_with_others_is_checked(tmp_path: Path) -> None:
    """One of before has none; what is no time is damage."""
    taken = state.taken(Firewall(Policy.parse(POLICY)))
    state.write(tmp_path / "state", taken)
    found = state.read(tmp_path / "state")
    assert found
    assert found.uses == ()
    broken: Any = SavedUse("web", "sg", "yesterday", None)  # type: ignore[arg-type]
    state.write(tmp_path / "state", state.State(*[getattr(taken, f) for f in taken.__slots__[:-1]], (broken,)))
    with pytest.raises(state.StateError, match="its head is not what this program writes"):
        state.read(tmp_path / "state")


def test_the_commands_tell_them(served: Served) -> None:
    """`ctl rules --unused`, and the last column of `ctl rule list`."""
    told = json.loads(ctl(served, "rules", "--unused", "0s", "--json").stdout)
    assert [rule["rule"] for rule in told] == ["web", "in6", "self", "out", "listed"]
    assert all(rule["last_hit"] is None and rule["since"] > 1e9 for rule in told)
    assert json.loads(ctl(served, "rules", "--unused", "30d", "-o", "json").stdout) == []
    assert b"last hit" in ctl(served, "rule", "list").stdout
    assert json.loads(ctl(served, "rule", "list", "-o", "json").stdout)[0]["last_hit"] is None
    done = ctl(served, "rules", "--unused", "a month")
    assert (done.returncode, b"a month is no time: write a number of seconds" in done.stderr) == (2, True)
