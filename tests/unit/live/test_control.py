"""What is asked and changed by the control socket."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dataplane import Policy, connection_table
from dataplane._core import lib
from dataplane.control.unix import control_socket
from dataplane.live import state
from dataplane.live.client import ControlClient, RefusedError
from dataplane.live.conntrack_format import event_line
from dataplane.live.firewall import Firewall
from dataplane.policy.write import as_yaml

from .scene import POLICY, filled, saved
from .served import Served, raw, serving

ADD = {"add_rule": {"security_group": "sg", "rule": {"direction": "ingress", "protocol": "gre"}}}


# ---- the policy ----


def test_a_change_is_in_force_when_the_answer_comes(served: Served) -> None:
    """SPEC 5.2: and the answer says what it cut."""
    answer = served.change(ADD)
    assert answer["changed"]
    assert answer["generation"] == 2
    assert answer["new_rules"] == ["sg/5"]
    assert answer["disconnected"] == {"total": 2, "by_instance": {"a": 2}, "revoked": 0}
    assert served.call("conntrack", action="count", selection={"disconnected": True})["count"] == 2
    assert served.call("status")["unsaved_changes"] == 1


def test_a_dry_run_says_the_same_and_changes_nothing(served: Served) -> None:
    for arguments in ({"command": "change", "change": ADD}, {"command": "reload"}):
        if arguments["command"] == "reload":
            served.policy.write_text(POLICY.replace('"80"', '"81"'))
        answer = served.call(dry_run=True, **arguments)  # type: ignore[arg-type]
        assert answer["dry_run"]
        assert answer["disconnected"] == {"total": 2, "by_instance": {"a": 2}, "revoked": 0}
    assert served.call("status")["generation"] == 1
    assert served.call("conntrack", action="count", selection={"disconnected": True})["count"] == 0


def test_a_dry_run_sees_a_remote_group_shrink(tmp_path: Path) -> None:
    """SPEC 5.4: connections elsewhere that were admitted from an address that goes."""
    text = POLICY.replace("remote_address_group_id: list", "remote_group_id: sg").replace("[sg]", "[sg, third]")
    text = text.replace("address_groups:", "  - {id: third}\naddress_groups:")
    firewall = Firewall(Policy.parse(text), seed=1)
    admitted = firewall.names.rule_number("listed", "other")
    assert firewall.restore([saved(firewall, "b", "10.0.0.2", "10.0.0.1", rule=admitted)], 0) == 1
    with serving(tmp_path, firewall) as served:
        leave = {"remove_instance": {"security_group": "sg", "instance": "a"}}
        expected = {"total": 1, "by_instance": {}, "revoked": 1}
        assert served.change(leave, dry_run=True)["disconnected"] == expected
        assert served.change(leave)["disconnected"] == expected


def test_a_dry_run_sees_who_comes_into_quarantine(tmp_path: Path) -> None:
    """SPEC 5.4: connections that a deny rule elsewhere would decide about; nothing changes."""
    denying = "{id: not, direction: ingress, action: deny, protocol: udp, remote_group_id: shut}, {id: listed, "
    text = POLICY.replace("{id: listed, ", denying).replace("address_groups:", "  - {id: shut}\naddress_groups:")
    firewall = Firewall(Policy.parse(text), seed=1, workers=2)
    admitted = firewall.names.rule_number("listed", "other")
    ports = range(4000, 4020)
    for number, established in ((17, lib.DP_CONN_OTHER_TWO_WAY), (6, lib.DP_CONN_TCP_ESTABLISHED)):
        fields = {"rule": admitted, "protocol": number, "state": established}
        records = [saved(firewall, "b", "10.0.0.2", "10.0.0.1", remote_port=p, **fields) for p in ports]
        assert firewall.restore(records, 0) == len(ports)
    with serving(tmp_path, firewall) as served:
        join = {"add_instance": {"security_group": "shut", "instance": "a"}}
        expected = {"total": 20, "by_instance": {}, "revoked": 20}
        for _ in range(2):
            assert served.change(join, dry_run=True)["disconnected"] == expected
        fresh = {"add_rule": {"security_group": "shut", "rule": {"id": "fresh", "direction": "egress"}}}
        assert served.change(fresh)["disconnected"]["total"] == 0
        assert served.change(join, dry_run=True)["disconnected"] == expected
        assert served.change(join)["disconnected"] == expected
        assert served.call("conntrack", action="count", selection={"disconnected": True})["count"] == 20


def test_reload_with_mistakes_tells_all_and_keeps_the_old(served: Served) -> None:
    """SPEC 5.6."""
    served.policy.write_text(POLICY.replace('"80"', '"0"').replace("protocol: udp", "protocol: upd"))
    for dry_run in (True, False):
        with pytest.raises(RefusedError, match="not valid, and the one before stays in force: 2 mistakes") as told:
            served.call("reload", dry_run=dry_run)
        assert told.value.invalid
        assert [m.split(": ")[0] for m in told.value.mistakes] == [f"{served.policy}:5:65", f"{served.policy}:7:50"]
    assert served.call("status")["generation"] == 1
    assert (served.service.reloads.succeeded, served.service.reloads.failed) == (0, 1)
    served.policy.unlink()
    with pytest.raises(RefusedError) as told:
        served.call("reload")
    assert "the file cannot be read" in told.value.mistakes[0]
    # Nobody writes into it: who opened it would wait for ever.
    os.mkfifo(served.policy)
    with pytest.raises(RefusedError) as told:
        served.call("reload")
    assert told.value.mistakes == [f"{served.policy}: it is no regular file: put the policy there"]
    assert served.call("status")["generation"] == 1


def test_reload_takes_back_what_was_in_memory_only(served: Served) -> None:
    served.change(ADD)
    answer = served.call("reload")
    assert answer["changed"]
    assert served.call("status")["unsaved_changes"] == 0
    assert "sg/5" not in served.firewall.policy.rules_by_id
    assert not served.call("reload")["changed"]


def test_reload_says_how_many_changes_it_takes_back(served: Served) -> None:
    """Those that the policy file does not have; of one that another hand changed besides, too."""
    udp = {"update_rule": {"id": "web", "protocol": "udp"}}
    for _ in range(2):
        served.change(ADD)
    served.change(udp)
    served.change({"update_rule": {"id": "web", "priority": 3}})
    assert [served.call("reload", dry_run=dry)["taken_back"] for dry in (True, True, False, False)] == [4, 4, 4, 0]
    served.change(ADD)
    served.change(udp)
    kept = as_yaml(served.call("policy"))
    served.policy.write_text(kept.replace("192.0.2.0/24", "198.51.100.0/24"))
    assert served.call("reload", dry_run=True)["taken_back"] == 0
    assert served.call("reload")["changed"]
    served.change({"update_rule": {"id": "web", "priority": 3}})
    served.change({"delete_rule": {"id": "self"}})
    served.policy.write_text(kept.replace("protocol: udp", "protocol: sctp", 1))
    assert "sctp" in served.policy.read_text()
    assert served.call("reload")["taken_back"] == 2
    served.change({"delete_rule": {"id": "self"}})
    served.change({"delete_rule": {"id": "out"}})
    served.policy.write_text(as_yaml(served.call("policy")) + "region: r\n")
    served.change({"delete_rule": {"id": "in6"}})
    assert served.call("reload")["taken_back"] == 1


def test_the_policy_in_force_can_be_kept(served: Served) -> None:
    """Written to the policy file, a reload changes nothing and cuts nothing; the answers say what is not there yet."""
    assert served.change(ADD, dry_run=True)["unsaved_changes"] == 0
    assert served.change(ADD)["unsaved_changes"] == 1
    answer = served.change({"clone_group": {"security_group": "sg", "id": "copy"}})
    assert (answer["unsaved_changes"], answer["policy_file"]) == (2, str(served.policy))
    for text in (json.dumps(served.call("policy")), as_yaml(served.call("policy"))):
        assert Policy.parse(text) == served.firewall.policy
        served.policy.write_text(text)
        again = served.call("reload")
        assert (again["changed"], again["disconnected"]["total"]) == (False, 0)
    assert served.call("status")["unsaved_changes"] == 0
    assert "sg/5" in served.firewall.policy.rules_by_id


def test_a_clone_has_rules_of_its_own_and_disconnects_nothing(served: Served) -> None:
    answer = served.change({"clone_group": {"security_group": "sg", "id": "copy"}})
    assert answer["disconnected"]["total"] == 0
    assert answer["new_rules"] == ["copy/1", "copy/2", "copy/3", "copy/4"]
    assert served.firewall.policy.rule("copy/3").remote_group_id == "copy"


@pytest.mark.parametrize("request_of", ["change", "reload"])
def test_what_expects_another_generation_is_refused(served: Served, request_of: str) -> None:
    """SPEC 5.6: whole, with the reason; also as a dry run. What expects the one of now is done."""
    add = {"add_rule": {"security_group": "sg", "rule": {"id": "gre", "direction": "ingress", "protocol": "gre"}}}
    assert served.change(add, expected_generation=1)["generation"] == 2
    wanted = {"change": {"delete_rule": {"id": "gre"}}} if request_of == "change" else {}
    before = served.firewall.policy
    for expected, dry_run in ((1, False), (3, False), (1, True)):
        with pytest.raises(RefusedError) as caught:
            served.call(request_of, expected_generation=expected, dry_run=dry_run, **wanted)
        assert caught.value.invalid
        assert str(caught.value) == (
            f"the policy in force is of generation 2, and {expected} was expected: it has been changed since then; look"
            " at it again (dataplane ctl policy) before you change it"
        )
        assert served.firewall.policy is before
    assert served.call(request_of, expected_generation=2, **wanted)["generation"] == 3
    assert "gre" not in served.firewall.policy.rules_by_id


def test_of_two_who_expect_the_same_generation_one_is_refused(served: Served) -> None:
    """Whoever comes second has not seen what the first has made."""
    gate = threading.Barrier(4)

    def add(number: int) -> str:
        rule = {"id": f"r{number}", "direction": "ingress"}
        gate.wait()
        try:
            served.change({"add_rule": {"security_group": "sg", "rule": rule}}, expected_generation=1)
        except RefusedError as error:
            return str(error)
        return "done"

    with ThreadPoolExecutor(4) as askers:
        answers = list(askers.map(add, range(4)))
    assert answers.count("done") == 1
    assert all("and 1 was expected" in answer for answer in answers if answer != "done")
    assert served.call("status")["generation"] == 2


def test_changes_are_made_one_after_the_other(served: Served) -> None:
    """Eight clients at once: no change is lost, and each answer tells of its own."""

    def add(client: int) -> list[int]:
        with ControlClient(served.socket) as connection:
            rules = [{"id": f"r{client}-{n}", "direction": "egress", "protocol": "tcp"} for n in range(10)]
            return [
                connection.call("change", change={"add_rule": {"security_group": "sg", "rule": rule}})["generation"]
                for rule in rules
            ]

    with ThreadPoolExecutor(8) as clients:
        generations = [g for each in clients.map(add, range(8)) for g in each]
    assert sorted(generations) == list(range(2, 82))
    assert len(served.firewall.policy.group("sg").security_group_rules) == 4 + 80


# ---- connections, state, streams ----


def test_listing_and_deleting(served: Served) -> None:
    with ControlClient(served.socket) as client:
        listed = list(client.stream("conntrack", action="list", selection={"protocol": "tcp", "instance": "a"}))
        assert {c["remote"] for c in listed} == {"192.0.2.9", "fd00::9"}
        assert all(590 < c["expires_in"] <= 600 for c in listed)
        assert client.call("conntrack", action="delete", selection={"source": "fd00::9"}) == {"deleted": 1}
        assert client.call("conntrack", action="flush") == {"deleted": 4}
        assert list(client.stream("conntrack", action="list")) == []


def test_many_connections_are_listed_many_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The border to C is crossed once for thousands of them, and a line to the client has hundreds."""
    firewall, crossings, border = filled(), 0, lib
    more = [saved(firewall, "b", "10.0.0.2", "192.0.2.10", remote_port=1024 + n) for n in range(9000)]
    assert firewall.restore(more, 0) == len(more)

    class Crossed:
        def __getattr__(self, name: str) -> Any:
            nonlocal crossings
            crossings += name == "dp_plane_connections"
            return getattr(border, name)

    monkeypatch.setattr(connection_table, "lib", Crossed())
    with serving(tmp_path, firewall) as many:
        *lines, _ = raw(many, b'{"command": "conntrack", "action": "list"}\n')
    assert sum(len(line.get("items", ())) for line in lines) == 9005
    assert 1 < crossings <= 4, "and once more to find that there are none"
    assert 1 < len(lines) <= 25


