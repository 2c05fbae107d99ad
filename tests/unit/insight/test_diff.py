"""Two policies over the same captures (SPEC 8.4)."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from dataplane import ChangeError, Policy
from dataplane.insight.diff import Difference, diff
from dataplane.insight.packet_bytes import as_capture_bytes, ip_packet
from dataplane.insight.packet_text import parse_packet
from dataplane.policy.changes import parse_change
from dataplane.policy.schedule import TimedChange
from dataplane.replay.window import Part, Window, read_mappings

OLD = """
security_groups:
  - id: web
    security_group_rules:
      - {id: W1, direction: ingress, protocol: tcp, multiport: "80,22"}
      - {id: W2, direction: ingress, protocol: udp}
      - {id: W-out, direction: egress}
instances: [{id: w, addresses: [192.168.0.10], security_groups: [web]}]
"""
NEW = OLD.replace('"80,22"', '"80,443"')


def capture(folder: Path, *texts: str, name: str = "capture.pcap") -> Path:
    """Packets a second apart."""
    path = folder / name
    packets = [parse_packet(text) for text in texts]
    path.write_bytes(as_capture_bytes(packets, [n * 1_000_000_000 for n in range(len(packets))]))
    return path


def compared(path: Path, old: str = OLD, new: str = NEW, changes: Sequence[TimedChange] = ()) -> Difference:
    return diff(Policy.parse(old), Policy.parse(new), [str(path)], changes)


SSH = ["tcp 10.0.0.1:4000 > 192.168.0.10:22 S", "tcp 192.168.0.10:22 > 10.0.0.1:4000 SA"]
WEB = ["tcp 10.0.0.2:4000 > 192.168.0.10:80 S", "tcp 192.168.0.10:80 > 10.0.0.2:4000 SA"]
TLS = ["tcp 10.0.0.3:4000 > 192.168.0.10:443 S"]


def test_flows_with_both_judgements(tmp_path: Path) -> None:
    """SPEC 8.4, the object of `--json`: both directions are one flow, most packets first, both rules side by side."""
    answer = compared(capture(tmp_path, *TLS, *WEB, *SSH)).to_dict()
    assert answer == {
        "packets": {"same": 2, "changed": 3},
        "flows": [
            {
                "flow": "tcp 10.0.0.1:4000 > 192.168.0.10:22",
                "first_packet": 4,
                "packets": 2,
                "old": {"verdict": "allow", "reason": "rule", "rule": "W1"},
                "new": {"verdict": "deny", "reason": "no-rule-matched", "rule": None},
            },
            {
                "flow": "tcp 10.0.0.3:4000 > 192.168.0.10:443",
                "first_packet": 1,
                "packets": 1,
                "old": {"verdict": "deny", "reason": "no-rule-matched", "rule": None},
                "new": {"verdict": "allow", "reason": "rule", "rule": "W1"},
            },
        ],
        "disconnected": {"total": 2, "by_instance": {"w": 2}},
    }


def test_the_same_policy_changes_nothing(tmp_path: Path) -> None:
    """SPEC 8.4, 5.5: not even connections."""
    answer = compared(capture(tmp_path, *SSH), new=OLD).to_dict()
    assert answer == {
        "packets": {"same": 2, "changed": 0},
        "flows": [],
        "disconnected": {"total": 0, "by_instance": {}},
    }


def test_an_instance_that_only_one_policy_has(tmp_path: Path) -> None:
    """SPEC 7: what touches no instance is bypass, without reason or rule."""
    new = OLD.replace("192.168.0.10]", "192.168.0.11]")
    (flow,) = compared(capture(tmp_path, WEB[0]), new=new).flows
    assert flow.new.to_dict() == {"verdict": "bypass", "reason": None, "rule": None}


def test_disconnected_counts_what_a_remote_group_lost(tmp_path: Path) -> None:
    """SPEC 8.4, 5.4: connections elsewhere that the change cuts are told by their instance too; outbound ones stay."""
    old = """
