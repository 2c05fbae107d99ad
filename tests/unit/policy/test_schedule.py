"""SPEC 7, `--changes FILE`: a list of changes, each with its time."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from dataplane.policy import ChangeError, Policy, PolicyError
from dataplane.policy.changes import KINDS, ApplyPolicy
from dataplane.policy.schedule import TimedChange, load_changes, scheduled

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
        (
            "§instances: []",
            ["the document is a policy: a list of changes is needed, as - {at: 0, apply_policy: FILE}"],
        ),
        ("- §5", ["the change 5 is not allowed: write a mapping"]),
        ("- §delete_rule: {id: a}", ["at is missing: write a number of seconds"]),
        ("- {at: §-1, delete_rule: {id: a}}", ["at -1 is out of range: 0..9223372036"]),
        ("- {at: §.nan, delete_rule: {id: a}}", ["at NaN is out of range: 0..9223372036"]),
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
            "no change is given: write one of add_rule, update_rule, delete_rule, fast_add_rules, create_group,"
            " update_group, delete_group, clone_group, add_instance, remove_instance, create_address_group,"
            " update_address_group, delete_address_group, create_instance, update_instance, delete_instance,"
            " create_load_balancer, update_load_balancer, delete_load_balancer or apply_policy",
            "no change is given: write one of add_rule, update_rule, delete_rule, fast_add_rules, create_group,"
            " update_group, delete_group, clone_group, add_instance, remove_instance, create_address_group,"
            " update_address_group, delete_address_group, create_instance, update_instance, delete_instance,"
            " create_load_balancer, update_load_balancer, delete_load_balancer or apply_policy",
            'at "soon" is not allowed: write seconds since the first packet, or an RFC 3339 time such as'
            " 2026-01-31T12:00:00Z",
            'key "add_rul" is not known: did you mean add_rule?',
            "multiport is allowed with protocol tcp, udp, sctp, dccp or udplite only: the rule has none",
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
    """SPEC 5.6: with the reason, at the field."""
    path = write(tmp_path, "# changes\n- {at: 1, delete_rule: {id: A09}}\n")
    (change,) = load_changes(path)
    with pytest.raises(ChangeError) as caught:
        change.apply(Policy.parse(POLICY))
    assert str(caught.value) == f'{path}:2:29: "A09" is no rule of this policy; did you mean "A01"?'


# ---- what does not fit the policy ----


def _misfits(folder: Path, text: str, messages: list[str], behind: int = 0) -> None:
    """What is said about a list that is all right by itself, and about one that has a mistake more behind it."""
    plain, places = unmarked(dedent(text))
    path = write(folder, plain)
    expected = [f"{path}:{place}: {message}" for place, message in zip(places, messages, strict=True)]
    policy = Policy.parse(POLICY)
    with pytest.raises(ChangeError) as refused:
        scheduled(policy, load_changes(path))
    assert str(refused.value).splitlines() == expected + ([f"{path}: {_untried(behind)}"] if behind else [])
    path = write(folder, plain + "- {at: 99, update_rule: {id: A01, priority: 0}}\n")
    with pytest.raises(PolicyError) as caught:
        load_changes(path, policy)
    *said, last, more = str(caught.value).splitlines()
    assert (said, "priority 0 is out of range" in last) == (expected, True)
    assert more == f"{path}: {_untried(behind + 1)}"


def _untried(number: int) -> str:
    which = "the later change was" if number == 1 else f"the {number} later changes were"
    return f"{which} not tried: what they would meet depends on this one"


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ("delete_rule: {id: §A09}", ['"A09" is no rule of this policy; did you mean "A01"?']),
        (
            "add_rule: {security_group: §sg-x, rule: {direction: ingress}}",
            ['"sg-x" is no security group of this policy; did you mean "sg-b"?'],
        ),
        (
            "add_rule: {security_group: sg-a, rule: {id: §A01, direction: ingress, remote_group_id: §sg-y}}",
            [
                'rule id "A01" is used already, in security group "sg-a"',
                'remote_group_id "sg-y" is no security group of this policy; did you mean "sg-b"?',
            ],
        ),
        (
            "add_rule: {security_group: sg-a, rule: {direction: ingress, remote_address_group_id: §ipGroup-B}}",
            ['remote_address_group_id "ipGroup-B" is no address group of this policy; did you mean "ipGroup-A"?'],
        ),
        (
            "add_instance: {security_group: §sg-z, instance: §ecs-z}",
            [
                '"sg-z" is no security group of this policy; did you mean "sg-b"?',
                '"ecs-z" is no instance of this policy; did you mean "ecs-a"?',
            ],
        ),
        (
            "remove_instance: {security_group: §sg-b, instance: ecs-a}",
            ['instance "ecs-a" is not in security group "sg-b"'],
        ),
        (
            'update_address_group: {id: ipGroup-A, ip_set: [10.0.0.1, §"::1", §"::2"]}',
            ['ip_set[1] "::1" is IPv6 and ip_version is 4', 'ip_set[2] "::2" is IPv6 and ip_version is 4'],
        ),
        (
            "update_address_group: {id: §ipGroup-Z, ip_set: []}",
            ['"ipGroup-Z" is no address group of this policy; did you mean "ipGroup-A"?'],
        ),
        (
            "update_rule: §{id: A01, protocol: icmp}",
            ["multiport is allowed with protocol tcp, udp, sctp, dccp or udplite only: the rule has protocol icmp"],
        ),
        (
            "create_instance: {id: ecs-b, addresses: [§10.0.0.1], security_groups: [sg-a, §sg-c]}",
            [
                'addresses[0] "10.0.0.1" is taken in vpc "default": instance "ecs-a" has it already',
                'security_groups[1] "sg-c" is no security group of this policy; did you mean "sg-b"?',
            ],
        ),
        (
            "delete_group: {id: §sg-a}",
            ['security group "sg-a" is still used: instance "ecs-a" is in it: take it out there first'],
        ),
    ],
)
def test_all_that_does_not_fit_is_told_in_one_run_at_its_field(
    tmp_path: Path, change: str, messages: list[str]
) -> None:
    """SPEC 2, 5.6: every mistake of a change in one run; nothing is applied."""
    _misfits(tmp_path, f"- {{at: 8, {change}}}\n", messages)


def test_changes_behind_one_that_cannot_be_made_are_not_tried(tmp_path: Path) -> None:
    """SPEC 5.6: what comes before is made on trial, and it is said that what comes after is not."""
    _misfits(
        tmp_path,
        """\
        - {at: 1, add_rule: {security_group: sg-b, rule: {id: B01, direction: ingress}}}
        - {at: 2, update_rule: {id: B01, remote_group_id: §sg-x}}
        - {at: 3, delete_rule: {id: B01}}
        - {at: 4, delete_rule: {id: B01}}
        """,
        ['remote_group_id "sg-x" is no security group of this policy; did you mean "sg-b"?'],
        behind=2,
    )


@pytest.mark.parametrize(
    ("failing", "message", "following"),
    [
        (
            "add_rule: {security_group: sg-a, rule: {id: A02, direction: §in}}",
            'direction "in" is not allowed: write ingress or egress',
            ["update_rule: {id: A02, priority: 5}", "delete_rule: {id: A02}"],
        ),
        (
            "add_rule: {security_group: sg-a, rule: {direction: §in}}",
            'direction "in" is not allowed: write ingress or egress',
            ["delete_rule: {id: sg-a/2}"],
        ),
        (
            "add_rule: {security_group: §sg-x, rule: {id: A02, direction: ingress}}",
            '"sg-x" is no security group of this policy; did you mean "sg-b"?',
            ["update_rule: {id: A02, priority: 5}", "delete_rule: {id: A02}"],
        ),
        (
            "update_rule: {id: A01, protocol: icmp, multiport: null, priority: §0}",
            "priority 0 is out of range: 1..100",
            ["update_rule: {id: A01, icmp_type: 8}"],
        ),
        (
            "add_instance: {security_group: §sg-x, instance: ecs-a}",
            '"sg-x" is no security group of this policy; did you mean "sg-b"?',
            ["remove_instance: {security_group: sg-a, instance: ecs-a}"],
        ),
        (
            "add_instance: {security_group: §5, instance: ecs-a}",
            'security_group 5 is not allowed: write text in quotes: "5"',
            ["remove_instance: {security_group: sg-b, instance: ecs-a}"],
        ),
        (
            "apply_policy: §5",
            'apply_policy 5 is not allowed: write text in quotes: "5"',
            ["delete_rule: {id: B01}", "add_instance: {security_group: sg-c, instance: ecs-c}"],
        ),
    ],
)
def test_what_depends_on_a_change_that_failed_is_not_blamed(
    tmp_path: Path, failing: str, message: str, following: list[str]
) -> None:
    """SPEC 5.6: the reason is told once, where it is."""
    text = "".join(f"- {{at: {n}, {change}}}\n" for n, change in enumerate([failing, *following]))
    plain, places = unmarked(text)
    path = write(tmp_path, plain)
    with pytest.raises((PolicyError, ChangeError)) as caught:
        scheduled(Policy.parse(POLICY), load_changes(path, Policy.parse(POLICY)))
    assert str(caught.value).splitlines() == [
        f"{path}:{places[0]}: {message}",
        f"{path}: {_untried(len(following))}",
    ]


def test_names_in_a_change_with_another_mistake_are_looked_up_too(tmp_path: Path) -> None:
    """SPEC 2: every mistake in one run, also of one change."""
    plain, places = unmarked("- {at: §soon, add_rule: {security_group: §sg-x, rule: {direction: §in}}}\n")
    path = write(tmp_path, plain)
    with pytest.raises(PolicyError) as caught:
        load_changes(path, Policy.parse(POLICY))
    assert [
        line.rsplit(": ", 1)[0].removeprefix(f"{path}:").split(": ")[0] for line in str(caught.value).splitlines()
    ] == [str(place) for place in places]


def test_a_policy_that_cannot_be_read_leaves_what_comes_before_it(tmp_path: Path) -> None:
    """SPEC 2, 5.6."""
    path = write(
        tmp_path,
        "- {at: 5, apply_policy: none.yaml}\n- {at: 1, delete_rule: {id: A9}}\n- {at: 6, delete_rule: {id: B1}}\n",
    )
    with pytest.raises(PolicyError) as caught:
        load_changes(path, Policy.parse(POLICY))
    first, second, third = str(caught.value).splitlines()
    assert first.startswith(f'{path}:2:29: "A9" is no rule')
    assert "none.yaml: the file cannot be read" in second
    assert third == f"{path}: {_untried(2)}"


@pytest.mark.parametrize(
    "value", ["{id: {a: 1}}", "{id: [a]}", "[a]", "5", "{}", "{rule: [1], security_group: {}}", "{instance: []}"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_values_of_any_kind_are_mistakes(tmp_path: Path, kind: str, value: str) -> None:
    """SPEC 2."""
    with pytest.raises(PolicyError):
        load_changes(write(tmp_path, f"- {{at: {{}}, {kind}: {value}}}\n- 7\n"), Policy.parse(POLICY))


def test_times_of_two_kinds_leave_open_what_a_change_meets(tmp_path: Path) -> None:
    """SPEC 2: no mistake that may be none; the order of these changes is not known."""
    path = write(
        tmp_path,
        "- {at: '2013-01-01T00:00:00Z', update_rule: {id: A01, priority: 2}}\n- {at: 3, delete_rule: {id: A01}}\n",
    )
    policy = Policy.parse(POLICY)
    assert policy.rule("A01")
    with pytest.raises(PolicyError) as caught:
        load_changes(path, policy)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}:2:8: at is written in two ways")
