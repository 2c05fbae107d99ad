"""Connections that follow a machine to another firewall: `ctl conntrack export` and `import`."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dataplane import Policy
from dataplane._core import lib
from dataplane.cli import app
from dataplane.control.requests import STATE_BYTES_MAX
from dataplane.live import state
from dataplane.live.client import ControlClient, RefusedError
from dataplane.live.firewall import Firewall
from dataplane.outputs import STATE_MAGIC

from .scene import POLICY, SECOND, TCP, filled, saved
from .served import Served, serving
from .test_state import facts


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Served]:
    """Another firewall, with the same policy and no connections."""
    folder = tmp_path / "there"
    folder.mkdir()
    with serving(folder, Firewall(Policy.parse(POLICY), seed=2)) as made:
        yield made


def ctl(served: Served, *words: str, given: bytes = b"") -> Result:
    return CliRunner().invoke(app, ["ctl", "--socket", str(served.socket), "conntrack", *words], input=given)


def exported(served: Served, *words: str) -> bytes:
    done = ctl(served, "export", *words)
    assert done.exit_code == 0, done.output
    return done.stdout_bytes


def imported(served: Served, data: bytes) -> dict[str, Any]:
    done = ctl(served, "import", "--json", given=data)
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def everything(firewall: Firewall, instance: str) -> set[bytes]:
    """All that tracking knows of an instance's connections, but for their numbers and times."""
    records = state.taken(firewall, [firewall.connections.filter(instance=instance)]).records
    each = [records[at : at + state.RECORD] for at in range(0, len(records), state.RECORD)]
    # The addresses, and what stands behind age, zone and rule.
    return {record[:32] + record[48:] for record in each}


NOTHING = {"no-instance": 0, "not-valid": 0, "expired": 0, "there-already": 0, "table-full": 0}


def test_an_instance_takes_its_connections_along(served: Served, there: Served) -> None:
    """Origin, state, rule, window and time; and nobody else's. Where they came from they stay."""
    before = facts(served.firewall)
    data = exported(served, "--instance", "a")
    assert data.startswith(b"dpstate\n")
    answer = imported(there, data)
    assert answer.pop("seconds_ago") < 60
    assert answer == {"connections": 4, "taken": 4, "disconnected": 0, "refused": NOTHING}
    assert facts(there.firewall) == {fact for fact in before if fact[0] == "a"}
    assert everything(there.firewall, "a") == everything(served.firewall, "a")
    assert facts(served.firewall) == before


def test_the_window_goes_along(served: Served, there: Served) -> None:
    """SPEC 4.4: both sides' scale, window, and how far they have sent and acknowledged."""
    window = {
        "tcp_scale_flags": [0x37, 0x35],
        "tcp_max_window": [501, 65535],
        "tcp_end": [1 << 31, 4000],
        "tcp_max_end": [(1 << 31) + 64000, 64000],
        "tcp_max_ack": [(1 << 31) - 100, 3000],
    }
    record = saved(served.firewall, "a", "10.0.0.1", "192.0.2.77", remote_port=7777, **window)
    served.firewall.restore([record], 0)
    imported(there, exported(served, "-s", "192.0.2.77"))
    (found,) = state.records_of(state.taken(there.firewall))
    assert {name: list(getattr(found, name)) for name in window} == window


def test_through_a_file(served: Served, there: Served, tmp_path: Path) -> None:
    """It is its owner's, spared where it is another file, and told in sentences where it cannot be read."""
    file = tmp_path / "a.state"
    assert exported(served, str(file), "--instance", "a") == b""
    assert file.stat().st_mode & 0o777 == 0o600
    refused = ctl(served, "export", str(file))
    assert (refused.exit_code, "--force overwrites it" in refused.stderr) == (2, True)
    done = ctl(there, "import", str(file))
    assert (done.exit_code, done.stdout) == (0, "4 of 4 connections have been taken.\n")
    missing = ctl(there, "import", str(tmp_path / "none"))
    assert (missing.exit_code, missing.stderr) == (
        2,
        f"{tmp_path}/none: No such file or directory: name what was exported (ctl conntrack export)\n",
    )


def test_what_is_there_already_is_kept(served: Served, there: Served) -> None:
    """A second import changes nothing; what has gone on here meanwhile is newer than what is exported."""
    data = exported(served, "--instance", "a")
    newer = saved(there.firewall, "a", "10.0.0.1", "192.0.2.9", state=lib.DP_CONN_TCP_FIN_WAIT_INITIATOR)
    there.firewall.restore([newer], 0)
    assert imported(there, data)["refused"] == NOTHING | {"there-already": 1}
    (kept,) = there.firewall.connections.filter(remote="192.0.2.9", local_port=80)
    assert kept.state == "FIN_WAIT"
    before = everything(there.firewall, "a")
    again = imported(there, data)
    assert (again["taken"], again["refused"]) == (0, NOTHING | {"there-already": 4})
    assert everything(there.firewall, "a") == before


