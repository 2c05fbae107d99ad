"""`dataplane ctl` as a program: what it prints and how it ends, whatever becomes of its output."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dataplane._core import ffi
from dataplane.cli import app
from dataplane.live.client import ControlClient
from dataplane.policy.changes import KINDS, Change, parse_change
from dataplane.policy.services import PRESETS, preset_rules

from .scene import frame_item
from .served import Served

ROOT = Path(__file__).parents[3]


def ctl(served: Served, *words: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "dataplane", "ctl", "--socket", str(served.socket), *words]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, cwd=ROOT, check=False, timeout=60)


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--socket", "SOCKET"),
        ("--socket=SOCKET", "status"),
        ("rule", "add", "sg", "direction=egress", "--dry-run", "--socket=SOCKET"),
    ],
)
def test_the_socket_may_stand_anywhere(served: Served, words: tuple[str, ...]) -> None:
    given = [word.replace("SOCKET", str(served.socket)) for word in words]
    command = [sys.executable, "-m", "dataplane", "ctl", *given]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_socket_without_its_place_is_told() -> None:
    done = CliRunner().invoke(app, ["ctl", "status", "--socket"])
    assert done.exit_code == 2
    assert "Option '--socket' requires an argument." in done.output


def test_a_capture_whose_reader_goes_away_is_no_error(served: Served) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = ctl(served, "capture", "-", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("/dev/full", "No space left on device"),
        ("/nowhere/capture", "there is no folder /nowhere: make it (mkdir -p /nowhere), or name another place"),
        ("/", "it is a directory: name a file in it"),
    ],
)
def test_a_capture_that_cannot_be_written_is_told_in_a_sentence(served: Served, file: str, told: str) -> None:
    done = ctl(served, "capture", file)
    assert done.returncode == 2
    assert done.stderr.decode() == f"{file}: {told}\n"


def test_a_capture_that_is_refused_leaves_the_file_as_it_was(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "capture.pcapng"
    file.write_bytes(b"of yesterday")
    done = ctl(served, "capture", str(file), "--port", "none", "--force")
    assert done.returncode == 2
    assert b"there is no port none" in done.stderr
    assert file.read_bytes() == b"of yesterday"


def test_a_capture_overwrites_no_file_of_another_kind_unasked(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("what was found")
    done = ctl(served, "capture", str(file), "--count", "1")
    told = f"{file}: FILE would overwrite a file of another kind: it takes the file to write; --force overwrites it\n"
    assert (done.returncode, done.stderr.decode()) == (2, told)
    assert file.read_text() == "what was found"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_capture_takes_its_place_when_it_ends(served: Served, tmp_path: Path, how: signal.Signals) -> None:
    """Until then the file of before is there; nothing is left beside it."""
    file = tmp_path / "capture.pcapng"
    pcapng = b"\x0a\x0d\x0d\x0a"
    file.write_bytes(pcapng + b" of yesterday")
    words = ("capture", str(file), "--force")
    command = [sys.executable, "-m", "dataplane", "ctl", "--socket", str(served.socket), *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT) as running:
        end = time.monotonic() + 60
        while not any(path.stat().st_size for path in tmp_path.glob(".capture.pcapng.*")):
            assert time.monotonic() < end, "the capture does not begin"
            time.sleep(0.01)
        assert file.read_bytes() == pcapng + b" of yesterday"
        running.send_signal(how)
        _, said = running.communicate(timeout=60)
    assert (running.returncode, said) == (0, b"0 frames captured\n")
    assert file.read_bytes().startswith(pcapng)
    assert b"yesterday" not in file.read_bytes()
    assert not list(tmp_path.glob(".capture*"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("capture", "-", "--count", "2"),
            b"2 frames captured\n21,039 more came faster than they were read, and are lost\n",
        ),
        (("drops", "--count", "1"), b"207 more came faster than they were read, and are lost\n"),
    ],
)
def test_what_the_workers_lost_is_told_where_a_count_ends_it(
    served: Served, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: bytes
) -> None:
    """Of all workers together; of the frames that come after the count none is written."""
    lost = [ffi.new("struct dp_worker_counters *") for _ in range(2)]
    monkeypatch.setattr(served.firewall, "workers", 2)
    monkeypatch.setattr(served.firewall, "worker_counters", lost.__getitem__)
    command = [sys.executable, "-m", "dataplane", "ctl", "--socket", str(served.socket), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as running:
        end = time.monotonic() + 60
        while not served.operations.feed._subscriptions:
            assert time.monotonic() < end, "nobody listens"
            time.sleep(0.01)
        lost[0].feed_lost = [200, 0, 21000]
        lost[1].feed_lost = [7, 0, 39]
        (subscription,) = served.operations.feed._subscriptions
        for _ in range(5):
            subscription.offer(frame_item(b"a frame of a capture" * 3))
        out, said = running.communicate(timeout=60)
    assert (running.returncode, said) == (0, told)
    assert out.count(b"a frame of a capture" * 3) == (2 if words[0] == "capture" else 0)


def test_a_policy_that_is_written_elsewhere_is_read_by_no_reload(served: Served, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    done = ctl(served, "policy", str(other))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == (
        f"{other} has the policy in force; it is not the firewall's policy file ({served.policy}):"
        " a reload does not read it\n"
    )
    done = ctl(served, "policy", str(served.policy))
    assert done.stdout.decode() == (
        f"{served.policy} is the policy in force: dataplane ctl --socket {served.socket} reload makes the firewall"
        " know it, and cuts nothing\n"
    )


@pytest.mark.parametrize("text", ["# why\nsecurity_groups: []\n", "what was found\n"])
def test_a_policy_overwrites_no_file_but_the_firewalls_own_unasked(served: Served, tmp_path: Path, text: str) -> None:
    other = tmp_path / "mine"
    other.write_text(text)
    done = ctl(served, "policy", str(other))
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--force overwrites it" in done.stderr
    assert other.read_text() == text
    assert ctl(served, "policy", str(other), "--force").returncode == 0
    assert "security_groups" in other.read_text()
    other.write_text("")
    assert ctl(served, "policy", str(other)).returncode == 0


def test_a_reload_says_what_it_takes_back(served: Served) -> None:
    assert ctl(served, "rule", "delete", "web").returncode == 0
    assert b"1 change in memory would be taken back\n" in ctl(served, "reload", "--dry-run").stdout
    assert b"1 change in memory is taken back\n" in ctl(served, "reload").stdout
    assert b"taken back" not in ctl(served, "reload").stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("rule list --group othr", '--group: "othr" is no security group of this policy; did you mean "other"?'),
        ("rule list --instance srv", '--instance: "srv" is no instance of this policy'),
        ("group list --instance srv", '--instance: "srv" is no instance of this policy'),
        ("rule list --direction in", "'--direction': \"in\" is not known: write ingress or egress"),
        ("rule list --action drop", "'--action': \"drop\" is not known: write allow or deny"),
        ("conntrack list --src 10.0.0.300", "'10.0.0.300' is no address and no CIDR block: write 10.0.0.5 or"),
        ("conntrack count --dst 10.0.0.1/8", "'10.0.0.1/8' has host bits set: write 10.0.0.0/8"),
        ("address-group set g", "g: no entry is given: name all addresses of the set, or --empty to leave none in it"),
        ("address-group set g 10.0.0.1 --empty", "10.0.0.1: --empty leaves no address in the group"),
    ],
)
def test_what_is_asked_for_and_cannot_be_meant_is_told(served: Served, words: str, told: str) -> None:
    """A name that nothing has, a word that is none: not an empty answer."""
    done = ctl(served, *words.split())
    assert (done.returncode, done.stdout) == (2, b"")
    assert told in done.stderr.decode()


def test_an_address_group_is_emptied_on_request(served: Served) -> None:
    assert ctl(served, "address-group", "set", "list", "--empty").returncode == 0
    assert not served.firewall.policy.address_groups_by_id["list"].ip_set


def test_a_field_that_is_given_twice(served: Served) -> None:
    """Neither of the two is taken: the last one might open more than the first."""
    prefixes = ("remote_ip_prefix=10.0.0.0/8", "remote_ip_prefix=0.0.0.0/0")
    done = ctl(served, "rule", "add", "sg", "direction=ingress", *prefixes)
    assert done.returncode == 2
    assert done.stderr == b"remote_ip_prefix=0.0.0.0/0: remote_ip_prefix is given twice: give each field once\n"
    assert served.call("status")["generation"] == 1


def test_a_rule_keeps_its_id(served: Served) -> None:
    done = ctl(served, "rule", "update", "web", "id=http", "priority=2")
    assert (done.returncode, done.stderr) == (2, b"id: a rule keeps its id: delete it and add another one\n")
    assert "web" in served.firewall.policy.rules_by_id


# ---- changes ----


@pytest.fixture(scope="module")
def runner() -> CliRunner:
    return CliRunner()


def _kinds() -> list[type[Change]]:
    return [kind for kind in KINDS.values() if kind.command]


@pytest.mark.parametrize("kind", _kinds(), ids=lambda kind: kind.kind)
def test_each_change_has_a_command_whose_example_is_that_change(
    kind: type[Change], runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPEC 7: the fields of the command are those of the document; its help shows the example."""
    shown = runner.invoke(app, ["ctl", *kind.command, "--help"], terminal_width=1000)
    whole = " ".join(shown.stdout.replace(" \\\n", " ").split())
    assert f"dataplane ctl {' '.join(kind.command)} {kind.example} dataplane ctl" in whole
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr("dataplane.cli.ctl.changes._change", lambda context, change, *rest: sent.append(change))
    done = runner.invoke(app, ["ctl", *kind.command, *shlex.split(kind.example)])
    assert done.exit_code == 0, done.output
    (change,) = sent
    made = parse_change(change)
    assert type(made) is kind
    assert all(getattr(made, name) for name in kind.placed)


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (
            "instance create i addresses=10.0.0.9,fd00::9 tap={mtu:1400} interface=t0 dhcp_server=true vpc=true",
            {
                "id": "i",
                "addresses": ["10.0.0.9", "fd00::9"],
                "tap": {"mtu": 1400},
                "interface": "t0",
                "dhcp_server": True,
                "vpc": "true",
            },
        ),
        (
            "instance update i allowed_address_pairs='[{ip: 10.0.0.1, mac: \"00:00:5e:00:01:07\"}, 10.0.0.2]' mac=",
            {
                "id": "i",
                "allowed_address_pairs": [{"ip": "10.0.0.1", "mac": "00:00:5e:00:01:07"}, "10.0.0.2"],
                "mac": None,
            },
        ),
        ("group update g name=[x] description=5", {"id": "g", "name": "[x]", "description": "5"}),
        ("address-group create s ip_version=6 ip_set=::1", {"id": "s", "ip_version": 6, "ip_set": ["::1"]}),
        ("address-group set s 10.0.0.1 10.0.0.2", {"id": "s", "ip_set": ["10.0.0.1", "10.0.0.2"]}),
        (
            "rule fast-add g 'ssh, tcp/80-82' --to-address-group s --action deny --priority 5 --ethertype IPv6",
            {
                "security_group": "g",
                "services": ["ssh", "tcp/80-82"],
                "direction": "egress",
                "remote_address_group_id": "s",
                "action": "deny",
                "priority": 5,
                "ethertype": "IPv6",
            },
        ),
        (
            "group create g name=N --preset redis --from 10.0.0.0/8",
            {
                "id": "g",
                "name": "N",
                "security_group_rules": preset_rules(
                    PRESETS["redis"], "g", {"remote_ip_prefix": "10.0.0.0/8"}, ["IPv4"]
                ),
            },
        ),
    ],
)
def test_values_are_those_of_the_document(
    words: str, change: dict[str, Any], runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr("dataplane.cli.ctl.changes._change", lambda context, change, *rest: sent.append(change))
    done = runner.invoke(app, ["ctl", *shlex.split(words.replace("{mtu:1400}", "'{mtu: 1400}'"))])
    assert done.exit_code == 0, done.output
    assert [next(iter(found.values())) for found in sent] == [change]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("group create g name", "name: write FIELD=VALUE, as in name=...\n"),
        ("group create g id=h", "id=h: id is given already: leave it out\n"),
        ("instance update i id=j", "id: an instance keeps its id: delete it and add another one\n"),
        ("rule fast-add g ssh", "no remote is given: give one of --from, --from-group"),
        ("rule fast-add g ssh --from ::/0 --to ::/0", "--from and --to do not go together"),
        ("group create g --preset ssh", "--preset ssh: it opens ssh, ping: say to whom, by --from or --from-group\n"),
        ("group create g --preset sssh", '--preset: preset "sssh" is not known: did you mean ssh?\n'),
        ("group create g --preset default --from-group h", "--preset default: it opens no service"),
        ("group create g --from-group h", "--from and --from-group are for the services of a preset: add --preset\n"),
        ("group create g --preset web security_group_rules=[]", "--preset and security_group_rules= do not go toge"),
        ("instance create i addresses=[10.0.0.1", "addresses:1:10: the YAML cannot be read"),
    ],
)
def test_words_that_are_no_change(words: str, reason: str, runner: CliRunner) -> None:
    done = runner.invoke(app, ["ctl", *words.split()])
    assert (done.exit_code, done.stderr[: len(reason)]) == (2, reason)


