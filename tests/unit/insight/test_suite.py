"""SPEC 8.6: `dataplane test`, its cases, its reports, and the plugin for pytest."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from dataplane.cli.suite import _is_written
from dataplane.insight.cases import BrokenCase, find_cases
from dataplane.insight.conversations import Conversations
from dataplane.insight.packet_text import parse_packet
from dataplane.policy import PolicyError
from dataplane.pytest_plugin import Judge

ROOT = Path(__file__).resolve().parents[3]
POLICY = """\
security_groups:
  - id: web
    security_group_rules:
      - {id: A01, direction: ingress, protocol: tcp, multiport: "22", remote_ip_prefix: 172.16.0.0/24}
      - {id: out, direction: egress}
instances:
  - {id: ecs-a, addresses: [172.16.1.5], security_groups: [web]}
"""
CASES = """\
policy: policy.yaml
cases:
  - name: from the office
    packets:
      - 0 tcp 172.16.0.9:40000 > 172.16.1.5:22 S => allow rule=A01 security_group=web
      - 1 tcp 172.17.0.9:40000 > 172.16.1.5:22 S
    expect:
      - {packet: 2, verdict: deny, reason: no-rule-matched}
  - name: cut
    packets: |
      0 tcp 172.16.0.9:40000 > 172.16.1.5:22 S => allow
      tcp 172.16.1.5:22 > 172.16.0.9:40000 SA => allow state=established
      # it was cut a second before
      2 tcp 172.16.0.9:40000 > 172.16.1.5:22 A => allow
    changes:
      - {at: 1, update_rule: {id: A01, multiport: "443"}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A policy, and a file of two cases of which the second fails."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "ssh.test.yaml").write_text(CASES)
    return tmp_path


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "dataplane", "test", *words)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_a_failed_case_says_what_came_instead_and_why(folder: Path) -> None:
    done = run(folder, ".")
    assert done.returncode == 1
    assert "passed ssh.test.yaml::from the office\n" in done.stdout
    assert "failed ssh.test.yaml::cut\n" in done.stdout
    assert "ssh.test.yaml:14:" in done.stdout
    assert "verdict: expected allow, found deny" in done.stdout
    assert "why packet 3 (tcp 172.16.0.9:40000 > 172.16.1.5:22):" in done.stdout
    assert "its connection was cut by a change of the policy" in done.stdout
    assert "cut by the change at 1 s (update rule A01: multiport)" in done.stdout
    assert "1 passed, 1 failed in" in done.stdout


def test_cases_are_chosen_by_their_names(folder: Path) -> None:
    assert run(folder, ".", "-k", "OFFICE").returncode == 0
    assert "1 left out" in run(folder, ".", "-k", "cut").stdout
    nothing = run(folder, ".", "-k", "nowhere")
    assert nothing.returncode == 2
    assert "none of 2 has nowhere in its name" in nothing.stdout


def test_it_stops_at_the_first_that_does_not_pass(folder: Path) -> None:
    (folder / "a.test.yaml").write_text(CASES.replace("=> allow rule=A01 security_group=web", "=> deny"))
    done = json.loads(run(folder, ".", "-x", "--json").stdout)
    assert [(case["name"], case["outcome"]) for case in done["cases"]] == [("a.test.yaml::from the office", "failed")]
    assert (done["passed"], done["failed"], done["error"]) == (0, 1, 0)