def test_nobody_comes_whom_the_policy_does_not_know(served: Served, there: Served) -> None:
    """They are counted, the others are taken, and no number is given out for the name."""
    there.change({"delete_instance": {"id": "a"}})
    zones = there.firewall.names.count()
    answer = imported(there, exported(served))
    assert (answer["taken"], answer["refused"]) == (1, NOTHING | {"no-instance": 4})
    assert {fact[0] for fact in facts(there.firewall)} == {"b"}
    assert there.firewall.names.count() == zones
    done = ctl(there, "import", given=exported(served))
    assert done.stdout.splitlines() == [
        "0 of 5 connections have been taken.",
        "  4 not taken: their instance is not in the policy here",
        "  1 not taken: they are here already",
    ]


def test_time_on_the_way_is_taken_off(served: Served, there: Served) -> None:
    """SPEC 4.2: by the wall clock; what has outlived its timeout is counted and stays away."""
    taken = state.taken(served.firewall)
    late = replace(taken, saved_ns=taken.saved_ns - 60 * SECOND)
    answer = imported(there, b"".join(state.encoded(late)))
    assert (answer["taken"], answer["refused"]) == (3, NOTHING | {"expired": 2})
    assert 60 <= answer["seconds_ago"] < 120
    left = [c.expires_ns - there.firewall.now() for c in there.firewall.connections]
    assert all(480 * SECOND < ns <= 540 * SECOND for ns in left), left


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('multiport: "80"', 'multiport: "80,443"'),
        ("security_groups: [sg]}", "security_groups: [other, sg]}"),
        ('"fd00::1"]', '"fd00::1", 10.0.0.9]'),
    ],
)
def test_another_policy_of_the_machine_itself_cuts_what_came_in(
    served: Served, there: Served, old: str, new: str
) -> None:
    """SPEC 5.2, 5.5: a rule, its groups or its addresses are others there. What it opened itself goes on."""
    there.firewall.replace(there.firewall.changed({"apply_policy": Policy.parse(POLICY.replace(old, new, 1))}))
    answer = imported(there, exported(served, "--instance", "a"))
    assert (answer["taken"], answer["disconnected"], answer["refused"]) == (4, 2, NOTHING)
    cut = {c.origin: c.disconnected for c in there.firewall.connections}
    assert cut == {"inbound": True, "outbound": False}
    # SPEC 5.3: until the timeout has passed since the cut, which was now.
    assert all(c.expires_ns - there.firewall.now() > 590 * SECOND for c in there.firewall.connections if c.disconnected)


def test_who_else_is_there_is_no_change(served: Served, there: Served) -> None:
    """Another host has other instances in the same groups."""
    other = POLICY.replace("id: b,", "id: c,").replace("10.0.0.2", "10.0.0.3").replace("[other]}", "[sg, other]}")
    there.firewall.replace(there.firewall.changed({"apply_policy": Policy.parse(other)}))
    answer = imported(there, exported(served, "--instance", "a"))
    assert (answer["taken"], answer["disconnected"]) == (4, 0)


def test_rules_keep_their_names(served: Served, there: Served) -> None:
    """SPEC 5.2: an outbound connection goes on under the rule that admitted it, though there is none such here."""
    there.change({"delete_rule": {"id": "out"}})
    imported(there, exported(served, "--instance", "a"))
    assert {c.rule for c in there.firewall.connections if c.origin == "outbound"} == {"out"}


def test_a_full_table_takes_no_more(served: Served, there: Served) -> None:
    """SPEC 4.9: its bound holds, and established connections are not driven out."""
    there.firewall.replace(
        there.firewall.changed({"apply_policy": Policy.parse(f"conntrack: {{max_entries: 2}}\n{POLICY}")})
    )
    records = [saved(there.firewall, "a", "10.0.0.1", f"192.0.2.{last}") for last in (1, 2)]
    assert there.firewall.restore(records, 0) == 2
    answer = imported(there, exported(served, "-p", "tcp", "--instance", "a"))
    assert (answer["taken"], answer["refused"]) == (0, NOTHING | {"table-full": 2})


# ---- hostile input: it loses nothing and changes nothing ----


def sealed(data: bytes) -> bytes:
    """With the checksum of what is there."""
    return data[:-32] + hashlib.sha256(data[:-32]).digest()


def with_head(data: bytes, change: Any) -> bytes:
    length = struct.unpack_from("<I", data, 12)[0]
    head = json.loads(data[16 : 16 + length])
    change(head)
    text = json.dumps(head).encode()
    return sealed(data[:12] + struct.pack("<I", len(text)) + text + data[16 + length :])