def test_what_is_created_is_in_force_and_what_is_used_is_not_deleted(served: Served) -> None:
    """SPEC 5.1, 5.6: over the control socket as in a schedule."""
    assert ctl(served, "group", "create", "new", "name=New").returncode == 0
    created = ctl(served, "instance", "create", "n", "addresses=10.9.9.9", "security_groups=new")
    assert (created.returncode, created.stderr) == (0, b"")
    assert served.firewall.policy.instance("n").security_groups == ("new",)
    refused = ctl(served, "group", "delete", "new")
    assert refused.returncode == 2
    assert refused.stderr == (b'security group "new" is still used: instance "n" is in it: take it out there first\n')
    assert ctl(served, "instance", "delete", "n").returncode == 0
    assert ctl(served, "group", "delete", "new").returncode == 0
    assert served.call("status")["generation"] == 5


def test_services_are_opened_at_once_or_not_at_all(served: Served) -> None:
    """One change of the policy in force; one service that is not known, and none of them is opened."""
    before = len(served.firewall.policy.group("sg").security_group_rules)
    refused = ctl(served, "rule", "fast-add", "sg", "ssh,shs,icmp", "--from", "10.0.0.0/8")
    assert (refused.returncode, len(served.firewall.policy.group("sg").security_group_rules)) == (2, before)
    assert b'services[1] "shs" is not known: did you mean ssh?' in refused.stderr
    done = ctl(served, "rule", "fast-add", "sg", "ssh,https,icmp", "--from", "10.0.0.0/8")
    assert (done.returncode, done.stderr) == (0, b"")
    made = served.firewall.policy.group("sg").security_group_rules[before:]
    assert [(rule.protocol, rule.multiport) for rule in made] == [("tcp", "22"), ("tcp", "443"), ("icmp", None)]
    assert {rule.remote_ip_prefix for rule in made} == {"10.0.0.0/8"}
    assert served.call("status")["generation"] == 2


