"""The flows of live traffic (SPEC 8.2): the flow log, `ctl flows`, and what becomes of the file, with real programs."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataplane.flow import FIELDS
from tests.system.network import needs_root_and, network, until
from tests.system.running import INSIDE, OUTSIDE, POLICY, Running

pytestmark = needs_root_and("ip", "ping", "curl")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with network() as net:
        yield Running(net, tmp_path)


def records(path: Path) -> list[dict[str, Any]]:
    """The lines of a flow log, all of them whole."""
    text = path.read_text() if path.exists() else ""
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_flow_log_tells_what_ended_what_was_denied_and_what_lives(running: Running, tmp_path: Path) -> None:
    """SPEC 8.2, live: the fields of a replay's records; a connection at its end, a denied flow after its interval."""
    log, moved = tmp_path / "flows.jsonl", tmp_path / "moved"
    # Nothing ends by itself while this is looked at.
    running.policy.write_text(POLICY + "conntrack: {timeouts: {icmp: 3000, tcp_close: 3000, tcp_fin_wait: 3000}}\n")
    running.start("--flow-log", str(log), "--flow-interval", "0.5")
    running.a.serve(8080, "python3", "-m", "http.server", "8080", "--bind", INSIDE)
    assert running.out.run("curl", "-s", "-o", "/dev/null", f"http://{INSIDE}:8080/").returncode == 0
    running.out.run("python3", "-c", f"import socket; socket.socket(2, 2).sendto(b'x', ('{INSIDE}', 81))", check=True)
    assert running.ping(running.out, INSIDE, count=2)
    until(lambda: records(log), "the denied flow is told")

    (denied,) = records(log)
    assert tuple(denied) == FIELDS
    assert denied["local_port"] == 81
    assert denied["verdict"] == "deny"
    assert denied["end"] is None
    assert denied["packets_denied"] == 1
    assert denied["packets_in"] == denied["packets_out"] == 0

    # Those that live, and those that ended or were denied lately, are the same records.
    listed = [json.loads(line) for line in running.ctl("flows", "--json").stdout.splitlines()]
    assert all(tuple(flow) == FIELDS for flow in listed)
    by_port = {(flow["protocol"], flow["local_port"]): flow for flow in listed}
    web, ping = by_port["tcp", 8080], by_port["icmp", None]
    assert by_port["udp", 81] == denied
    assert (web["instance"], web["origin"], web["remote"], web["rule"]) == ("a", "inbound", OUTSIDE, "web")
    assert web["packets_in"] >= 4
    assert web["bytes_out"] > web["bytes_in"] > 0
    assert (ping["packets_in"], ping["packets_out"], ping["end"], ping["rule"]) == (2, 2, "live", "ping")
    chosen = running.ctl("flows", "-p", "tcp", "--dport", "8080").stdout.splitlines()
    assert len(chosen) == 2
    assert "web" in chosen[1]
    assert max(map(len, chosen)) <= 80

    # Who follows is told of what ends; a file that was moved away is left behind at SIGHUP.
    with running.watching("flows", "--follow", "--json", "--count", "1") as following:
        log.rename(moved)
        assert running.process
        running.process.send_signal(signal.SIGHUP)
        until(log.exists, "the flow log is opened anew")
        running.ctl("conntrack", "flush")
        followed = json.loads(following.communicate(timeout=60)[0])
    until(lambda: len(records(log)) == 2, "both connections are told")
    assert followed in records(log)
    assert {flow["end"] for flow in records(log)} <= {"disconnected", "closed"}
    assert records(moved) == [denied]
    counters = running.json("counters")["flow_records"]
    assert counters["told"] == 3
    assert "lost" not in counters

    # At the end, connections that live are told too.
    assert running.ping(running.out, INSIDE)
    assert running.stop() == 0
    assert [flow["end"] for flow in records(log)][2:] == ["live"]


def test_flows_are_refused_where_none_are_gathered(running: Running, tmp_path: Path) -> None:
    running.start()
    refused = running.ctl("flows", status=2).stderr
    assert "flows are not gathered: start the firewall with --flows" in refused