def test_events_tell_what_goes(served: Served) -> None:
    with ControlClient(served.socket) as client:
        events = client.stream("events")
        served_before = served.call("status")  # the subscription is made by the same thread, before this
        assert served_before["connections"] == 5
        told: list[dict[str, Any]] = []
        deadline = time.monotonic() + 60
        pending: Iterator[Any] = iter(events)
        with ThreadPoolExecutor(1) as reader:
            first = reader.submit(next, pending)
            time.sleep(0.2)
            assert served.call("conntrack", action="delete", selection={"protocol": "udp"}) == {"deleted": 1}
            told.append(first.result(deadline - time.monotonic()))
        client.stop()
        told += pending
    assert [(e["event"], e["connection"]["protocol"]) for e in told] == [("DESTROY", "udp")]
    assert abs(told[0]["time"] - time.time()) < 10


def test_events_tell_what_a_change_disconnects(served: Served) -> None:
    """Soon after the change, though no packet comes; then the connections go, marked."""
    with ControlClient(served.socket) as client, ThreadPoolExecutor(1) as reader:
        events = client.stream("events")
        first = reader.submit(next, events)
        time.sleep(0.2)
        assert served.change(ADD)["disconnected"]["total"] == 2
        told = [first.result(60), reader.submit(next, events).result(60)]
        assert served.call("conntrack", action="delete", selection={"disconnected": True}) == {"deleted": 2}
        gone = [reader.submit(next, events).result(60) for _ in range(2)]
    for event, found in (("UPDATE", told), ("DESTROY", gone)):
        assert {e["connection"]["remote"] for e in found} == {"192.0.2.9", "fd00::9"}
        assert {(e["event"], e["connection"]["disconnected"]) for e in found} == {(event, True)}
    assert "[DISCONNECTED]" in event_line(told[0])
    assert event_line(told[0]).startswith(" [UPDATE] tcp      6 ")


