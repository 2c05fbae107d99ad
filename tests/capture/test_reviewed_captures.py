"""Every real capture has the verdicts that a person has reviewed (reviewed/expectations.yaml), under one fixed policy.

An expectation says of each packet what its checks said, in words: verdict, state, reason, then the rule that decided or
the cause of an invalid packet. Packets whose verdict matters are named by number, the rest is counted. A new verdict
is to be looked at in the capture, not copied from the failure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml

from dataplane import DataPlane, Policy
from dataplane.replay import Captures, Replay
from dataplane.verdict import Check, Names, check_of

from .real_captures import FOLDER, index

REVIEWED = Path(__file__).parent / "reviewed"
POLICY: dict[str, Any] = yaml.safe_load((REVIEWED / "policy.yaml").read_bytes())
EXPECTED: dict[str, dict[str, Any]] = yaml.safe_load((REVIEWED / "expectations.yaml").read_bytes())


class Words:
    """An observer of a replay that keeps each packet's checks in words."""

    def __init__(self) -> None:
        self.packets: list[str] = []

    def observe(self, first_packet: int, n: int, records: Any, flows: Any, names: Names) -> None:
        for record in records[0:n]:
            checks = [in_words(check_of(record.check[i], names)) for i in range(record.checks)]
            twice = len(checks) == 2 and checks[0] == checks[1]
            self.packets.append(f"twice {checks[0]}" if twice else " + ".join(checks) or "bypass")


def in_words(check: Check) -> str:
    words = [check.verdict, check.state, check.reason, check.cause or (check.rule if check.reason == "rule" else None)]
    return " ".join(word for word, _ in groupby(filter(None, words)))


def verdicts(capture: Path, hosts: list[str] | str, *, loose: bool) -> list[str]:
    """What each packet meets; `hosts` are the addresses of the instance, or "any"."""
    if hosts == "any":
        instance = {"addresses": ["203.0.113.77"], "allowed_address_pairs": ["0.0.0.0/0", "::/0"]}
    else:
        instance = {"addresses": hosts}
    instance |= {"id": "host", "security_groups": ["open" if hosts == "any" else "guarded"]}
    policy = Policy.model_validate(POLICY | {"instances": [instance], "conntrack": {"tcp_loose": loose}})
    words = Words()
    with Captures([capture]) as captures:
        Replay(DataPlane(policy, seed=1), captures, observers=[words]).run()
    return words.packets


def runs(expected: dict[Any, str]) -> Iterator[tuple[int, str]]:
    """Packet numbers with their verdict: ``{"4-6": ...}`` are three."""
    for numbers, words in expected.items():
        first, _, last = str(numbers).partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield number, words


CASES = [(row["file"], key) for row in index() for key in EXPECTED.get(row["file"], {}) if key in ("verdicts", "loose")]


@pytest.mark.parametrize(("name", "key"), CASES)
def test_reviewed_verdicts(name: str, key: str) -> None:
    """SPEC 3, 4, 7. `loose` is with tcp_loose: true."""
    review = EXPECTED[name]
    found = verdicts(FOLDER / name, review["hosts"], loose=key == "loose")
    expected = dict(runs(review[key].get("packets", {})))
    assert {number: found[number - 1] for number in expected if number <= len(found)} == expected
    others = Counter(words for number, words in enumerate(found, 1) if number not in expected)
    assert dict(others) == review[key].get("others", {})


def test_every_capture_is_reviewed() -> None:
    names = {row["file"] for row in index()}
    assert names <= EXPECTED.keys()
    assert all(review["why"] and "verdicts" in review for review in EXPECTED.values())
