"""The log tells each change with what it was, who asked for it and what it cut; and each that was refused, with why."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dataplane import Policy
from dataplane.control import audit, requests
from dataplane.control.audit import Asker
from dataplane.control.differences import differences
from dataplane.live.client import RefusedError
from dataplane.live.process.log import JsonFormatter, TextFormatter
from dataplane.live.process.signals import Signals

from .scene import POLICY
from .served import Served

ROOT = Path(__file__).parents[3]


def records(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    """Messages and what was given with them; each is by this process."""
    found = []
    for record in caplog.records:
        assert (record.__dict__["uid"], record.__dict__["pid"]) == (os.geteuid(), os.getpid())
        found.append((record.getMessage(), record.__dict__))
    return found


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="dataplane")


@pytest.mark.parametrize(
    ("change", "words", "cut"),
    [
        (
            {
                "add_rule": {
                    "security_group": "sg",
                    "rule": {
                        "id": "n",
                        "direction": "ingress",
                        "multiport": "1,3",
                        "protocol": "tcp",
                        "remote_ip_prefix": "10.0.0.0/8",
                    },
                }
            },
            "rule n added to security group sg: direction ingress, ethertype IPv4, protocol tcp, multiport 1,3,"
            " remote_ip_prefix 10.0.0.0/8, action allow, priority 1, enabled true",
            {"a": 2},
        ),
        (
            {"update_rule": {"id": "web", "multiport": "81"}},
            "rule web of security group sg updated: direction ingress, ethertype IPv4, protocol tcp, multiport 81,"
            " action allow, priority 1, enabled true; before: direction ingress, ethertype IPv4, protocol tcp,"
            " multiport 80, action allow, priority 1, enabled true",
            {"a": 2},
        ),
        (
            {"delete_rule": {"id": "out"}},
            "rule out deleted from security group sg: direction egress, ethertype IPv4, action allow, priority 1,"
            " enabled true",
            {"a": 2},
        ),
        (
            {"add_instance": {"security_group": "other", "instance": "a"}},
            "instance a changed: security_groups from [sg] to [sg, other]",
            {"a": 2, "b": 1},
        ),
        (
            {"update_address_group": {"id": "list", "ip_set": ["192.0.2.7"]}},
            "address group list changed: ip_set from [192.0.2.0/24] to [192.0.2.7]",
            {"b": 1},
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_change_is_told_with_all_that_it_was(
    served: Served, caplog: pytest.LogCaptureFixture, change: dict[str, Any], words: str, cut: dict[str, int]
) -> None:
    served.change(change, dry_run=True)
    assert not caplog.records
    served.change(change)
    (what, extra), (in_force, totals) = records(caplog)
    assert (what, extra["generation"]) == (words, 2)
    assert in_force == "policy in force"
    assert totals["disconnected"] == {"total": sum(cut.values()), "by_instance": cut, "revoked": 0}


def test_a_copy_of_a_group_is_told_with_its_rules(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.change({"clone_group": {"security_group": "other", "id": "copy"}})
    said = [message for message, _ in records(caplog)]
    assert said[0].startswith("rule copy/1 added to security group copy: direction ingress")
    assert said[1] == "security group copy added: 1 rule"


def test_what_is_refused_is_told_with_why(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.state.mkdir()
    for command, arguments, what, why in (
        ("change", {"change": {"delete_rule": {"id": "x"}}}, 'change {"delete_rule": {"id": "x"}}', "is no rule"),
        ("change", {"change": {"apply_policy": "/p"}}, 'change {"apply_policy": "/p"}', "use reload"),
        ("save", {}, "save of the state", "it is no regular file"),
        ("forget", {}, 'request {"command": "forget"}', "names no command"),
        ("status", {"verbose": True}, 'request {"command": "status", "verbose": true}', "verbose: extra inputs"),
        ("change", {"change": {"x": "y" * 2_000_000}}, "request", "longer than 1,048,576 bytes"),
        ("conntrack", {"action": "delete"}, "deletion of connections", "needs at least one filter"),
        (
            "conntrack",
            {"action": "delete", "selection": {"state": "X"}},
            "deletion of connections: state X",
            "not known",
        ),
    ):
        caplog.clear()
        with pytest.raises(RefusedError):
            served.call(command, **arguments)
        ((message, extra),) = records(caplog)
        assert message.startswith(f"refused: {what}: ")
        assert len(message) < 5000
        assert why in message
        assert extra["levelname"] == "WARNING"


def test_a_reload_is_told_with_every_difference_or_every_mistake(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.policy.write_text(POLICY.replace('"80"', '"81"').replace("192.0.2.0/24", "192.0.2.7"))
    served.call("reload")
    said = records(caplog)
    assert [message.split(":")[0] for message, _ in said] == [
        "rule web of security group sg updated",
        "address group list changed",
        "policy in force",
        "policy reloaded",
    ]
    assert said[3][1]["disconnected"] == 3
    caplog.clear()
    served.policy.write_text(POLICY.replace('"80"', '"0"').replace("protocol: udp", "protocol: upd"))
    with pytest.raises(RefusedError):
        served.call("reload")
    assert len(records(caplog)) == 2
    assert all(m.startswith(f"refused: reload of {served.policy}, the policy before stays") for m, _ in records(caplog))


def test_connections_that_are_deleted_and_a_state_that_is_saved(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.call("conntrack", action="delete", selection={"protocol": "tcp", "instance": "a"})
    served.call("conntrack", action="flush")
    served.call("save")
    (one, first), (two, second), (three, _) = records(caplog)
    assert (one, first["deleted"], first["by_instance"]) == (
        "connections deleted: protocol tcp, instance a",
        2,
        {"a": 2},
    )
    assert (two, second["deleted"], second["by_instance"]) == ("connections deleted: all", 3, {"a": 2, "b": 1})
    assert three == "state saved"


def test_a_signal_asks_too(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.policy.write_text(POLICY.replace('"80"', '"81"'))
    asyncio.run(served.service.answer(requests.Reload(command="reload"), Asker(signal="SIGHUP")))
    assert {record.__dict__["signal"] for record in caplog.records} == {"SIGHUP"}


def test_nobody_is_told_where_nobody_asked() -> None:
    assert (Asker().extra(), Asker(0, 7).extra()) == ({}, {"uid": 0, "pid": 7})


def test_the_signal_that_ends_it_is_noted() -> None:
    """It is who asked for the state to be saved then."""
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert (signals.stop, signals.stopped_by) == (True, "SIGTERM")


def test_long_lists_are_told_by_what_is_different() -> None:
    """One entry more or less of thousands is seen, and costs no megabyte."""

    def policy(entries: list[str]) -> Policy:
        return Policy.model_validate({"address_groups": [{"id": "g", "ip_version": 4, "ip_set": entries}]})

    many = [f"10.0.{n >> 8}.{n & 255}" for n in range(5000)]
    (told,) = differences(policy(many), policy(["10.9.9.9", *many[1:]]))
    assert told == "address group g changed: ip_set of 5,000 without [10.0.0.0] and with [10.9.9.9]"
    (told,) = differences(policy(many), policy(many[:60] + many[:59:-1]))
    assert told == "address group g changed: ip_set of 5,000 in another order"
    (told,) = differences(policy(many), policy([]))
    assert told.startswith("address group g changed: ip_set of 5,000 without [10.0.0.0, ")
    assert told.endswith(" and 4,900 more] and with none")
    (told,) = differences(Policy(), policy(many))
    assert told.startswith("address group g added: ip_version 4, ip_set [10.0.0.0, ")
    assert told.endswith(" and 4,900 more]")


def listed(served: Served, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dataplane", "ctl", "--socket", str(served.socket), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)


NAMING = {"id": "naming", "direction": "ingress"}


def test_rules_and_groups_are_listed(served: Served) -> None:
    """`ctl rule list` and `ctl group list`, with their filters."""
    lines = listed(served, "rule", "list").stdout.splitlines()
    assert lines[2].split()[:2] == ["rule", "security"]
    assert lines[3].split() == ["web", "sg", "ingress", "IPv4", "tcp", "80", "any", "allow", "1", "never"]
    assert len(lines) == 8
    for words, ids in (
        (("--group", "other"), ["listed"]),
        (("--direction", "egress"), ["out"]),
        (("--action", "deny"), []),
        (("--instance", "b"), ["listed"]),
    ):
        found = json.loads(listed(served, "rule", "list", *words, "-o", "json").stdout)
        assert [rule["id"] for rule in found] == ids
    lines = listed(served, "group", "list").stdout.splitlines()
    assert lines[3].split() == ["sg", "-", "4", "a"]
    assert json.loads(listed(served, "group", "list", "--instance", "b", "-o", "json").stdout) == [
        {"id": "other", "name": None, "rules": 1, "instances": ["b"]}
    ]


def test_instances_address_groups_and_balancers_are_listed(served: Served) -> None:
    """`ctl instance list`, `address-group list` and `balancer list`: what their other commands change."""
    served.change(
        {"create_address_group": {"id": "many", "ip_version": 4, "ip_set": [f"192.0.2.{n}" for n in range(9)]}}
    )
    served.change({"add_rule": {"security_group": "other", "rule": {**NAMING, "remote_address_group_id": "many"}}})
    served.change({"create_load_balancer": {"id": "elb", "addresses": ["10.0.9.9"], "backends": ["a"]}})
    (b,) = json.loads(listed(served, "instance", "list", "--group", "other", "-o", "json").stdout)
    assert (b["id"], b["security_groups"]) == ("b", ["other"])
    told = listed(served, "instance", "list").stdout
    assert all(address in told for address in b["addresses"])
    assert len(told.splitlines()) == 3 + len(served.firewall.policy.instances)
    (group,) = (g for g in json.loads(listed(served, "address-group", "list", "--json").stdout) if g["id"] == "many")
    assert (len(group["ip_set"]), group["rules"]) == (9, ["naming"])
    assert "192.0.2.7 and 1 more  naming" in listed(served, "address-group", "list").stdout
    (elb,) = json.loads(listed(served, "balancer", "list", "--json").stdout)
    assert (elb["backends"], elb["transfer_client_ip"]) == (["a"], False)
    assert listed(served, "balancer", "list").stdout.splitlines()[3].split() == ["elb", "-", "10.0.9.9", "a", "false"]


#: What somebody gives as a name, so that the log says what has not happened.
FORGED = (
    'x", "message": "policy in force"}\n{"time": "2026-01-01T00:00:00+00:00", "message": "rule A added"}\r\n'
    "2026-01-01T00:00:00.000+00:00 policy in force (generation=9, uid=0)\u2028\x85\x1b[2J\x1b]0;t\x07\u202e\x00\x9b1m"
)


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter(), TextFormatter(in_journal=True)])
def test_nobody_writes_a_line_of_the_log_by_a_name(
    formatter: logging.Formatter, caplog: pytest.LogCaptureFixture
) -> None:
    """Of groups, rules, keys, addresses and what was asked: each record is one line without what moves a cursor."""
    asker = Asker(access_key=FORGED, address=FORGED, request_id=FORGED)
    before, text = Policy.parse(POLICY), json.dumps(FORGED)
    after = Policy.parse(
        POLICY.replace("- id: sg\n", f"- id: sg\n    name: {text}\n    description: {text}\n", 1).replace(
            "- {id: web,", f"- {{id: web, description: {text},", 1
        )
    )
    assert after.group("sg").description == after.rules_by_id["web"][1].description == FORGED
    audit.changed(before, after, asker, generation=2, disconnected={FORGED: 1})
    audit.refused(f"GET {FORGED}", FORGED, asker)
    audit.done(FORGED, asker, connections=FORGED)
    lines = [formatter.format(record) for record in caplog.records]
    assert len(lines) == 5
    for line, record in zip(lines, caplog.records, strict=True):
        assert line.isprintable()
        if isinstance(formatter, JsonFormatter):
            told = json.loads(line)
            assert (told["message"], told["access_key"]) == (record.getMessage(), FORGED)
        else:
            assert line.count("access_key=") == 1