def test_a_report_for_ci_has_each_case_once(folder: Path) -> None:
    (folder / "again.test.yaml").write_text(CASES.replace("name: cut", "name: from the office"))
    (folder / "broken.test.yaml").write_text("policy: nowhere.yaml\npackets: []\n")
    done = run(folder, ".", "--junit", "report.xml")
    assert done.returncode == 2
    (suite,) = ElementTree.parse(folder / "report.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("5", "2", "1")
    names = [(case.get("classname"), case.get("name")) for case in suite]
    assert len(set(names)) == 5
    (failure,) = next(case for case in suite if case.get("name") == "cut")
    assert failure.tag == "failure"
    assert failure.text
    assert "expected allow, found deny" in failure.text


def test_a_report_is_xml_whatever_names_hold(folder: Path) -> None:
    """Controls and other characters that XML has no place for are escaped, and names are still unlike."""
    text = CASES.replace("name: cut", r'name: "\x01</testcase>\uFFFE ]]>"').replace(
        "name: from the office", "name: same 4"
    )
    again = "  - {name: same, packets: [tcp 10.0.0.1:1 > 172.16.1.5:22 S => allow]}\n"
    (folder / "ssh.test.yaml").write_text(text + again + again)
    assert run(folder, "ssh.test.yaml", "--junit", "report.xml").returncode == 1
    (suite,) = ElementTree.parse(folder / "report.xml").getroot()
    names = [case.get("name") for case in suite]
    assert names[1] == r"\x01</testcase>\ufffe ]]>"
    assert len(set(names)) == 4
    messages = [failure.get("message") for failure in suite.iter("failure")]
    assert all(message and "verdict: expected allow, found deny" in message for message in messages)


def test_a_report_destroys_nothing_that_is_read(folder: Path) -> None:
    done = run(folder, "ssh.test.yaml", "--junit", "ssh.test.yaml")
    assert done.returncode == 2
    assert (folder / "ssh.test.yaml").read_text() == CASES
    assert run(folder, "ssh.test.yaml", "--junit", "policy.yaml").returncode == 2
    assert (folder / "policy.yaml").read_text() == POLICY


@pytest.mark.parametrize("path", ["all.test.yaml", ".", "folder"])
def test_a_report_takes_the_place_of_nothing_that_a_case_names(folder: Path, path: str) -> None:
    """With --force too, as for replay: policies, captures, changes, expectations, and policies that changes name."""
    case = folder / "folder"
    case.mkdir()
    (case / "policy.yaml").write_text(POLICY)
    (case / "expect.yaml").write_text("[{packet: 1, verdict: allow}]")
    (case / "packets.txt").write_text("tcp 172.16.0.9:1 > 172.16.1.5:22 S")
    (case / "next.yaml").write_text(POLICY)
    (case / "changes.yaml").write_text("[{at: 1, apply_policy: next.yaml}]")
    (folder / "all.test.yaml").write_text(
        "policy: folder/policy.yaml\nexpect: folder/expect.yaml\nchanges: folder/changes.yaml\n"
        "cases: [{packets: folder/packets.txt}, {capture: [folder/packets.txt]}, {policy: [broken]}]\n"
    )
    (folder / "link").symlink_to(case / "policy.yaml")
    names = ("policy.yaml", "expect.yaml", "packets.txt", "next.yaml", "changes.yaml", "../link")
    for name, option in zip(names, cycle(("--junit", "--report"))):
        before = (case / name).read_text()
        done = run(folder, path, option, f"folder/{name}", "--force")
        assert (done.returncode, done.stdout) == (2, "")
        assert "which is read: name another file" in done.stderr
        assert (case / name).read_text() == before


@pytest.mark.parametrize("option", ["--junit", "--report"])
def test_a_report_that_cannot_be_written_is_told_before_a_case_runs(folder: Path, option: str) -> None:
    done = run(folder, ".", option, "nowhere/report")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"nowhere/report: it cannot be written: there is no folder {folder}/nowhere:"
        f" make it (mkdir -p {folder}/nowhere), or name another place\n"
    )
    run(folder, ".", option, "report")
    assert sorted(path.name for path in folder.iterdir() if "report" in path.name) == ["report"]


def test_the_examples_are_cases() -> None:
    done = run(ROOT, "examples")
    assert done.returncode == 0, done.stdout
    assert "9 passed in" in done.stdout


def test_a_folder_with_a_capture_is_a_case(tmp_path: Path) -> None:
    """With `policy.yaml` and `expect.yaml`, and changes where they are."""
    case = tmp_path / "deep" / "ssh-cut"
    case.mkdir(parents=True)
    for name in ("policy.yaml", "expect.yaml", "changes.yaml"):
        (case / name).write_bytes((ROOT / "examples/ssh-cut" / name).read_bytes())
    (case / "any.pcap").write_bytes((ROOT / "pcaps/ssh-cut.pcap").read_bytes())
    assert run(tmp_path, ".").returncode == 0
    (case / "changes.yaml").unlink()
    assert run(tmp_path, ".").returncode == 1
    (case / "any.pcap").write_bytes((ROOT / "pcaps/ssh-cut.pcap").read_bytes()[:-3])
    assert run(tmp_path, ".").returncode == 3
    (case / "any.pcap").unlink()
    missing = run(tmp_path, ".")
    assert missing.returncode == 3
    assert "no capture" in missing.stdout


