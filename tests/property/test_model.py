"""Model and engine against stories written by hand from the seed and SPEC 3 and 7, and what holds in every story."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import frames
from .model import Connection, Model, Verdict
from .scene import Scene, group, instance, rule
from .story import ChangeStep, PacketStep, Player, Story
from .strategies import crowded_stories, disrupted_stories, stories, tcp_stories

PC = "203.0.113.9"
A, B, VIP = "192.168.0.10", "192.168.1.10", "192.168.0.21"
OUT4 = rule("out4", "egress", remote_ip_prefix="0.0.0.0/0", priority=100)


def test_figure_1_icmp_but_no_ssh_from_the_pc() -> None:
    """Seed, Figure 1: ICMP from the PC reaches ECS-A, SSH does not; ECS-A reaches the Internet."""
    sg = group("sg-a", rule("A01", protocol="icmp", remote_ip_prefix=f"{PC}/32"), OUT4)
    scene = Scene([sg], [instance("ecs-a", A, "sg-a")])
    assert scene.ping(PC, A) == "allow | ecs-a ingress allow new rule A01 sg-a inbound"
    assert scene.ping(A, PC, reply=True) == "allow | ecs-a egress allow established connection A01 sg-a inbound"
    assert scene.tcp(PC, A, (4000, 22), "S", 1) == "deny | ecs-a ingress deny new no-rule-matched"
    assert scene.ping("203.0.113.10", A) == "deny | ecs-a ingress deny new no-rule-matched"
    assert scene.tcp(A, PC, (4000, 443), "S", 1) == "allow | ecs-a egress allow new rule out4 sg-a outbound"
    answer = scene.tcp(PC, A, (443, 4000), "SA", 7, 2)
    assert answer == "allow | ecs-a ingress allow established connection out4 sg-a outbound"


def figure_3() -> Scene:
    sg_a = group(
        "sg-a",
        rule("A01", protocol="tcp", multiport="22", remote_ip_prefix="172.16.0.0/24"),
        rule("A02", remote_group_id="sg-a"),
        rule("A-out", "egress"),
    )
    sg_b = group(
        "sg-b",
        rule("B01", protocol="tcp", multiport="22", remote_group_id="sg-a"),
        rule("B02", remote_group_id="sg-b"),
        rule("B-out", "egress"),
    )
    a = [instance(f"ecs-a0{n}", f"192.168.0.1{n}", "sg-a") for n in (1, 2)]
    b = [instance(f"ecs-b0{n}", f"192.168.1.1{n}", "sg-b") for n in (1, 2)]
    return Scene([sg_a, sg_b], a + b)


def test_figure_3_addresses_and_groups_as_sources() -> None:
    """Seed, Figure 3: SSH from 172.16.0.0/24 to Sg-A and from Sg-A to Sg-B, everything within each SG."""
    scene = figure_3()
    a1, a2, b1, b2 = "192.168.0.11", "192.168.0.12", "192.168.1.11", "192.168.1.12"
    a1_out = "ecs-a01 egress allow new rule A-out sg-a outbound"
    b1_out = "ecs-b01 egress allow new rule B-out sg-b outbound"
    ssh = (4000, 22)
    assert scene.tcp("172.16.0.7", a1, ssh, "S", 1) == "allow | ecs-a01 ingress allow new rule A01 sg-a inbound"
    assert scene.tcp("172.16.1.7", a1, ssh, "S", 1) == "deny | ecs-a01 ingress deny new no-rule-matched"
    assert scene.datagram(17, a1, a2, (5, 6)) == f"allow | {a1_out} | ecs-a02 ingress allow new rule A02 sg-a inbound"
    assert scene.tcp(a1, b1, ssh, "S", 1) == f"allow | {a1_out} | ecs-b01 ingress allow new rule B01 sg-b inbound"
    assert scene.tcp(a1, b1, (4000, 80), "S", 1) == f"deny | {a1_out} | ecs-b01 ingress deny new no-rule-matched"
    assert scene.datagram(47, b1, b2) == f"allow | {b1_out} | ecs-b02 ingress allow new rule B02 sg-b inbound"
    assert scene.tcp(b1, a1, ssh, "S", 1) == f"deny | {b1_out} | ecs-a01 ingress deny new no-rule-matched"


def test_figure_4_a_virtual_ip_is_no_member_of_the_group() -> None:
    """Seed, Figure 4, and SPEC 3.3: B02 (source Sg-A) does not let the virtual IP in; B01 (its address) does."""
    b01 = rule("B01", remote_ip_prefix=f"{VIP}/32", enabled=False)
    sg_b = group("sg-b", b01, rule("B02", remote_group_id="sg-a"), rule("B-out", "egress"))
    sg_a = group("sg-a", rule("A01", remote_group_id="sg-b"), rule("A-out", "egress"))
    macs = ["02:00:00:00:00:0a", "02:00:00:00:00:0b"]
    holders = [
        instance(f"ecs-a0{n + 1}", f"192.168.0.1{n + 1}", "sg-a", mac=macs[n], allowed_address_pairs=[VIP])
        for n in (0, 1)
    ]
    scene = Scene([sg_a, sg_b], [*holders, instance("ecs-b", B, "sg-b")])
    first = "ecs-a01 egress allow new rule A-out sg-a outbound"
    denied = f"deny | {first} | ecs-b ingress deny new no-rule-matched"
    assert scene.ping("192.168.0.11", B).endswith("ecs-b ingress allow new rule B02 sg-b inbound")
    assert scene.ping(VIP, B, source_mac=macs[0]) == denied
    scene.change(update_rule={"id": "B01", "enabled": True})
    second = "ecs-a02 egress allow new rule A-out sg-a outbound"
    allowed = "ecs-b ingress allow new rule B01 sg-b inbound"
    assert scene.ping(VIP, B, identifier=8, source_mac=macs[1]) == f"allow | {second} | {allowed}"
    to_vip = scene.ping(B, VIP, identifier=9, destination_mac=macs[1])
    assert to_vip.endswith("| ecs-a02 ingress allow new rule A01 sg-a inbound")


def test_an_address_of_its_own_comes_before_a_virtual_one() -> None:
    """SPEC 7: the MAC decides where two hold an address; where it is of neither, whose own it is."""
    sg = group("sg-a", rule("A-out", "egress"))
    macs = ["02:00:00:00:00:0a", "02:00:00:00:00:0b"]
    router = instance("router", "192.168.0.11", "sg-a", mac=macs[0], allowed_address_pairs=["192.168.1.0/24"])
    scene = Scene([sg], [router, instance("ecs-b", B, "sg-a", mac=macs[1])])
    assert scene.ping(B, PC).split()[2] == "ecs-b"
    assert scene.ping(B, PC, source_mac=macs[0]).split()[2] == "router"
    assert scene.ping("192.168.1.77", PC, source_mac=macs[1]).split()[2] == "router"


def test_figure_5_peered_vpcs_name_each_others_groups() -> None:
    """Seed, Figure 5: A01 with source Sg-B and B01 with source Sg-A let the two VPCs talk."""
    sg_a = group("sg-a", rule("A01", remote_group_id="sg-b"), rule("A-out", "egress"))
    sg_b = group("sg-b", rule("B01", remote_group_id="sg-a"), rule("B-out", "egress"))
    scene = Scene([sg_a, sg_b], [instance("ecs-a", A, "sg-a", vpc="vpc-a"), instance("ecs-b", B, "sg-b", vpc="vpc-b")])
    a_out = "ecs-a egress allow new rule A-out sg-a outbound"
    assert scene.ping(A, B) == f"allow | {a_out} | ecs-b ingress allow new rule B01 sg-b inbound"
    b_out = "ecs-b egress allow new rule B-out sg-b outbound"
    assert scene.ping(B, A) == f"allow | {b_out} | ecs-a ingress allow new rule A01 sg-a inbound"
    assert scene.ping(PC, A) == "deny | ecs-a ingress deny new no-rule-matched"


def test_table_1_the_default_group() -> None:
    """Seed, Table 1, and SPEC 3.4: members reach each other and everyone outside; nobody outside reaches them."""
    model = Model({"instances": [{"id": "ecs-a", "addresses": [A]}, {"id": "ecs-b", "addresses": [B]}]})

    def send(source: str, destination: str) -> Verdict:
        packet = frames.packet(source, destination, 17, frames.datagram(source, destination, 17, (5, 6)))
        return model.process(frames.ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", packet), 0)

    assert [c.security_group for c in send(A, B).checks] == ["default", "default"]
    assert send(A, PC).verdict == "allow"
    assert send("203.0.113.10", A).verdict == "deny"


def test_matching_order() -> None:
    """Seed, Figure 2, and SPEC 3.1: SGs in their order, then priority, then deny before allow; disabled rules never."""
    first = group("sg-1", rule("late-deny", action="deny", priority=100, protocol="udp"))
    second = group(
        "sg-2",
        rule("off", action="deny", priority=1, enabled=False),
        rule("b-allow", protocol="icmp", priority=2),
        rule("a-deny", protocol="icmp", icmp_type=8, priority=2, action="deny"),
        rule("tcp-allow", protocol="tcp", multiport="80-82,1000", priority=3),
        rule("tcp-deny", protocol="tcp", priority=4, action="deny"),
        rule("udp-allow", protocol="udp", priority=1),
    )
    scene = Scene([first, second], [instance("ecs-a", A, "sg-1", "sg-2")])
    assert scene.datagram(17, PC, A, (1, 2)) == "deny | ecs-a ingress deny new rule late-deny sg-1"
    assert scene.ping(PC, A) == "deny | ecs-a ingress deny new rule a-deny sg-2"
    assert scene.tcp(PC, A, (4000, 82), "S", 1) == "allow | ecs-a ingress allow new rule tcp-allow sg-2 inbound"
    assert scene.tcp(PC, A, (4000, 1000), "S", 1) == "allow | ecs-a ingress allow new rule tcp-allow sg-2 inbound"
    assert scene.tcp(PC, A, (4000, 83), "S", 1) == "deny | ecs-a ingress deny new rule tcp-deny sg-2"
    assert scene.datagram(47, PC, A) == "deny | ecs-a ingress deny new no-rule-matched"


def test_remotes_and_ports_by_direction() -> None:
    """SPEC 3.2, 3.3: ingress takes the source, egress the destination as remote; both the destination port."""
    sg = group(
        "sg-1",
        rule("in", protocol="udp", multiport="53", remote_address_group_id="ag"),
        rule("out", "egress", protocol="udp", multiport="53", remote_address_group_id="ag"),
    )
    ag = {"id": "ag", "ip_version": 4, "ip_set": ["203.0.113.0/29", "203.0.113.9", "198.51.100.5-198.51.100.7"]}
    scene = Scene([sg], [instance("ecs-a", A, "sg-1")], address_groups=[ag])
    allowed = {f"203.0.113.{n}" for n in (*range(8), 9)} | {f"198.51.100.{n}" for n in (5, 6, 7)}
    for n in range(4, 12):
        for remote in (f"203.0.113.{n}", f"198.51.100.{n}"):
            wanted = "allow" if remote in allowed else "deny"
            assert scene.datagram(17, remote, A, (4000, 53)).split()[0] == wanted
            assert scene.datagram(17, A, remote, (4001, 53)).split()[0] == wanted
            assert scene.datagram(17, remote, A, (53, 4002)).split()[0] == "deny"


def test_families_are_apart() -> None:
    """SPEC 3.1: an IPv4 rule says nothing about IPv6, and the other way round."""
    sg = group("sg-1", rule("six", ethertype="IPv6", protocol="icmpv6"))
    ends = {"id": "ecs-a", "addresses": [A, "fd00::1"], "security_groups": ["sg-1"]}
    scene = Scene([sg], [ends])
    assert scene.ping("2001:db8::1", "fd00::1") == "allow | ecs-a ingress allow new rule six sg-1 inbound"
    assert scene.ping(PC, A) == "deny | ecs-a ingress deny new no-rule-matched"


def test_load_balancer_passes_without_rules() -> None:
    """Seed, Notes and Constraints, and SPEC 3.5: known by MAC or address; not without transfer_client_ip."""
    mac, other = "02:00:00:00:0e:01", "02:00:00:00:0e:02"
    balancers = [
        {"id": "elb-1", "addresses": ["192.168.0.100"], "mac": mac, "backends": ["ecs-a"], "transfer_client_ip": True},
        {"id": "elb-2", "addresses": ["192.168.0.101"], "mac": other, "backends": ["ecs-a"]},
    ]
    sg = group("sg-a", rule("deny", action="deny"))
    instances = [instance("ecs-a", A, "sg-a"), instance("ecs-b", B, "sg-a")]
    scene = Scene([sg], instances, load_balancers=balancers)
    passed = "allow | ecs-a {} allow untracked load-balancer"
    assert scene.ping(PC, A, source_mac=mac) == passed.format("ingress")
    assert scene.ping("192.168.0.100", A) == passed.format("ingress")
    assert scene.ping(A, PC, destination_mac=mac, reply=True) == passed.format("egress")
    assert scene.ping(PC, B, source_mac=mac) == "deny | ecs-b ingress deny new rule deny sg-a"
    assert scene.ping(PC, A, source_mac=other) == "deny | ecs-a ingress deny new rule deny sg-a"
    assert scene.ping(A, PC, reply=True) == "deny | ecs-a egress deny invalid invalid"


def test_bypass() -> None:
    """SPEC 7, first point: neither end is an instance's, or the frame is no IP."""
    scene = Scene([group("sg-1")], [instance("ecs-a", A, "sg-1")])
    assert scene.ping(PC, B) == "bypass"
    frame = frames.ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", bytes(46), 0x88CC)
    assert scene.frame(frame) == "bypass"