def test_what_a_stream_lost_is_said_at_its_end(tmp_path: Path) -> None:
    answers = [
        {"ok": True, "result": {}},
        {"ok": True, "stream": "items"},
        {"ok": True, "result": {"lost": 1234}},
    ]
    command = [sys.executable, "-m", "dataplane", "ctl", "--socket", str(tmp_path / "control"), "conntrack", "events"]
    with control_socket(tmp_path / "control") as door:
        door.settimeout(60)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as events:
            client, _ = door.accept()
            with client:
                client.sendall(b"".join(json.dumps(answer).encode() + b"\n" for answer in answers))
                told = events.communicate(timeout=60)
    assert told == ("", "1,234 more came faster than they were read, and are lost\n")


def test_save_writes_the_state_file(served: Served) -> None:
    assert served.call("save") == {"file": str(served.state), "connections": 5}
    found = state.read(served.state)
    assert found
    assert found.connections == 5


def test_a_save_that_fails_is_told(served: Served) -> None:
    served.state.mkdir()
    with pytest.raises(
        RefusedError, match=f"{served.state}: the state cannot be written: it is no regular file"
    ) as told:
        served.call("save")
    assert not told.value.invalid


def test_a_client_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    """A long list that nobody takes: other clients are answered, and changes are made."""
    firewall = Firewall(Policy.parse(POLICY), seed=1)
    records = [saved(firewall, "a", "10.0.0.1", "192.0.2.9", remote_port=port) for port in range(1, 40001)]
    assert firewall.restore([b"".join(records)], 0) == 40000
    with serving(tmp_path, firewall) as served, socket.socket(socket.AF_UNIX) as stuck:
        stuck.connect(str(served.socket))
        stuck.sendall(b'{"command": "conntrack", "action": "list"}\n')
        time.sleep(0.3)
        started = time.monotonic()
        assert served.call("status")["connections"] == 40000
        assert served.change(ADD)["disconnected"]["total"] == 40000
        assert time.monotonic() - started < 5
