"""A policy that was changed again and again is compiled to what it would be if it were compiled anew (SPEC 3.1, 5.1).

The order of rules is made from the one before, change by change; so are the tables, the index of rules and all else
that a policy keeps of the one before. Each is held against one that knows no policy before.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from random import Random
from typing import Any
from unittest.mock import patch

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dataplane._core import ffi, lib
from dataplane.compiler import KINDS, Compiler, pack_address
from dataplane.policy import ChangeError, Policy
from dataplane.policy.changes import apply, parse_change, prepare
from dataplane.rule_order import PREFIX_SIZE, RuleOrder
from dataplane.verdict import Names

GROUPS = ("a", "b", "c")
LISTS = (["a"], ["a"], ["b"], ["a", "b"], ["b", "a", "c"])
PREFIXES = {
    "IPv4": ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/23", "10.1.2.3"],
    "IPv6": ["::/0", "2001:db8::/32", "2001:db8:1::/48", "2001:db8:1::2"],
}
REMOTES = {
    family: st.one_of(
        st.just({}),
        st.builds(lambda prefix: {"remote_ip_prefix": prefix}, st.sampled_from(PREFIXES[family])),
        st.builds(lambda group: {"remote_group_id": group}, st.sampled_from(GROUPS)),
        *([st.just({"remote_address_group_id": "s"})] if family == "IPv4" else []),
    )
    for family in PREFIXES
}
FIELDS = st.fixed_dictionaries(
    {
        "direction": st.sampled_from(["ingress", "ingress", "egress"]),
        "priority": st.integers(1, 3),
        "action": st.sampled_from(["allow", "deny"]),
        "enabled": st.sampled_from([True, True, True, False]),
        "multiport": st.sampled_from(["22", "1-100", "22,80"]),
    }
)
RULES = st.sampled_from(["IPv4", "IPv4", "IPv6"]).flatmap(
    lambda family: st.builds(
        lambda fields, remote: {"protocol": "tcp", "ethertype": family, **fields, **remote}, FIELDS, REMOTES[family]
    )
)
IDS = st.integers(0, 30).map(str)
CHANGES = st.one_of(
    st.builds(
        lambda group, rule, name: {"add_rule": {"security_group": group, "rule": {**rule, "id": name}}},
        st.sampled_from(GROUPS),
        RULES,
        IDS,
    ),
    st.builds(
        lambda name, rule, kept: {"update_rule": {"id": name, **{k: v for k, v in rule.items() if k in kept}}},
        IDS,
        FIELDS,
        st.sets(st.sampled_from(["priority", "action", "enabled", "multiport", "direction"]), min_size=1),
    ),
    st.builds(lambda name: {"delete_rule": {"id": name}}, IDS),
    st.builds(
        lambda kind, group, instance: {kind: {"security_group": group, "instance": instance}},
        st.sampled_from(["add_instance", "remove_instance"]),
        st.sampled_from(GROUPS),
        st.sampled_from(["i0", "i2", "i3"]),
    ),
    st.builds(
        lambda entries: {"update_address_group": {"id": "s", "ip_set": entries}},
        st.lists(st.sampled_from(["10.0.0.1", "10.1.2.0/24"]), max_size=2, unique=True),
    ),
)
ASKED = {
    "IPv4": ["10.0.0.1", "10.1.2.3", "10.1.3.9", "10.9.9.9", "172.16.0.2"],
    "IPv6": ["2001:db8::1", "2001:db8:1::2", "2001:db8:1::9", "fd00::2", "::1"],
}
SELECTORS = [6 << 16 | port for port in (22, 80, 99, 4000)]


def _document(rules: list[dict[str, Any]]) -> dict[str, Any]:
    named = [{**rule, "id": str(number)} for number, rule in enumerate(rules)]
    return {
        "security_groups": [{"id": g, "security_group_rules": named[n::3]} for n, g in enumerate(GROUPS)],
        "address_groups": [{"id": "s", "ip_version": 4, "ip_set": ["10.1.2.3"]}],
        "instances": [
            {"id": f"i{n}", "addresses": [f"172.16.0.{n}", f"fd00::{n}"], "security_groups": groups}
            for n, groups in enumerate(LISTS)
        ],
    }


def _told(order: RuleOrder, names: Names) -> list[tuple[Any, ...]]:
    """The rules in their order: name, addresses of the remote (None: any), selectors, action."""
    told = []
    fields, rules = order.fields, order.merged().base.rules
    prefixes = bytes(fields.prefixes)
    for at in range(0, len(rules), 5):
        number, remote, first, n, action = rules[at : at + 5]
        addresses = None
        if remote != 0xFFFFFFFF:
            begin, count = fields.remotes[2 * remote : 2 * remote + 2]
            addresses = prefixes[begin * PREFIX_SIZE : (begin + count) * PREFIX_SIZE]
        told.append((names.rules[number], addresses, list(fields.selectors[2 * first : 2 * (first + n)]), action))
    return told


def _answers(table: Any, family: str, names: Names) -> list[tuple[Any, int]]:
    """Which rule decides about some first packets, and how."""
    action, asked = ffi.new("uint32_t *"), ffi.new("uint8_t[16]")
    found = []
    for address in ASKED[family]:
        packed = pack_address(address)
        ffi.buffer(asked)[: len(packed)] = packed
        for selector in SELECTORS:
            number = lib.dp_rule_table_lookup(table, asked, selector, action)
            found.append((names.rules[number], action[0]))
    return found


def _agree(kept: Compiler, policy: Policy) -> None:
    anew = Compiler(Names())
    anew.compile(policy)
    assert kept._tables.keys() == anew._tables.keys()
    for groups, tables in kept._tables.items():
        for place, kind in enumerate(KINDS):
            others = anew._tables[groups]
            assert _told(tables.orders[place], kept.names) == _told(others.orders[place], anew.names), kind
            now, then = tables.handles[place], others.handles[place]
            assert _answers(now, kind[1], kept.names) == _answers(then, kind[1], anew.names), kind
    # Who stands behind each zone has the tables of its list.
    for place, instance in enumerate(policy.instances):
        zone, *pointers = kept._zones[place * 5 : place * 5 + 5]
        assert kept.names.instances[zone] == instance.id
        assert pointers == kept._tables[instance.security_groups].pointers


@settings(max_examples=150, deadline=None)
@given(
    st.lists(RULES, min_size=6, max_size=14),
    st.lists(CHANGES, max_size=14),
    st.booleans(),
    st.sampled_from([2, 64]),
    st.sampled_from([1, 1, 64]),
    st.sampled_from([2, 64]),
    st.sampled_from([1, 1, 3, 6]),
    st.sampled_from([0, 64]),
    st.booleans(),
    st.booleans(),
)
def test_a_changed_policy_is_compiled_as_if_anew(
    rules: list[dict[str, Any]],
    changes: list[dict[str, Any]],
    rehearsed: bool,
    most: int,
    base: int,
    beside: int,
    together: int,
    looked_up: int,
    read_again: bool,
    prepared: bool,
) -> None:
    """Tables, orders and lookups; also where a copy of the compiler has gone another way in between, and where much
    has changed since they were made anew; where tables of so few rules are patches too, and some changes are enough
    to make them anew; where several changes all over the groups are put in force together, where they come as a
    document that is read again, and where what they go on from was worked out before.
    """
    with (
        patch("dataplane.rule_order._CHANGED_MIN", most),
        patch("dataplane.rule_order._BASE_MIN", base),
        patch("dataplane.rule_order._BESIDE_MOST", beside),
        patch("dataplane.policy.rule_index._DIFFERENT_MAX", most),
        patch("dataplane.policy.rule_list._TUPLE_MOST", base),
        patch("dataplane.policy.rule_list._PART", 3),
        patch("dataplane.rule_order._LOOKED_UP_MOST", looked_up),
    ):
        batches = [changes[at : at + together] for at in range(0, len(changes), together)]
        _agree_after_each(rules, batches, rehearsed, read_again, prepared)


def _after(policy: Policy, changes: list[dict[str, Any]]) -> Policy:
    """The policy with those changes made that it has nothing against."""
    for change in changes:
        with suppress(ChangeError):
            policy = apply(policy, parse_change(change))
    return policy


def _agree_after_each(
    rules: list[dict[str, Any]], batches: list[list[dict[str, Any]]], rehearsed: bool, read_again: bool, prepared: bool
) -> None:
    policy = Policy.model_validate(_document(rules))
    compiler = Compiler(Names())
    compiler.compile(policy)
    assert len(policy.rules_by_id) == len(rules)
    for changes in batches:
        if prepared:
            prepare(policy)
        changed = _after(policy, changes)
        if read_again:
            read = Policy.model_validate(changed.model_dump(exclude_defaults=True))
            changed = apply(policy, parse_change({"apply_policy": read}))
            assert changed == read
        if changed is policy:
            continue
        if rehearsed:
            other = compiler.copy()
            other.compile(changed)
            _agree(other, changed)
            _agree(compiler, policy)
        policy = changed
        compiler.compile(policy)
        _agree(compiler, policy)
        again = Policy.model_validate(policy.model_dump(exclude_defaults=True))
        assert list(policy.rules_by_id.items()) == list(again.rules_by_id.items())
        assert len(policy.rules_by_id) == len(again.rules_by_id)
        for rule in again.rules_by_id:
            group, _ = policy.rules_by_id[rule]
            assert group.security_group_rules[policy.rules_by_id.place(rule)].id == rule
        for group in policy.security_groups:
            other_group = again.group(group.id)
            assert +group.counted_rules == other_group.counted_rules
            assert group.remote_group_uses == other_group.remote_group_uses
            assert group.remote_address_group_uses == other_group.remote_address_group_uses


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "update", "update", "move", "delete"]), st.integers(0, 1000), st.integers(0, 1000)
    ),
    min_size=20,
    max_size=45,
)


# What is made from one seed does not get simpler with it.
@settings(max_examples=30, deadline=None, phases=[Phase.reuse, Phase.generate])
@given(st.sampled_from(["IPv4", "IPv6"]), st.integers(0, 2**32), STEPS, st.sampled_from([4, 12, 256]))
def test_one_rule_after_the_other_of_a_large_group(
    family: str, seed: int, steps: list[tuple[str, int, int]], beside: int
) -> None:
    """Of a group whose tables are patches: rules that nest, that shut each other out at the same priority, and that are
    others again where they have been changed before; past the number of changes at which all is made anew, too.
    """
    chance = Random(seed)
    taken = count()

    def rule() -> dict[str, Any]:
        remote = chance.choice([{}, *({"remote_ip_prefix": prefix} for prefix in PREFIXES[family] * 2)])
        fields = {"ethertype": family, "direction": "ingress", "protocol": "tcp", "priority": chance.choice([1, 2])}
        fields |= {"multiport": chance.choice(["22", "80", "1-100", "22,80"])}
        return {**fields, "action": chance.choice(["allow", "deny"]), **remote}

    written = [{**rule(), "id": f"r{next(taken)}"} for _ in range(30)]
    document = {
        "security_groups": [{"id": "g", "security_group_rules": written}],
        "instances": [{"id": "i", "addresses": ["172.16.0.1"], "security_groups": ["g"]}],
    }
    with (
        patch("dataplane.rule_order._CHANGED_MIN", 1000),
        patch("dataplane.rule_order._BASE_MIN", 1),
        patch("dataplane.rule_order._BESIDE_MOST", beside),
        patch("dataplane.policy.rule_list._TUPLE_MOST", 1),
        patch("dataplane.policy.rule_list._PART", 8),
    ):
        policy = Policy.model_validate(document)
        compiler = Compiler(Names())
        compiler.compile(policy)
        for kind, which, how in steps:
            rules = policy.group("g").security_group_rules
            chosen = rules[which % len(rules)].id if rules else ""
            match kind:
                case "add":
                    change = {"add_rule": {"security_group": "g", "rule": {**rule(), "id": f"r{next(taken)}"}}}
                case "update":
                    change = {"update_rule": {"id": chosen, "multiport": ["22", "80", "1-100", "22,80"][how % 4]}}
                case "move":
                    change = {
                        "update_rule": {
                            "id": chosen,
                            "priority": 1 + how % 2,
                            "action": ["allow", "deny"][how // 2 % 2],
                        }
                    }
                case _:
                    change = {"delete_rule": {"id": chosen}}
            if rules or kind == "add":
                policy = apply(policy, parse_change(change))
                compiler.compile(policy)
        _agree(compiler, policy)


@settings(max_examples=200, deadline=None, phases=[Phase.reuse, Phase.generate])
@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(1, 3), st.sampled_from([0, 64]), st.sampled_from([4, 256]))
def test_a_document_that_is_read_again(seed: int, edits: int, readings: int, looked_up: int, beside: int) -> None:
    """Rules here and there are others, come, go, move, or swap their names; several documents one after the other."""
    chance = Random(seed)
    taken = count()

    def rule() -> dict[str, Any]:
        fields = {"direction": "ingress", "protocol": "tcp", "priority": chance.choice([1, 1, 2])}
        remote = {"remote_ip_prefix": chance.choice(PREFIXES["IPv4"])}
        return {**fields, **remote, "multiport": chance.choice(["22", "1-100"]), "id": f"r{next(taken)}"}

    written = [rule() for _ in range(chance.choice([8, 40]))]
    with (
        patch("dataplane.rule_order._CHANGED_MIN", 1000),
        patch("dataplane.rule_order._BASE_MIN", 1),
        patch("dataplane.rule_order._BESIDE_MOST", beside),
        patch("dataplane.rule_order._LOOKED_UP_MOST", looked_up),
        patch("dataplane.policy.rule_list._TUPLE_MOST", chance.choice([1, 2048])),
        patch("dataplane.policy.rule_list._PART", 8),
    ):
        policy = Policy.model_validate(_one_group(written))
        compiler = Compiler(Names())
        compiler.compile(policy)
        for _ in range(readings):
            for _ in range(edits):
                # What stands at the end is told apart from all else.
                a, b = (chance.randrange(max(0, len(written) - chance.choice([3, 99])), len(written)) for _ in "ab")
                match chance.choice(["other", "other", "port", "come", "go", "move", "swap"]):
                    case "other":
                        written[a] = rule()
                    case "port":
                        written[a] = {**written[a], "multiport": chance.choice(["22", "80"])}
                    case "come":
                        written.insert(a, rule())
                    case "go" if len(written) > 1:
                        del written[a]
                    case "move":
                        written.insert(b, written.pop(a))
                    case _:
                        first, second = written[a]["id"], written[b]["id"]
                        written[a], written[b] = {**written[a], "id": second}, {**written[b], "id": first}
                        if a == b:
                            written[a]["id"] = first
            policy = apply(policy, parse_change({"apply_policy": Policy.model_validate(_one_group(written))}))
            compiler.compile(policy)
            _agree(compiler, policy)


def _one_group(rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "security_groups": [{"id": "g", "security_group_rules": list(rules)}],
        "instances": [{"id": "i", "addresses": ["172.16.0.1"], "security_groups": ["g"]}],
    }
