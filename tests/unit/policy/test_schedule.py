"""SPEC 7, `--changes FILE`: a list of changes, each with its time."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from dataplane.policy import ChangeError, Policy, PolicyError
from dataplane.policy.changes import ApplyPolicy, TimedChange, load_changes

from .conftest import unmarked

POLICY = """
security_groups:
  - {id: sg-a, security_group_rules: [{id: A01, direction: ingress, protocol: tcp, multiport: 22}]}
  - {id: sg-b}
address_groups: [{id: ipGroup-A, ip_version: 4, ip_set: []}]
instances: [{id: ecs-a, addresses: [10.0.0.1], security_groups: [sg-a]}]
"""

#: The list of SPEC 7, not in the order of time.
CHANGES = """
- {at: 16, apply_policy: other.yaml}
- {at: 10.5, add_rule: {security_group: sg-a, rule: {id: A02, direction: egress}}}
- {at: 11, update_rule: {id: A01, multiport: "443"}}
- {at: 15, update_address_group: {id: ipGroup-A, ip_set: [10.0.0.0/8]}}
- {at: 13, add_instance: {security_group: sg-b, instance: ecs-a}}
- {at: 14, remove_instance: {security_group: sg-b, instance: ecs-a}}
- {at: 11, delete_rule: {id: A02}}
"""


def write(folder: Path, text: str, name: str = "changes.yaml") -> Path:
    (folder / "other.yaml").write_text(POLICY)
    path = folder / name
    path.write_text(dedent(text))
    return path


def test_the_list_of_spec_7(tmp_path: Path) -> None:
    """In order of time, and where times are equal in the order of the list."""
    changes = load_changes(write(tmp_path, CHANGES))
    assert [(change.at, change.change.summary) for change in changes] == [
        (10.5, "add rule A02 to sg-a"),
        (11, "update rule A01: multiport"),
        (11, "delete rule A02"),
        (13, "add ecs-a to sg-b"),
        (14, "remove ecs-a from sg-b"),
        (15, "update address group ipGroup-A"),
        (16, "apply policy other.yaml"),
    ]
    policy = start = Policy.parse(POLICY)
    for change in changes[:-1]:
        policy = change.apply(policy)
    assert policy.rule("A01").multiport == "443"
    assert policy.address_group("ipGroup-A").ip_set == ("10.0.0.0/8",)
    assert changes[-1].apply(policy) == start


def test_policies_are_relative_to_the_file(tmp_path: Path) -> None:
    (change,) = load_changes(write(tmp_path, "[{at: 0, apply_policy: other.yaml}]"))
    assert isinstance(change.change, ApplyPolicy)
    assert change.change.policy == Policy.parse(POLICY)


def test_json_lists(tmp_path: Path) -> None:
    (change,) = load_changes(write(tmp_path, '[{"at": 0, "delete_rule": {"id": "A01"}}]', "changes.json"))
    assert change == TimedChange(0, change.change, f"{tmp_path / 'changes.json'}:1:2")


def test_an_empty_list_is_allowed(tmp_path: Path) -> None:
    assert load_changes(write(tmp_path, "[]")) == []


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("§", ["the document is empty: a list of changes is needed"]),
        ("§at: 5", ["the document is a mapping: a list of changes is needed"]),
        ("- §5", ["the change 5 is not allowed: write a mapping"]),
        ("- §delete_rule: {id: a}", ["at is missing: write a number of seconds"]),
        ("- {at: §-1, delete_rule: {id: a}}", ["at -1 is out of range: 0..1000000000"]),
        ("- {at: §.nan, delete_rule: {id: a}}", ["at NaN is out of range: 0..1000000000"]),
        ('- {at: §"5", delete_rule: {id: a}}', ['at "5" is not allowed: write a number of seconds without quotes']),
        (
            "- {at: 1, delete_rule: {id: a}, §add_instance: {security_group: g, instance: i}}",
            ["add_instance is one change too many: delete_rule is given already"],
        ),
        (
            "- {at: 1, at: 2, delete_rule: {id: a}}".replace(", at", ", §at"),
            ['key "at" is given twice: it stands on line 1 already'],
        ),
    ],
)
def test_mistakes(tmp_path: Path, text: str, messages: list[str]) -> None:
    _finds(tmp_path, text, messages)


def test_all_mistakes_in_one_run(tmp_path: Path) -> None:
    """Of the list and of the policies that it names."""
    (tmp_path / "bad.yaml").write_text("region: 5\ninstances: none\n")
    _finds(
        tmp_path,
        """
        - §{at: 1}
        - {at: §soon, §add_rul: {}}
        - at: 2
          add_rule:
            security_group: sg-a
            rule: {direction: ingress, §multiport: 22, priority: §0}
        - {at: 3, apply_policy: bad.yaml}
        - {at: 4, update_rule: §{priority: §101}}
        """.replace("- {at: §soon", "- §{at: §soon"),
        [
            "no change is given: write one of add_rule, update_rule, delete_rule, add_instance, remove_instance,"
            " update_address_group, clone_group or apply_policy",
            "no change is given: write one of add_rule, update_rule, delete_rule, add_instance, remove_instance,"
            " update_address_group, clone_group or apply_policy",
            'at "soon" is not allowed: write a number of seconds',
            'key "add_rul" is not known: did you mean add_rule?',
            "multiport is allowed with protocol tcp or udp only: the rule has none",
            "priority 0 is out of range: 1..100",
            "id is missing: write text",
            "priority 101 is out of range: 1..100",
        ],
        [
            f'{tmp_path / "bad.yaml"}:1:9: region 5 is not allowed: write text in quotes: "5"',
            f'{tmp_path / "bad.yaml"}:2:12: instances "none" is not allowed: write a list',
        ],
    )


def _finds(folder: Path, text: str, messages: list[str], elsewhere: list[str] | None = None) -> None:
    plain, places = unmarked(dedent(text))
    path = write(folder, plain)
    with pytest.raises(PolicyError) as caught:
        load_changes(path)
    expected = [f"{path}:{place}: {message}" for place, message in zip(places, messages, strict=True)]
    assert str(caught.value).splitlines() == expected + (elsewhere or [])


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="the file cannot be read: No such file or directory"):
        load_changes(tmp_path / "none.yaml")


def test_a_refusal_names_the_place(tmp_path: Path) -> None:
    """SPEC 5.6: with the reason."""
    path = write(tmp_path, "# changes\n- {at: 1, delete_rule: {id: A09}}\n")
    (change,) = load_changes(path)
    with pytest.raises(ChangeError) as caught:
        change.apply(Policy.parse(POLICY))
    assert str(caught.value) == f'{path}:2:3: "A09" is no rule of this policy; did you mean "A01"?'
