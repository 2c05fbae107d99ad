"""Files of another kind where a document is needed: one sentence that says what it is, and where it goes."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path

import pytest

from dataplane.insight.cases import BrokenCase, cases_of_file
from dataplane.policy import Policy, PolicyError
from dataplane.policy.instances import load_instances
from dataplane.policy.reading.file_kinds import capture_told
from dataplane.policy.schedule import load_changes
from dataplane.replay.expectations import Expectations

PCAP = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
PCAPNG = bytes.fromhex("0a0d0d0a1c0000004d3c2b1a01000000ffffffffffffffff1c000000")


def told(data: bytes, name: str = "given.yaml") -> str:
    with pytest.raises(PolicyError) as caught:
        Policy.parse(data, name)
    (mistake,) = caught.value.mistakes
    return mistake.message


@pytest.mark.parametrize("capture", [PCAP, PCAPNG])
def test_a_capture_in_the_place_of_a_document(capture: bytes, tmp_path: Path) -> None:
    assert told(capture).startswith("this is a capture, where a YAML or JSON document is needed: are two arguments")
    for compressed in (gzip.compress(capture), bz2.compress(capture)):
        assert told(compressed).startswith("this is a compressed file, where a YAML or JSON document is needed: ")
    path = tmp_path / "a.pcap"
    path.write_bytes(capture)
    for load in (load_instances, load_changes, Expectations.load):
        with pytest.raises(PolicyError, match=r"this is a capture.* learn takes it as --instances"):
            load(path)


@pytest.mark.parametrize("text", ["BZh: 1", "\n\r\r\ninstances: []"])
def test_text_that_begins_like_a_capture_stays_text(text: str) -> None:
    assert capture_told(text.encode()) is None


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"SecurityGroups": []}, "aws"),
        ({"version": 4, "terraform_version": "1.9.0", "resources": []}, "terraform"),
        ({"request_id": "x", "security_group_rules": [], "page_info": {}}, "huawei"),
        ([{"ID": "x", "IP Protocol": "tcp", "IP Range": "0.0.0.0/0"}], "openstack"),
    ],
)
def test_a_document_of_another_system_leads_to_import(value: object, name: str) -> None:
    assert told(json.dumps(value).encode()).endswith(f"no policy yet: make a policy of it with dataplane import {name}")


@pytest.mark.parametrize(
    ("text", "name"),
    [('resource "aws_security_group" "web" {\n}\n', "<stdin>"), ("locals {\n}\n", "main.tf")],
)
def test_a_terraform_configuration_leads_to_import(text: str, name: str) -> None:
    assert told(text.encode(), name) == (
        "this is a Terraform configuration: make a policy of it with dataplane import terraform, of the state file or"
        " of terraform show -json"
    )


def test_changes_and_expectations_are_told_apart(tmp_path: Path) -> None:
    """One sentence in place of several for each item."""
    path = tmp_path / "list.yaml"
    path.write_text("- {packet: 1, verdict: allow}\n- {address: 10.0.0.1, verdict: deny, count: 0}\n")
    with pytest.raises(PolicyError) as caught:
        load_changes(path)
    assert str(caught.value) == (f"{path}:1:1: these are expectations, where changes are needed: --expect takes them")
    path.write_text("- {at: 1, delete_rule: {id: A01}}\n- {at: 2, delete_rule: {id: A02}}\n")
    with pytest.raises(PolicyError) as caught:
        Expectations.load(path)
    assert str(caught.value) == (f"{path}:1:1: these are changes, where expectations are needed: --changes takes them")
    path.write_text("- {at: 1, verdict: allow}\n")
    with pytest.raises(PolicyError, match="verdict"):
        load_changes(path)


def test_a_policy_and_lists_beside_it_are_told_apart() -> None:
    """SPEC 2, 7: a list of another kind where the policy is needed; any other list is a list."""
    assert told(b"- {at: 0, delete_rule: {id: A01}}\n") == (
        "these are changes, where a policy is needed: --changes takes them"
    )
    assert told(b"- {packet: 1, verdict: allow}\n") == (
        "these are expectations, where a policy is needed: --expect takes them"
    )
    assert told(b"- {id: A01}\n") == "the document is a list: write a mapping"


def test_a_policy_and_its_cases_are_told_apart(tmp_path: Path) -> None:
    """SPEC 8.6: each where the other is needed; a policy within a file of cases is neither."""
    path = tmp_path / "policy.yaml"
    path.write_text("security_groups: []\ninstances: []\n")
    (broken,) = cases_of_file(path)
    assert isinstance(broken, BrokenCase)
    assert broken.why.startswith(f"{path}:1:1: this is a policy, where cases are needed: name it")
    assert told(b"policy: policy.yaml\ncases: []\n") == (
        "these are cases of a policy, where the policy itself is needed: dataplane test takes them"
    )
    assert "dataplane test" not in told(b"security_groups: []\ncases: []\n")