ALONE = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@ALONE
@given(st.one_of(stories(), disrupted_stories(), tcp_stories()))
def test_every_answer_is_in_form(story: Story) -> None:
    """SPEC 7 and 1: the words fit each other, egress comes first, and ingress only where egress allows."""
    for step in Player(story).play():
        if isinstance(step, ChangeStep):
            continue
        checks = step.expected.checks
        denied = [check.verdict == "deny" for check in checks]
        assert not any(denied[:-1])
        assert step.expected.verdict == ("bypass" if not checks else "deny" if denied[-1] else "allow")
        assert [check.direction for check in checks] in ([], ["egress"], ["ingress"], ["egress", "ingress"])
        for check in checks:
            assert (check.rule is None) == (check.security_group is None)
            if check.state in ("established", "related"):
                assert check.verdict == "allow"
                assert check.rule is not None
            if check.state == "new":
                assert (check.verdict == "allow") == (check.connection is not None)
            if check.state in ("invalid", "disconnected"):
                assert check.verdict == "deny"


@ALONE
@given(st.one_of(stories(), disrupted_stories(), tcp_stories()))
def test_a_packet_denied_at_once_changes_nothing(story: Story) -> None:
    """SPEC 4.1, 4.4, 5.3: without the packets that their first check denies, every other answer is the same.

    Kept are those that were refused for their place, which the other side may agree with.
    """
    player = Player(story)
    steps = [(step, player.model.refused_for_its_place) for step in player.play()]
    silent = frames.ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", bytes(46), 0x88CC)
    again = Model(story.document)
    for step, kept in steps:
        if isinstance(step, ChangeStep):
            if not step.refused:
                again.apply(step.change, step.time_ns)
        elif not kept and [check.verdict for check in step.expected.checks] == ["deny"]:
            again.process(silent, step.time_ns)
        else:
            assert again.process(step.frame, step.time_ns) == step.expected


@ALONE
@given(crowded_stories())
def test_the_table_never_overflows(story: Story) -> None:
    """SPEC 4.9: never more live entries than max_entries, and an established connection stays."""
    player = Player(story)
    established: list[Connection] = []
    for step in player.play():
        assert isinstance(step, PacketStep)
        zone = player.model.zones.get("ecs-a", {})
        alive = [connection for connection in zone.values() if player.model.alive(connection)]
        assert len(alive) <= player.model.document["conntrack"]["max_entries"]
        for connection in established:
            assert not player.model.alive(connection) or ended(connection) or any(c is connection for c in alive)
        established = [connection for connection in alive if not connection.tentative()]


def ended(connection: Connection) -> bool:
    """Whether a new SYN may have replaced it (SPEC 4.4)."""
    return connection.tcp is not None and connection.tcp.state in ("closing", "closed")