security_groups:
  - {id: a, security_group_rules: [{id: A1, direction: ingress, remote_group_id: b}, {id: A2, direction: egress}]}
  - {id: b, security_group_rules: [{id: B1, direction: egress}]}
  - {id: c, security_group_rules: [{id: C1, direction: egress}]}
instances:
  - {id: ia, addresses: [10.0.0.1], security_groups: [a]}
  - {id: ib, addresses: [10.0.0.2], security_groups: [b, c]}
"""
    packets = ["udp 10.0.0.2:1 > 10.0.0.1:2", "udp 10.0.0.1:3 > 10.9.9.9:4"]
    found = compared(capture(tmp_path, *packets), old, old.replace("[b, c]", "[c]"))
    assert found.disconnected == {"ia": 1}


def test_icmp_between_two_hosts_is_one_flow(tmp_path: Path) -> None:
    """Requests and replies of any identifier."""
    ping, pong = "icmp 10.0.0.1 > 192.168.0.10 echo-request id", "icmp 192.168.0.10 > 10.0.0.1 echo-reply id"
    path = capture(tmp_path, *(f"{text} {n}" for n in (1, 2) for text in (ping, pong)))
    (flow,) = compared(path, OLD.replace("protocol: udp", "protocol: icmp")).flows
    assert (flow.flow, flow.packets) == ("icmp 10.0.0.1 > 192.168.0.10 echo-request", 4)


def test_captures_taken_at_a_port(tmp_path: Path) -> None:
    """SPEC 7, At a port: both policies judge there."""
    path = capture(tmp_path, "tcp 10.0.0.1:1 > 10.0.0.2:443 S")
    assert compared(path).changed == 0
    assert diff(Policy.parse(OLD), Policy.parse(NEW), [str(path)], at="w").changed == 1


def test_a_part_of_the_captures_with_other_addresses(tmp_path: Path) -> None:
    """SPEC 8.4: `--time` and `--map` are those of replay, and numbers count what is read."""
    path = capture(tmp_path, *SSH, "tcp 10.0.0.3:4000 > 10.7.7.7:443 S", *WEB)
    part = Part(Window.read("2..4"), read_mappings(["10.7.7.7=192.168.0.10"]))
    (flow,) = diff(Policy.parse(OLD), Policy.parse(NEW), [str(path)], part=part).flows
    assert (flow.flow, flow.first_packet, flow.packets) == ("tcp 10.0.0.3:4000 > 192.168.0.10:443", 1, 1)


def test_changes_are_made_in_both(tmp_path: Path) -> None:
    """SPEC 8.4, `--changes`: from then on both say the same."""
    change = TimedChange(0.5, parse_change({"update_rule": {"id": "W1", "multiport": "80"}}))
    found = compared(capture(tmp_path, SSH[0], TLS[0], TLS[0]), changes=[change])
    assert (found.same, found.changed) == (2, 1)


def test_a_change_that_fits_one_policy_only_is_refused(tmp_path: Path) -> None:
    change = TimedChange(0.5, parse_change({"delete_rule": {"id": "W2"}}))
    with pytest.raises(ChangeError, match="W2"):
        compared(capture(tmp_path, SSH[0]), new=NEW.replace("W2", "W3"), changes=[change])


def test_fragments_that_only_one_policy_waits_for(tmp_path: Path) -> None:
    """SPEC 4.6: records that one engine holds back are compared with those of the other all the same."""
    later = struct.pack("!BBHHHBBH", 0x45, 0, 28, 7, 1, 64, 17, 0) + bytes([10, 0, 0, 1, 192, 168, 0, 10]) + bytes(8)
    ssh, tls = (ip_packet(parse_packet(text[0])) for text in (SSH, TLS))
    frames = [(0, ssh)] * 3000 + [(0, later)] + [(0, tls)] * 1000 + [(1, tls)] * 2000
    data = b"".join(struct.pack("<IIII", at, 0, len(frame), len(frame)) + frame for at, frame in frames)
    path = tmp_path / "fragment.pcap"
    path.write_bytes(as_capture_bytes([], []) + data)
    nothing = TimedChange(0.5, parse_change({"update_rule": {"id": "W1", "description": "until then, batches differ"}}))
    found = compared(path, new=OLD.replace("192.168.0.10]", "192.168.0.11]"), changes=[nothing])
    assert (found.same, found.changed) == (0, 6001)
    assert [(flow.packets, flow.first_packet) for flow in found.flows] == [(3000, 1), (3000, 3002), (1, 3001)]
    assert [flow.old.reason for flow in found.flows] == ["rule", "no-rule-matched", "invalid"]


def test_more_flows_than_are_kept(tmp_path: Path) -> None:
    """What is kept of flows is bounded; what is not is counted."""
    packets = 200_000
    body = ip_packet(parse_packet("gre 10.0.0.1 > 192.168.0.10"))
    path = tmp_path / "many.pcap"
    head = struct.pack("<IIII", 0, 0, len(body), len(body)) + body[:12]
    data = b"".join(head + struct.pack("!I", 0x0A000000 + n) + body[16:] for n in range(packets))
    path.write_bytes(as_capture_bytes([], []) + data)
    found = compared(path, OLD, OLD.replace("protocol: udp", "protocol: gre"))
    assert (found.same, found.changed) == (0, packets)
    assert found.not_kept > 0
    assert len(found.flows) + found.not_kept == packets
    assert len(found.flows) > 100_000


# ---- the command line ----


def run(*arguments: str, folder: Path, given: bytes = b"") -> tuple[int, str, str]:
    command = [sys.executable, "-m", "dataplane", "diff", *arguments]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, input=given)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "old.yaml").write_text(OLD)
    (tmp_path / "new.yaml").write_text(NEW)
    capture(tmp_path, *SSH)
    return tmp_path


def test_exit_status_1_and_the_flows_as_text(folder: Path) -> None:
    """SPEC 8.4: exit 1 when a verdict differs."""
    status, text, _ = run("old.yaml", "new.yaml", "capture.pcap", folder=folder)
    assert status == 1
    assert "2 of 2 packets get another verdict." in text
    assert "old allow rule W1\n  new deny no-rule-matched\n" in text
    assert "would cut 1 inbound connection (w: 1)." in text


def test_a_time_and_addresses_on_the_command_line(folder: Path) -> None:
    asked = ("old.yaml", "new.yaml", "capture.pcap", "--json")
    status, text, _ = run(*asked, "--time", "1..", "--map", "10.0.0.1=10.0.0.9", folder=folder)
    assert (status, json.loads(text)["packets"]) == (0, {"same": 1, "changed": 0})
    assert run(*asked, "--time", "1", folder=folder)[0] == 2
    assert run(*asked, "--map", "10.0.0.1", folder=folder)[0] == 2


def test_a_comparison_of_nothing_says_so(folder: Path) -> None:
    """SPEC 8.4: no difference where nothing was checked is no assurance; of one policy's instances alone it is one."""
    elsewhere = ("--map", "192.168.0.10=198.51.100.9")
    status, text, told = run("old.yaml", "new.yaml", "capture.pcap", *elsewhere, folder=folder)
    assert (status, text.splitlines()[0]) == (0, "0 of 2 packets get another verdict.")
    assert told.startswith("No packet is from or to an instance of the policy, so nothing was checked: ")
    _, _, told = run("old.yaml", "new.yaml", "capture.pcap", "--time", "1000..", folder=folder)
    assert told.startswith("No packet is within --time. The captures begin at 1970-01-01T00:00:00Z: ")
    assert run("old.yaml", "old.yaml", "capture.pcap", folder=folder)[2] == ""
    (folder / "other.yaml").write_text(OLD.replace("192.168.0.10", "198.51.100.9"))
    assert run("other.yaml", "old.yaml", "capture.pcap", folder=folder)[::2] == (1, "")


