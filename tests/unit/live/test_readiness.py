"""`dataplane check --live`: what `dataplane run` needs and this host lacks, a sentence each, and nothing is touched."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dataplane.live import readiness
from dataplane.live.interfaces import locks
from dataplane.live.interfaces.links import PortError
from dataplane.policy import Policy

ROOT = Path(__file__).parents[3]
POLICY = """
security_groups: [{{id: g, security_group_rules: [{{id: out, direction: egress}}]}}]
instances: [{{id: a, addresses: [10.0.0.1], security_groups: [g], {instance}}}]
uplinks: [{uplinks}]
conntrack: {{max_entries: {entries}}}
"""


def policy(instance: str = "interface: none-a", uplinks: str = "", entries: int = 1000) -> str:
    return POLICY.format(instance=instance, uplinks=uplinks, entries=entries)


def told(document: str, *uplinks: str) -> list[str]:
    """What is missing, besides what the tests' own process may lack."""
    own = list(readiness.rights())
    found = readiness.look_at_host(Policy.parse(document), uplinks).missing
    return [sentence for sentence in found if sentence not in own]


def test_nothing_is_missing() -> None:
    """An instance's TAP is made, and an interface that is there is taken."""
    assert told(policy(uplinks="{interface: lo}")) == []


def test_an_interface_that_the_host_uses_is_a_warning() -> None:
    """As `run` says it: nothing is missing. Of an instance's interface the host takes nothing while it runs."""

    def warned(document: str) -> list[str]:
        found = readiness.look_at_host(Policy.parse(document))
        return [sentence.replace(" and ::1", "") for sentence in found.warnings]

    silent = "interface lo has the address 127.0.0.1: while dataplane runs, the host does not answer there"
    assert warned(policy("interface: lo")) == [silent]
    first, second = warned(policy(uplinks="{interface: lo}"))
    assert first == silent
    assert second.startswith(
        "interface lo has an IPv4 address: what its subnet sends to the host itself, the host takes"
    )
    assert warned(policy()) == []


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (policy("mac: fa:16:3e:00:00:01"), "instance a in the policy has no interface: live traffic needs one"),
        (policy(uplinks="{interface: none-up}"), "interface none-up of an uplink does not exist: make it first"),
        (policy("interface: none-a, tap: {namespace: none-ns}"), "there is no network namespace none-ns: make it"),
        (policy("interface: none-a, tap: {owner: none-user}"), "there is no user none-user, whom the policy names"),
    ],
)
def test_each_thing_is_one_sentence(document: str, sentence: str) -> None:
    assert sum(found.startswith(sentence) for found in told(document)) == 1


def test_all_of_it_is_told_in_one_run() -> None:
    document = policy("interface: none-a, tap: {owner: none-user}", "{interface: none-up}, {interface: none-up2}")
    assert len(told(document, "none-up3")) == 4


def test_an_uplink_that_an_instance_has() -> None:
    assert told(policy(), "none-a") == [
        "interface none-a is an uplink by --uplink, and of a in the policy: name another interface for one of them"
    ]


def test_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (50, 50))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: None)
    (sentence,) = told(policy())
    assert "open files, and the limit is 50: raise it (ulimit -n " in sentence


def test_ports() -> None:
    assert [found.partition(":")[0] for found in readiness.limits(1025, 1)] == ["the policy has 1,025 interfaces"]
    assert list(readiness.limits(1024, 1)) == []


def test_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond 4,194,304 entries is taken as the table fills."""
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal:  1000000 kB\nMemAvailable:  102400 kB\n")
    monkeypatch.setattr(readiness, "_MEMORY", memory)
    assert told(policy(entries=1_000_000)) == []
    for entries in (1 << 22, 2**31 - 1):
        (sentence,) = told(policy(entries=entries))
        assert sentence.startswith("the connection table takes 368 MB at the start, and 100 MB are available")


@pytest.mark.parametrize(("user", "words"), [(0, "give them to the container"), (1000, "start it as root")])
def test_rights(user: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_has", lambda capability: False)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert words in next(readiness.rights())


def test_another_firewalls_interface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told with its process; what a firewall that was killed had noted stays for the one that comes."""
    monkeypatch.setattr(locks, "FOLDER", tmp_path)
    held = locks.claim("lo", 1)
    held.note({"arp": True})
    (file,) = tmp_path.iterdir()
    before = file.read_text()
    (sentence,) = told(policy(uplinks="{interface: lo}"))
    assert sentence.startswith(f"interface lo is another firewall's, process {os.getpid()}: stop that one")
    with pytest.raises(PortError):
        locks.refuse_taken("lo", 1)
    os.close(held._fd)
    assert told(policy(uplinks="{interface: lo}")) == []
    assert file.read_text() == before


@pytest.fixture
def checked(tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    def check(document: str, *options: str) -> tuple[int, str, str]:
        (tmp_path / "policy.yaml").write_text(document)
        command = [sys.executable, "-m", "dataplane", "check", str(tmp_path / "policy.yaml"), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
        return done.returncode, done.stdout, done.stderr

    return check


def test_the_command(checked: Callable[..., tuple[int, str, str]]) -> None:
    """Exit status 2 when something is missing; without --live nothing is looked at."""
    document = policy(uplinks="{interface: none-up}")
    assert checked(document)[0] == 0
    status, out, err = checked(document, "--live")
    assert (status, "is valid" in out) == (2, True)
    assert "interface none-up of an uplink does not exist" in err
    assert err.endswith("missing.\n")
    status, out, _ = checked(document, "--live", "--json", "--uplink", "none-up2")
    assert status == 2
    report = json.loads(out)
    assert report["valid"]
    assert sum("does not exist" in sentence for sentence in report["missing"]) == 2
    document = policy(uplinks="{interface: lo}")
    *_, err = checked(document, "--live", "--lint")
    assert "\nwarning: interface lo has the address 127.0.0.1" in f"\n{err}"
    _, out, _ = checked(document, "--live", "--json")
    assert sum("interface lo has" in sentence for sentence in json.loads(out)["warnings"]) == 2


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/net/tun").exists(), reason="needs root and TAPs")
def test_a_host_that_has_it_all(checked: Callable[..., tuple[int, str, str]]) -> None:
    assert checked(policy(), "--live")[::2] == (0, "")


def test_a_firewall_that_leads_nowhere_outside(checked: Callable[..., tuple[int, str, str]]) -> None:
    """It is allowed, and seldom meant."""
    for document, options in ((policy(), ("--uplink", "lo")), (policy(uplinks="{interface: lo}"), ())):
        assert "no uplink is named" not in checked(document, "--live", *options)[1]
    assert "warning: no uplink is named, so instances reach each other only" in checked(policy(), "--live")[1]
    assert "uplink" not in checked(policy())[1]