def test_a_folder_with_lines_of_packets_is_a_case(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "packets.txt").write_text("udp 172.16.1.5:4000 > 9.9.9.9:53 => allow rule=out\n# the answer\n")
    (tmp_path / "expect.yaml").write_text("[{packet: 1, state: new}]")
    assert run(tmp_path, ".").returncode == 0
    (tmp_path / "packets.txt").write_text("udp 172.16.1.5:4000 > 9.9.9.9:53 => deny\n")
    done = run(tmp_path, str(tmp_path))
    assert done.returncode == 1
    assert "packets.txt:1:" in done.stdout


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("policy: p.yaml\npackets: [tcp 1.1.1.1:1 > 2.2.2.2:2 S => allow]\n", None, "p.yaml"),
        ("polcy: policy.yaml\n", 1, "did you mean policy?"),
        ("policy: policy.yaml\nexpect: [{verdict: deny}]\n", 1, "either packets or a capture"),
        ("policy: policy.yaml\npackets:\n  - tcp 1.1.1.1:1 > 2.2.2.2:2 S\n", 1, "nothing is expected"),
        ("policy: policy.yaml\npackets:\n  - tcp 1.1.1.1 > 2.2.2.2:2 S => deny\n", 3, "has no port"),
        ("policy: policy.yaml\npackets: |\n  tcp 1.1.1.1:1 > 2.2.2.2:2 S\n  tcp nonsense\n", 4, "nonsense"),
        ("policy: policy.yaml\npackets: [tcp 1.1.1.1:1 > 2.2.2.2:2 S => alow]\n", 2, "alow"),
        ("policy: policy.yaml\npackets: [tcp 1.1.1.1:1 > 2.2.2.2:2 S => deny colour=red]\n", 2, "colour=red"),
        ("policy: policy.yaml\npackets: ['1 udp 1.1.1.1:1 > 2.2.2.2:2', '0 udp 1.1.1.1:1 > 2.2.2.2:2']\n", 2, "order"),
        ("policy: {security_groups: [{id: 5}]}\npackets: [x]\n", 1, "id"),
        ("cases: []\n", 1, "no case"),
        ("- 1\n", 1, "a mapping is needed"),
        ("policy: policy.yaml\npackets: [x]\nchanges: [{at: 1}]\n", 2, "x"),
        ("policy: policy.yaml\npackets: [udp 1.1.1.1:1 > 2.2.2.2:2 => deny]\nchanges:\n  - {at: 1}\n", 4, "add_rule"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(tmp_path: Path, text: str, line: int | None, words: str) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "bad.test.yaml").write_text(text)
    (case,) = find_cases([tmp_path])
    assert isinstance(case, BrokenCase)
    assert words in case.why
    if line:
        assert f"bad.test.yaml:{line}:" in case.why


def test_a_capture_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "bad.test.yaml").write_text("policy: policy.yaml\ncapture: none.pcap\nexpect: [{verdict: deny}]\n")
    done = run(tmp_path, ".")
    assert done.returncode == 3
    assert "error bad.test.yaml\n  none.pcap: No such file" in done.stdout


