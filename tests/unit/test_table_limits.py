"""The bounded connection table (SPEC 4.9) and time (SPEC 4.2, 4.3), through the library."""

from __future__ import annotations

from dataplane import DataPlane, Policy
from tests.property.frames import datagram, ethernet, packet, tcp

OUT = "192.0.2.1"


def policy(instances: int, entries: int) -> Policy:
    listed = "".join(
        f"  - {{id: i{n}, addresses: [10.0.0.{n}], security_groups: [sg]}}\n" for n in range(1, instances + 1)
    )
    return Policy.parse(
        "security_groups:\n  - id: sg\n    security_group_rules: [{id: in, direction: ingress}]\n"
        f"instances:\n{listed}conntrack: {{max_entries: {entries}}}\n"
    )


def segment(flags: int, seq: int, ack: int, port: int, host: int = 1, back: bool = False) -> bytes:
    ends = (f"10.0.0.{host}", OUT) if back else (OUT, f"10.0.0.{host}")
    ports = (80, port) if back else (port, 80)
    return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", packet(*ends, 6, tcp(*ends, ports, flags, seq, ack)))


def udp(port: int, host: int = 1, back: bool = False) -> bytes:
    ends = (f"10.0.0.{host}", OUT) if back else (OUT, f"10.0.0.{host}")
    ports = (53, port) if back else (port, 53)
    return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", packet(*ends, 17, datagram(*ends, 17, ports)))


def establish(firewall: DataPlane, port: int, at: float, host: int = 1) -> list[str]:
    frames = (segment(2, 1, 0, port, host), segment(18, 9, 2, port, host, back=True), segment(16, 2, 10, port, host))
    return [reason(firewall, frame, at) for frame in frames]


def reason(firewall: DataPlane, frame: bytes, at: float) -> str:
    return firewall.process(frame, at).checks[0].reason


def test_a_full_table_denies_new_connections_as_table_full() -> None:
    """SPEC 4.9, 7: established connections are never dropped for new ones of their own instance."""
    firewall = DataPlane(policy(1, 3), seed=1)
    for port in (1, 2, 3):
        assert establish(firewall, port, 0) == ["rule", "connection", "connection"]
    check = firewall.process(segment(2, 1, 0, 4), 1).checks[0]
    assert (check.verdict, check.state, check.reason, check.rule, check.connection) == (
        "deny",
        "new",
        "table-full",
        None,
        None,
    )
    assert firewall.counters().table_full == 1
    assert len(firewall.connections.filter(state="ESTABLISHED")) == 3


def test_half_open_and_one_way_entries_go_first_the_oldest_first() -> None:
    """SPEC 4.9."""
    firewall = DataPlane(policy(1, 3), seed=1)
    establish(firewall, 1, 0)
    assert reason(firewall, segment(2, 1, 0, 2), 1) == "rule"
    assert reason(firewall, udp(3), 2) == "rule"
    assert reason(firewall, udp(4), 3) == "rule"
    assert {c.remote_port for c in firewall.connections} == {1, 3, 4}
    assert reason(firewall, udp(5), 4) == "rule"
    assert {c.remote_port for c in firewall.connections} == {1, 4, 5}
    assert firewall.counters().early_drops == 2


def test_an_entry_whose_time_is_over_makes_room_exactly_then() -> None:
    """SPEC 4.2: an entry lives while now - last packet < timeout; 180 s both ways."""
    firewall = DataPlane(policy(1, 2), seed=1)
    for port in (1, 2):
        reason(firewall, udp(port), 0)
        reason(firewall, udp(port, back=True), 0)
    assert reason(firewall, udp(3), 179.999999) == "table-full"
    assert reason(firewall, udp(3), 180) == "rule"


def test_one_instance_under_attack_cannot_starve_the_others() -> None:
    """SPEC 4.9: a fair share per instance."""
    firewall = DataPlane(policy(2, 100), seed=1)
    for port in range(1000):
        assert reason(firewall, segment(2, 1, 0, 1000 + port, host=1), port / 1000) == "rule"
    for port in range(50):
        assert establish(firewall, 1 + port, 2, host=2) == ["rule", "connection", "connection"]
    for port in range(1000):
        assert reason(firewall, segment(2, 1, 0, 5000 + port, host=1), 3 + port / 1000) == "rule"
    assert len(firewall.connections.filter(instance="i2", state="ESTABLISHED")) == 50
    assert len(firewall.connections) == 100


def test_time_that_runs_backwards_expires_nothing() -> None:
    """SPEC 4.3: nor does it make anything live longer than the latest time says."""
    firewall = DataPlane(policy(1, 10), seed=1)
    assert reason(firewall, udp(1), 1000) == "rule"
    assert reason(firewall, udp(1), 10) == "connection"
    assert reason(firewall, udp(1), 1029.999999) == "connection"
    assert reason(firewall, udp(2), 5) == "rule"
    assert reason(firewall, udp(1), 1059.999999) == "rule"
    assert firewall.counters().time_backwards == 2


def test_a_gap_of_years() -> None:
    """SPEC 4.2: whatever was there is gone, and the table goes on."""
    firewall = DataPlane(policy(1, 1000), seed=1)
    for port in range(900):
        reason(firewall, udp(port + 1), port / 10)
    assert reason(firewall, udp(1), 3e9) == "rule"
    assert len(firewall.connections) == 1


def test_verdicts_do_not_depend_on_the_seed() -> None:
    """Same input, same verdicts; the seed only keys the hash (SPEC 4.9)."""
    answers = []
    for seed in (1, 2, None):
        firewall = DataPlane(policy(2, 50), seed=seed)
        frames = [udp(port % 70 + 1, host=port % 2 + 1, back=port % 5 == 0) for port in range(500)]
        answers.append([reason(firewall, frame, n / 10) for n, frame in enumerate(frames)])
    assert answers[0] == answers[1] == answers[2]


def test_memory_for_connections_is_taken_beforehand() -> None:
    """For no more than there may be (SPEC 4.9); what is in the table stays, and later packets take no more memory."""
    firewall = DataPlane(policy(1, 2000))
    assert reason(firewall, udp(1), 0) == "rule"
    before = firewall.counters().table_bytes
    firewall.populate(500)
    some = firewall.counters().table_bytes
    firewall.populate(10**9)
    taken = firewall.counters().table_bytes
    assert before + 499 * 84 <= some < taken
    assert some + 1500 * 84 <= taken < 2000 * 150
    assert reason(firewall, udp(1), 1) == "connection"
    assert {reason(firewall, udp(port), 1) for port in range(2, 2001)} == {"rule"}
    assert firewall.counters().table_bytes == taken
    assert firewall.counters().entries == 2000