HOSTILE: dict[str, Any] = {
    "empty": lambda data: b"",
    "something else": lambda data: b"security_groups: []\n" * 10,
    "cut short": lambda data: data[:-100],
    "cut short, and sealed": lambda data: sealed(data[:-100]),
    "longer": lambda data: data + b"\0",
    "another version": lambda data: sealed(data[:8] + b"\2" + data[9:]),
    "a bit": lambda data: data[:-150] + bytes([data[-150] ^ 1]) + data[-149:],
    "a long head": lambda data: sealed(data[:12] + b"\xff\xff\xff\xff" + data[16:]),
    "zones that nobody has": lambda data: with_head(data, lambda head: head.update(instances=[])),
    "rules that nobody has": lambda data: with_head(data, lambda head: head.update(rules=[])),
    "names of another type": lambda data: with_head(data, lambda head: head.update(rules=[5] * 9)),
    "a day after tomorrow": lambda data: with_head(data, lambda head: head.update(time=head["time"] * 2)),
    "no time": lambda data: with_head(data, lambda head: head.update(time="now")),
    "another size": lambda data: with_head(data, lambda head: head.update(record=1)),
    "a policy with a mistake": lambda data: with_head(data, lambda head: head.update(policy={"instances": [{}]})),
    "no policy": lambda data: with_head(data, lambda head: head.pop("policy")),
    "deep": lambda data: with_head(data, lambda head: head.update(rule_uses=[[[[[[]]]]]])),
}


def test_what_is_damaged_is_refused_as_a_whole(served: Served) -> None:
    whole = exported(served)
    before, names = facts(served.firewall), served.firewall.names.count()
    for how, damaged in HOSTILE.items():
        done = ctl(served, "import", given=damaged(whole))
        assert done.exit_code == 2, how
        assert done.stderr.startswith("the connections cannot be imported, and none is taken: "), how
        assert len(done.stderr.splitlines()) == 1, how
        assert (facts(served.firewall), served.firewall.names.count()) == (before, names), how


def test_connections_that_cannot_be_are_counted(there: Served) -> None:
    """Whatever is written in a record with a good checksum; those that can be are taken."""
    maker = there.firewall
    odd: list[dict[str, Any]] = [
        {"family": 5},
        {"origin": 0},
        {"origin": 9},
        {"state": 0},
        {"state": 255},
        {"state": lib.DP_CONN_ICMP_ONE_WAY},
        {"protocol": 1},
        {"age_ns": 2**64 - 1},
    ]
    records = [saved(maker, "a", "10.0.0.1", f"192.0.2.{n}", **fields) for n, fields in enumerate(odd, 1)]
    extreme: dict[str, Any] = {
        "protocol": TCP,
        "tcp_scale_flags": [255, 255],
        "tcp_max_window": [65535, 0],
        "tcp_end": [2**32 - 1, 0],
        "vlans": 2**32 - 1,
        "disconnected": 255,
    }
    records.append(saved(maker, "a", "10.0.0.1", "192.0.2.200", **extreme))
    data = b"".join(state.encoded(replace(state.taken(maker, []), records=b"".join(records))))
    answer = imported(there, data)
    assert answer["refused"] == NOTHING | {"not-valid": len(odd) - 1, "expired": 1}
    assert (answer["taken"], answer["disconnected"]) == (1, 1)
    assert there.firewall.connections.flush() == 1


def test_more_than_the_table_holds_is_not_even_sent(there: Served) -> None:
    with ControlClient(there.socket) as client:
        for length, words in (
            (STATE_BYTES_MAX, "more than a state with as many"),
            (STATE_BYTES_MAX + 1, "less than or"),
        ):
            with pytest.raises(RefusedError, match=words):
                client.call("import", bytes=length)
        assert client.call("ping") == {}


def test_what_never_ends_is_not_read_to_its_end(there: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is no state only the first bytes; of what begins as one no more than the table holds."""
    done = ctl(there, "import", "/dev/zero")
    assert (done.exit_code, "it is no state file of dataplane" in done.stderr) == (2, True)
    monkeypatch.setattr(state, "most_bytes", lambda connections: connections)
    limit = there.firewall.policy.conntrack.max_entries
    done = ctl(there, "import", given=STATE_MAGIC + bytes(limit))
    assert (done.exit_code, f"there are more than {limit:,} bytes" in done.stderr) == (2, True)


def test_nothing_is_exported_of_whom_nobody_knows(served: Served) -> None:
    done = ctl(served, "export", "--instance", "nobody")
    assert (done.exit_code, done.stdout_bytes) == (2, b"")
    assert "instance 'nobody' is not known" in done.stderr


def test_many_come_while_the_policy_changes(there: Served) -> None:
    """Each of them is judged by what is in force when it is taken; who is gone by then is counted."""
    firewall = there.firewall
    source = filled()
    records = b"".join(
        saved(source, "a", "10.0.0.1", f"198.18.{n >> 8}.{n & 255}", remote_port=1 + n) for n in range(9000)
    )
    arriving = there.operations.arriving(b"".join(state.encoded(replace(state.taken(source, []), records=records))))
    assert arriving.take_some()
    there.change({"update_rule": {"id": "web", "multiport": "81"}})
    assert arriving.take_some()
    there.change({"delete_instance": {"id": "a"}})
    assert not arriving.take_some()
    answer = arriving.record()
    assert (answer["taken"], answer["disconnected"]) == (2 * 4096, 4096)
    assert answer["refused"] == NOTHING | {"no-instance": 9000 - 2 * 4096}
    assert len(firewall.connections) == 0