def test_exit_status_0_from_standard_input(folder: Path) -> None:
    """SPEC 8.4: exit 0 when no verdict differs."""
    given = (folder / "capture.pcap").read_bytes()
    status, text, _ = run("old.yaml", "old.yaml", "-", "--json", folder=folder, given=given)
    assert status == 0
    assert json.loads(text)["packets"] == {"same": 2, "changed": 0}


def test_exit_statuses_of_faults(folder: Path) -> None:
    """SPEC 7: 2 for a policy with mistakes, 3 for a capture that cannot be read to its end; what was read is told."""
    (folder / "bad.yaml").write_text("instances: [{}]")
    status, text, said = run("bad.yaml", "bad.yaml", "capture.pcap", folder=folder)
    assert (status, text) == (2, "")
    assert "bad.yaml:1" in said
    (folder / "cut.pcap").write_bytes((folder / "capture.pcap").read_bytes()[:-5])
    status, text, said = run("old.yaml", "new.yaml", "cut.pcap", "--json", folder=folder)
    assert status == 3
    assert json.loads(text)["packets"]["changed"] == 1
    assert "cut.pcap: at byte" in said
    status, _, said = run("old.yaml", "new.yaml", "none.pcap", folder=folder)
    assert status == 3
    assert "none.pcap" in said