def test_a_time_is_told_from_a_protocol(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    lines = "47 172.16.1.5 > 9.9.9.9 => allow\n  701.5 47 9.9.9.9 > 172.16.1.5 => deny reason=no-rule-matched\n"
    (tmp_path / "gre.test.yaml").write_text(f"policy: policy.yaml\npackets: |\n  {lines}")
    (case,) = find_cases([tmp_path])
    assert not isinstance(case, BrokenCase)
    assert list(case.times_ns) == [0, 701_500_000_000]
    assert run(tmp_path, ".").returncode == 0


def test_lines_of_tcp_are_a_conversation() -> None:
    """Each side's numbers go on from what it sent; a SYN sent again is the same, one after a close a new connection."""
    talk = Conversations()
    there, back = "tcp 10.0.0.1:1 > 10.0.0.2:2", "tcp 10.0.0.2:2 > 10.0.0.1:1"
    told = [
        talk.numbered(parse_packet(line))
        for line in (f"{there} S", f"{there} S", f"{back} SA", f"{there} A", f"{there} FA", f"{back} FA", f"{there} S")
    ]
    first, again, answer, ack, fin, last, new = told
    assert (first.sequence, again.sequence) == (first.sequence, first.sequence)
    assert answer.acknowledgement == first.sequence + 1
    assert (ack.sequence, ack.acknowledgement) == (first.sequence + 1, answer.sequence + 1)
    assert fin.sequence == ack.sequence
    assert last.acknowledgement == fin.sequence + 1
    assert new.sequence > fin.sequence + (1 << 16)


# ---- pytest ----


def pytest_run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_pytest_takes_files_of_cases(folder: Path) -> None:
    done = pytest_run(folder)
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert "why packet 3" in done.stdout
    assert "Traceback" not in done.stdout


def test_the_fixture_judges_packets_of_scapy(folder: Path) -> None:
    (folder / "ssh.test.yaml").unlink()
    (folder / "test_it.py").write_text(
        """
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

def test_list(dataplane):
    syn = IP(src="172.16.0.9", dst="172.16.1.5") / TCP(sport=4000, dport=22, flags="S")
    other = Ether() / IP(src="172.17.0.9", dst="172.16.1.5") / TCP(sport=4000, dport=22, flags="S")
    first, second = dataplane("policy.yaml", [syn, other])
    assert (first.verdict, first.checks[0].rule) == ("allow", "A01")
    assert (second.verdict, second.checks[0].reason) == ("deny", "no-rule-matched")

def test_one(dataplane):
    (verdict,) = dataplane(open("policy.yaml").read(), IP(src="172.16.1.5", dst="9.9.9.9") / TCP(dport=80))
    assert verdict.verdict == "allow"
    (verdict,) = dataplane({"instances": []}, bytes(Ether() / IP() / TCP()))
    assert verdict.verdict == "bypass"

def test_plane(dataplane):
    plane = dataplane("policy.yaml")
    assert plane.policy.instance("ecs-a").addresses == ("172.16.1.5",)
"""
    )
    done = pytest_run(folder)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_the_fixture_takes_a_document_of_one_line(folder: Path) -> None:
    """SPEC 8.6: policy in, packets in; text that is no packet of scapy is told where it goes."""
    judge: Any = Judge()
    (verdict,) = judge("{instances: []}", bytes(14))
    assert verdict.verdict == "bypass"
    with pytest.raises(PolicyError, match='key "instance" is not known'):
        judge("{instance: []}")
    (folder / "a: b.yaml").write_text("instances: []")
    assert judge(str(folder / "a: b.yaml")).policy.instances == ()
    with pytest.raises(PolicyError, match=r"nope\.yaml: the file cannot be read"):
        judge("nope.yaml")
    with pytest.raises(TypeError, match=r"those written as text go into a \*\.test\.yaml"):
        judge("{instances: []}", "tcp 172.17.0.9:4000 > 172.16.1.5:22")


def test_a_name_behind_a_packet_that_the_policy_does_not_have_is_told(folder: Path) -> None:
    """SPEC 8.6: what was meant, beside what came instead."""
    (folder / "ssh.test.yaml").write_text(CASES.replace("rule=A01 ", "rule=A011 "))
    done = run(folder, "ssh.test.yaml", "-k", "office")
    assert done.returncode == 1
    assert 'ssh.test.yaml:5: "A011" is no rule of this policy; did you mean "A01"?' in done.stdout


BROKEN = """\
policy: nope.yaml
cases:
  - name: one
    packets:
      - tcp 10.0.0.5:4000 > nonsense S => allow
    changes: [{at: 1, apply_policy: gone.yaml}]
    expect: [{packet: 1, verdikt: allow}]
  - {name: two, packets: ["tcp 10.0.0.5:4000 > 192.168.0.10:22 S => allow"]}
"""


def test_all_mistakes_of_a_file_are_told_in_one_run(folder: Path) -> None:
    """SPEC 2, of every document; each once, and what has no place of its own with that which names it."""
    (folder / "broken.test.yaml").write_text(BROKEN)
    done = run(folder, "broken.test.yaml")
    assert done.returncode == 2
    said = [line.strip() for line in done.stdout.splitlines()]
    assert said[1].startswith("broken.test.yaml:1:9: nope.yaml: the file cannot be read: No such file")
    assert said[2].startswith("broken.test.yaml:5:9: tcp 10.0.0.5:4000 > nonsense S => allow: packet, column 21")
    assert said[3].startswith("broken.test.yaml:6:37: gone.yaml: the file cannot be read: No such file")
    assert said[4].startswith("broken.test.yaml:7:14: nothing is expected")
    assert said[5] == 'broken.test.yaml:7:26: key "verdikt" is not known: did you mean verdict?'
    assert said[6:8] == ["error broken.test.yaml::two", "it shares what is told above"]


@pytest.mark.parametrize("key", ["capture", "changes", "expect", "policy"])
def test_what_is_no_name_of_a_file_is_told_in_a_sentence(folder: Path, key: str) -> None:
    values = {"policy": "policy.yaml", "capture": "none.pcap", "expect": "[{packet: 1, verdict: deny}]"}
    lines = [f"{key}: {value}" for key, value in (values | {key: r'"a\0b"'}).items()]
    (folder / "ssh.test.yaml").write_text("\n".join(lines))
    done = run(folder, "ssh.test.yaml")
    assert (done.returncode, done.stderr) == (3 if key == "capture" else 2, "")
    assert done.stdout.startswith("error ssh.test.yaml\n")


def test_what_a_run_writes_itself_is_no_change_to_watch(tmp_path: Path) -> None:
    """A report beside the cases, its file before it is whole, and redirected output: each would begin another run."""
    report = str(tmp_path / "report.xml")
    asked = [report, str(tmp_path / ".report.xml.x1y2"), str(tmp_path / "ssh.test.yaml"), str(tmp_path / "gone")]
    assert [_is_written(path, [report, None]) for path in asked] == [True, True, False, False]
    assert not _is_written(report, [None])
    command = f"from dataplane.cli.suite import _is_written; import sys; sys.exit(_is_written({report!r}, []))"
    with open(report, "wb") as printed:
        assert subprocess.run([sys.executable, "-c", command], stdout=printed, cwd=ROOT, check=False).returncode == 1