def test_a_group_begins_with_a_preset(served: Served) -> None:
    done = ctl(served, "group", "create", "login", "--preset", "ssh", "--from-group", "sg")
    assert (done.returncode, done.stderr) == (0, b"")
    rules = served.firewall.policy.group("login").security_group_rules
    assert {rule.remote_group_id for rule in rules if rule.direction == "ingress"} == {"sg", "login"}
    assert ("tcp", "22", "IPv6", "sg") in {(r.protocol, r.multiport, r.ethertype, r.remote_group_id) for r in rules}


@pytest.mark.parametrize("words", [("-p", "foo"), ("--instance", "nope"), ("--csv", "-p", "foo"), ("-f", "-p", "foo")])
def test_flows_that_are_refused_have_no_head(served: Served, words: tuple[str, ...]) -> None:
    done = ctl(served, "flows", *words)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)


def test_a_flow_with_a_long_id_has_lines_of_its_own(
    monkeypatch: pytest.MonkeyPatch, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines, not the escape sequence of a line feed; one in a name is no line feed."""
    flow = {"protocol": "tcp", "instance": "web-1", "local_port": 22, "remote": "2001:db8:aaaa:bbbb::200"}
    flow |= {"remote_port": 4000, "origin": "inbound", "end": None, "reason": "rule"}
    flow |= dict.fromkeys(("packets_in", "packets_out", "packets_denied"), 1)
    items = [flow | {"rule": rule} for rule in ("A01", "copy-of-a-rule", "b" * 60, "c\nd" * 5)]
    monkeypatch.setattr(ControlClient, "stream", lambda *_, **__: iter(items))
    with pytest.raises(SystemExit) as done:
        app(["ctl", "--socket", str(served.socket), "flows"])
    assert done.value.code == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 2 + 3 + 2
    assert [line for line in lines if "\\n" in line] == [lines[-1]]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("words", ["status", "counters", "stations", "rule list", "group list", "conntrack count"])
def test_json_is_the_same_by_either_option(served: Served, words: str) -> None:
    """But for times, which go on."""
    one, other = (ctl(served, *words.split(), *form) for form in (["--json"], ["-o", "json"]))
    assert (one.returncode, type(json.loads(one.stdout))) == (0, type(json.loads(other.stdout)))


def test_a_change_that_waits_is_told_in_a_status(served: Served) -> None:
    assert ctl(served, "rule", "delete", "out", "--confirm", "1m", "--json").returncode == 0
    told = ctl(served, "status").stdout.decode()
    assert re.search(r"else taken back in \d+ s, at [-\d]+ [:\d]+: change \{", told)


@pytest.mark.parametrize(
    ("words", "table"),
    [
        (("rule", "delete", ""), "rules_by_id"),
        (("rule", "add", ""), "groups_by_id"),
        (("group", "add-instance", "sg", ""), "instances_by_id"),
        (("address-group", "set", ""), "address_groups_by_id"),
        (("conntrack", "list", "--instance", ""), "instances_by_id"),
        (("explain", "--at", ""), "instances_by_id"),
    ],
)
def test_shells_are_offered_ids_of_the_policy_in_force(served: Served, words: tuple[str, ...], table: str) -> None:
    """Of the firewall whose socket the line names, also those that came by a change in memory."""
    served.change({"add_rule": {"security_group": "sg", "rule": {"id": "a-new-one", "direction": "ingress"}}})
    line = ("dataplane", "ctl", "--socket", str(served.socket), *words)
    environ = {"_DATAPLANE_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(line), "COMP_CWORD": str(len(line) - 1)}
    found = CliRunner().invoke(app, [], prog_name="dataplane", env=environ).output.split()
    assert sorted(found) == sorted(getattr(served.firewall.policy, table))
    assert ("a-new-one" in found) == (table == "rules_by_id")