def test_a_page_takes_the_place_of_nothing_that_is_read(folder: Path) -> None:
    """With --force too: policies that the changes put in force are read as well."""
    (folder / "changes.yaml").write_text("[{at: 1, apply_policy: next.yaml}]")
    (folder / "next.yaml").write_text(NEW)
    for name in ("old.yaml", "new.yaml", "capture.pcap", "changes.yaml", "next.yaml"):
        before = (folder / name).read_bytes()
        files = ("old.yaml", "new.yaml", "capture.pcap", "--changes", "changes.yaml")
        status, out, told = run(*files, "--report", name, "--force", folder=folder)
        assert (status, out) == (2, "")
        assert told.endswith(f"{name}: --report would overwrite {name}, which is read: name another file\n")
        assert (folder / name).read_bytes() == before


CLOSED = "[{at: 900, update_rule: {id: W1, multiport: '80'}}, {at: 7, delete_rule: {id: W2}}]"


def test_changes_in_the_place_of_the_new_policy_make_it_of_the_old_one(folder: Path) -> None:
    """SPEC 8.4: whatever their times are; a page about it has no command that no policy's file would do for."""
    (folder / "close.yaml").write_text(CLOSED)
    (folder / "closed.yaml").write_text(OLD.replace('"80,22"', '"80"').replace("protocol: udp", "protocol: gre"))
    asked = ("capture.pcap", "--json", "--report", "page.html", "--force")
    made = run("old.yaml", "close.yaml", *asked, folder=folder)
    assert "dataplane explain" not in (folder / "page.html").read_text()
    assert made == run("old.yaml", "closed.yaml", *asked, folder=folder)
    assert "dataplane explain" in (folder / "page.html").read_text()
    assert (made[0], json.loads(made[1])["packets"]) == (1, {"same": 0, "changed": 2})


def test_changes_that_the_old_policy_cannot_have_are_refused(folder: Path) -> None:
    """SPEC 5.6: with their place; and where the old policy has mistakes, with these."""
    (folder / "close.yaml").write_text(CLOSED.replace("id: W2", "id: none"))
    status, text, told = run("old.yaml", "close.yaml", "capture.pcap", folder=folder)
    assert (status, text) == (2, "")
    assert told.startswith("close.yaml:1:")
    assert "none" in told
    (folder / "bad.yaml").write_text("instances: [{}]")
    status, _, told = run("bad.yaml", "close.yaml", "capture.pcap", folder=folder)
    assert status == 2
    assert "bad.yaml:1" in told
    (folder / "next.yaml").write_text(NEW)
    (folder / "other.yaml").write_text("[{at: 0, apply_policy: next.yaml}]")
    status, _, told = run("old.yaml", "other.yaml", "capture.pcap", "--report", "next.yaml", "--force", folder=folder)
    assert status == 2
    assert "--report would overwrite next.yaml, which is read" in told
