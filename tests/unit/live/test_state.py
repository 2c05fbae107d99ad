"""The state file: what is written is restored, and what is damaged is told and ignored."""

from __future__ import annotations

import json
import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dataplane import Policy
from dataplane._core import lib
from dataplane.live import state
from dataplane.live.firewall import Firewall

from .scene import POLICY, SECOND, filled, saved


def facts(firewall: Firewall) -> set[tuple[object, ...]]:
    """Everything of the connections but their times."""
    return {
        (c.instance, c.origin, c.protocol, c.state, c.local, c.local_port, c.remote, c.remote_port, c.icmp_id, c.rule)
        for c in firewall.connections
    }


def restored(path: Path, *, workers: int = 1) -> Firewall:
    found = state.read(path)
    assert found
    firewall = Firewall(found.policy, workers=workers)
    assert state.restore(firewall, found) == found.connections
    return firewall


@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_written_is_restored(tmp_path: Path, workers: int) -> None:
    """Whatever the zones and rule numbers of the new firewall are, and however many workers it has."""
    before = filled()
    state.write(tmp_path / "state", state.taken(before))
    after = restored(tmp_path / "state", workers=workers)
    assert facts(after) == facts(before)
    assert after.policy == before.policy


def test_names_decide_not_numbers(tmp_path: Path) -> None:
    """Another order of instances and rules gives other numbers to the same names."""
    before = filled()
    taken = state.taken(before)
    lines = POLICY.splitlines()
    first, second = (next(i for i, line in enumerate(lines) if f"id: {name}, addresses" in line) for name in "ab")
    lines[first], lines[second] = lines[second], lines[first]
    turned = Policy.parse("\n".join(lines))
    assert turned.instances[0].id == "b"
    state.write(tmp_path / "state", replace(taken, policy=turned))
    assert facts(restored(tmp_path / "state")) == facts(before)


def test_a_connection_keeps_the_name_of_a_rule_that_is_gone(tmp_path: Path) -> None:
    """SPEC 5.2: an outbound connection goes on under the rule that admitted it."""
    before = filled()
    before.apply({"delete_rule": {"id": "out"}})
    state.write(tmp_path / "state", state.taken(before))
    after = restored(tmp_path / "state")
    assert {c.rule for c in after.connections if c.origin == "outbound"} == {"out"}
    assert "out" not in after.policy.rules_by_id


def test_a_change_while_it_was_down_disconnects_as_any_change_does(tmp_path: Path) -> None:
    """SPEC 5.2: the policy of before is in the file, and the difference to that of now is what changed."""
    state.write(tmp_path / "state", state.taken(filled()))
    after = restored(tmp_path / "state")
    now = Policy.parse(POLICY.replace('multiport: "80"', 'multiport: "81"'))
    assert after.replace(after.changed({"apply_policy": now})).by_instance == {"a": 2}
    assert {c.remote for c in after.connections if c.disconnected} == {"192.0.2.9", "fd00::9"}


def test_time_that_passed_is_taken_off(tmp_path: Path) -> None:
    """What has outlived its timeout meanwhile is not restored; the clock of the wall may run backwards."""
    before = filled()
    taken = state.taken(before)
    state.write(tmp_path / "state", replace(taken, saved_ns=time.time_ns() - 60 * SECOND))
    found = state.read(tmp_path / "state")
    assert found
    after = Firewall(found.policy)
    assert state.restore(after, found) == 3, "30 s are over for UDP one way and for ICMP"
    left = [c.expires_ns - after.now() for c in after.connections]
    assert all(535 * SECOND < ns < 541 * SECOND for ns in left), left
    assert replace(taken, saved_ns=time.time_ns() + 60 * SECOND).passed_ns() == 0


def test_the_file_is_the_owners_and_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")
    state.write(path, state.taken(filled()))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["state"], "no temporary file stays"


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        state.write(tmp_path / "no" / "state", state.taken(filled()))
    (tmp_path / "state").mkdir()
    with pytest.raises(OSError, match="it is no regular file"):
        state.write(tmp_path / "state", state.taken(filled()))
    assert os.listdir(tmp_path) == ["state"]


def test_without_a_file_there_is_nothing(tmp_path: Path) -> None:
    assert state.read(tmp_path / "none") is None


def damaged(path: Path, data: bytes, reason: str) -> None:
    path.write_bytes(data)
    with pytest.raises(state.StateError) as told:
        state.read(path)
    assert reason in str(told.value)
    assert str(told.value).startswith(f"{path}: ")
    assert "\n" not in str(told.value)


def test_every_damaged_file_is_told_in_one_sentence(tmp_path: Path) -> None:
    """A bit turned anywhere, a cut anywhere, another program's file, a form of the future."""
    path = tmp_path / "state"
    state.write(path, state.taken(filled()))
    good = path.read_bytes()
    for place in (0, 9, 13, 40, len(good) // 2, len(good) - 1):
        turned = bytearray(good)
        turned[place] ^= 1
        path.write_bytes(turned)
        with pytest.raises(state.StateError):
            state.read(path)
    for length in (0, 7, 15, 16, 100, len(good) - 1):
        path.write_bytes(good[:length])
        with pytest.raises(state.StateError):
            state.read(path)
    damaged(path, b"\x7fELF" + bytes(100), "it is no state file of dataplane")
    damaged(path, good[:8] + (9).to_bytes(4, "little") + good[12:], "its form has version 9")
    damaged(path, good[:-1], "its checksum is wrong")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("record", 80, "its head is not what this program writes"),
        ("connections", 1, "its head is not what this program writes"),
        ("instances", [], "its head is not what this program writes"),
        ("rules", [None], "its head is not what this program writes"),
        ("rules", [3], "its head is not what this program writes"),
        ("policy", {"instances": [{"id": "a"}]}, "the policy in it is not valid here"),
        ("time", float("nan"), "its head is not what this program writes"),
        ("time", float("inf"), "its head is not what this program writes"),
        ("time", 1.5, "its head is not what this program writes"),
        ("time", -1, "saved at a time that is older than any connection"),
        ("time", -(1 << 80), "saved at a time that is older than any connection"),
        ("time", 0, "saved at a time that is older than any connection"),
        pytest.param(
            "time",
            time.time_ns() + 90_000 * SECOND,
            "saved at a time that is ahead of this machine's clock",
            id="time-tomorrow",
        ),
        ("time", 1 << 64, "saved at a time that is ahead of this machine's clock"),
        ("time", 1 << 200, "saved at a time that is ahead of this machine's clock"),
    ],
)
def test_a_head_that_does_not_fit_is_told(tmp_path: Path, key: str, value: object, reason: str) -> None:
    """Also where the checksum is right: a file made by somebody who knows how."""
    path = tmp_path / "state"
    state.write(path, state.taken(filled()))
    good = path.read_bytes()
    length = int.from_bytes(good[12:16], "little")
    head = json.loads(good[16 : 16 + length]) | {key: value}
    text = json.dumps(head).encode()
    begin = good[:12] + len(text).to_bytes(4, "little") + text + good[16 + length : -32]
    import hashlib

    damaged(path, begin + hashlib.sha256(begin).digest(), reason)


def test_a_connection_that_does_not_fit_is_left_out(tmp_path: Path) -> None:
    """A state that its protocol does not have."""
    firewall = filled()
    wrong = saved(firewall, "a", "10.0.0.1", "192.0.2.77", state=lib.DP_CONN_ICMP_TWO_WAY)
    assert firewall.restore([wrong], 0) == 0
