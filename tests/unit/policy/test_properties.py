"""What holds for every document: it reads back as it is, or every mistake has its place; nobody sees a traceback."""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import pairwise
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from dataplane.conntrack import disconnection
from dataplane.policy import ChangeError, Mistake, Policy, PolicyError, write
from dataplane.policy.changes import apply, parse_change
from dataplane.policy.document import AddressGroup
from dataplane.policy.rule import SecurityGroupRule

GROUPS = ["g0", "g1", "g2"]
NAMES = st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5)
PREFIXES = {
    "IPv4": ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.1", "192.168.0.0/16"],
    "IPv6": ["::/0", "2001:db8::/32", "2001:DB8::1"],
}
PORTS = st.integers(1, 65535)
MULTIPORTS = st.lists(
    PORTS.map(str) | st.tuples(PORTS, PORTS).map(lambda ends: f"{min(ends)}-{max(ends)}"), min_size=1, max_size=20
).map(",".join)


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    """A valid rule without id."""
    ethertype = draw(st.sampled_from(["IPv4", "IPv6"]))
    icmp = {"IPv4": "icmp", "IPv6": "icmpv6"}[ethertype]
    number = st.integers(0, 255).filter(lambda n: n not in (1, 58))
    protocol = draw(st.sampled_from([None, "tcp", "udp", "gre", icmp]) | number)
    rule: dict[str, Any] = {"direction": draw(st.sampled_from(["ingress", "egress"])), "protocol": protocol}
    rule["ethertype"] = ethertype
    if protocol in ("tcp", "udp", 6, 17):
        rule["multiport"] = draw(st.none() | MULTIPORTS | PORTS)
    if protocol == icmp and draw(st.booleans()):
        rule["icmp_type"] = draw(st.integers(0, 255) | st.just("echo-request"))
        rule["icmp_code"] = draw(st.none() | st.integers(0, 255))
    remotes: list[dict[str, Any]] = [{}, *({"remote_ip_prefix": prefix} for prefix in PREFIXES[ethertype])]
    remotes += [{"remote_group_id": group} for group in GROUPS]
    remotes += [{"remote_address_group_id": f"s{ethertype[-1]}"}]
    rule.update(draw(st.sampled_from(remotes)))
    rule["priority"] = draw(st.integers(1, 100))
    rule["action"] = draw(st.sampled_from(["allow", "deny"]))
    rule["enabled"] = draw(st.booleans())
    rule["name"] = draw(NAMES)
    return rule


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A valid document."""
    groups = [
        {"id": name, "name": draw(NAMES), "security_group_rules": draw(st.lists(rules(), max_size=4))}
        for name in GROUPS
    ]
    instances = []
    for n in range(draw(st.integers(0, 3))):
        instance: dict[str, Any] = {"id": f"i{n}", "addresses": [f"10.0.0.{n}", f"2001:db8::{n}"]}
        if draw(st.booleans()):
            instance["security_groups"] = draw(st.lists(st.sampled_from(GROUPS), min_size=1, unique=True))
        if draw(st.booleans()):
            instance["mac"] = f"fa:16:3e:00:00:{n:02x}"
        if draw(st.booleans()):
            instance["allowed_address_pairs"] = draw(
                st.lists(st.sampled_from(["10.0.1.1", "10.0.0.0/24", "::/0"]), max_size=2)
            )
        instances.append(instance)
    timeouts = st.dictionaries(st.sampled_from(["icmp", "tcp_close"]), st.integers(1, 1000) | st.floats(0.001, 1e6))
    return {
        "region": draw(st.sampled_from(["default", "eu-1", "on", "12:30"])),
        "security_groups": groups,
        "address_groups": [
            {"id": "s4", "ip_version": 4, "ip_set": ["10.0.0.0/8", "10.1.1.1", "10.0.0.1-10.0.0.9"]},
            {"id": "s6", "ip_version": 6, "ip_set": ["::1"]},
        ],
        "instances": instances,
        "load_balancers": [{"id": "l", "addresses": ["10.0.9.9"], "backends": [i["id"] for i in instances]}],
        "conntrack": {"tcp_loose": draw(st.booleans()), "timeouts": draw(timeouts)},
    }


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["5", "true", "g0", "g9", "10.0.0.1", "10.0.0.1/8", "::1", "tcp", "22,70000", "2-1", "r" * 300])
    | st.sampled_from([0, 1, 101, 256, -1, 70000, 1.5, "", " ", "default", "i0", "s4", "fa:16:3e:00:00:01"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in a document."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(inner for key, part in parts for inner in _places(part, (*place, key)))]


@st.composite
def spoilt_documents(draw: st.DrawFn) -> dict[str, Any]:
    """A valid document with some of its values replaced, taken away, or with others beside them."""
    document = draw(documents())
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.sampled_from(_places(document)))
        if not place:
            continue
        around: Any = document
        for part in place[:-1]:
            around = around[part]
        how = draw(st.sampled_from(["replace", "replace", "remove", "repeat", "add"]))
        if how == "replace":
            around[place[-1]] = draw(JUNK)
        elif how == "remove":
            del around[place[-1]]
        elif isinstance(around, list):
            around.append(around[place[-1]])
        else:
            around[draw(st.sampled_from(["id", "multiport", "icmp_type", "remote_group_id", "prority", "x"]))] = draw(
                JUNK
            )
    return document


@given(documents(), st.booleans())
def test_a_policy_that_is_written_reads_back(value: dict[str, Any], is_json: bool) -> None:
    """As a policy that is equal, and that disconnects nothing when it follows the other."""
    policy = Policy.model_validate(value)
    written = write.document(policy)
    text = json.dumps(written) if is_json else write.as_yaml(written)
    again = Policy.parse(text)
    assert again == policy
    cut = disconnection(policy, apply(policy, parse_change({"apply_policy": again})))
    assert (cut.instances, cut.revoked) == (frozenset(), ())


def mistakes_of(data: str | bytes) -> tuple[Mistake, ...]:
    """The mistakes of a text, none for a policy; whatever else is raised fails the test."""
    try:
        Policy.parse(data)
    except PolicyError as error:
        found = error.mistakes
    else:
        return ()
    assert found, "what is refused has a reason"
    assert all(str(mistake).isprintable() for mistake in found)
    return found


def as_yaml(value: Any) -> str:
    """A value as YAML, each scalar quoted and tagged: PyYAML writes by YAML 1.1, where a bare ``1e5`` is text."""
    return yaml.safe_dump(json.loads(json.dumps(value)), default_style='"')


@given(documents())
def test_a_document_reads_back_as_it_is(document: dict[str, Any]) -> None:
    policy = Policy.parse(json.dumps(document))
    values = policy.model_dump(exclude_defaults=True)
    assert Policy.parse(json.dumps(values)) == policy
    assert Policy.parse(as_yaml(values)) == policy
    assert Policy.model_validate(values) == policy
    assert [len(group.security_group_rules) for group in policy.security_groups[:3]] == [
        len(group["security_group_rules"]) for group in document["security_groups"]
    ]
    assert len({rule.id for group in policy.security_groups for rule in group.security_group_rules} - {""}) == len(
        policy.rules_by_id
    )


@given(spoilt_documents())
def test_every_mistake_has_its_place(document: dict[str, Any]) -> None:
    """Also: what is refused has at least one mistake, and is refused by pydantic alone as well."""
    text = json.dumps(document, indent=1)
    lines = text.split("\n")
    found = mistakes_of(text)
    positions = [(mistake.line or 0, mistake.column or 0) for mistake in found]
    assert positions == sorted(positions)
    for mistake, (line, column) in zip(found, positions, strict=True):
        assert 1 <= line <= len(lines)
        assert 1 <= column <= len(lines[line - 1])
        assert "Input should" not in mistake.message
    if found:
        with pytest.raises(ValidationError):
            Policy.model_validate(document)
    else:
        assert Policy.model_validate(document) == Policy.parse(text)


@example({"instances": [{"id": "a", "addresses": ["10.0.0.1"], "allowed_address_pairs": [{"0": None, "": None}]}]})
@given(spoilt_documents())
def test_yaml_and_json_have_the_same_mistakes(document: dict[str, Any]) -> None:
    def messages(text: str) -> list[str]:
        return sorted(f"{mistake.place}: {mistake.message}" for mistake in mistakes_of(text))

    # A value is named as it was written, and these are written in two ways.
    written = {"-Infinity": "-.inf", "Infinity": ".inf", "NaN": ".nan"}
    in_json = [
        re.sub("|".join(written), lambda found: written[found[0]], line) for line in messages(json.dumps(document))
    ]
    assert messages(as_yaml(document)) == sorted(in_json)


@given(st.text() | st.binary())
def test_any_text_is_a_policy_or_a_policy_error(data: str | bytes) -> None:
    mistakes_of(data)


YAML_PIECES = st.sampled_from(
    [
        *("region: a", "instances:", "security_groups:", "addresses: [10.0.0.1]", "id: x", "é"),
        *("- ", "  ", "\n", "\r\n", "\t", "[", "]", "{", "}", ",", ": ", "? ", "<<", '"', "'", "|", "# c"),
        *("&a ", "*a", "!!int ", "---", "...", "%YAML 1.2"),
    ]
)


@given(st.lists(YAML_PIECES, max_size=30).map("".join))
def test_any_pieces_of_yaml_are_a_policy_or_a_policy_error(text: str) -> None:
    mistakes_of(text)


ADDRESS_TEXTS = st.from_regex(r"\A[0-9a-fA-F:.]{0,20}(/[0-9]{0,3})?\Z") | st.builds(
    lambda address, bits: f"{address}/{bits}",
    st.ip_addresses().map(str) | st.ip_addresses(v=4, network="10.0.0.0/28").map(str),
    st.integers(0, 130),
)


@given(ADDRESS_TEXTS)
def test_prefixes_are_those_of_the_standard_library(text: str) -> None:
    """An address or CIDR block without host bits, in its canonical form."""
    try:
        network = ip_network(text)
    except ValueError:
        network = None
    ethertype = "IPv6" if ":" in text else "IPv4"
    try:
        values = {"direction": "ingress", "ethertype": ethertype, "remote_ip_prefix": text}
        rule = SecurityGroupRule.model_validate(values)
    except ValueError:
        # Not every length that the standard library takes is one: it reads netmasks, zeros in front and nothing.
        assert network is None or not text.endswith(f"/{network.prefixlen}")
    else:
        assert network is not None
        assert rule.remote_prefix == (network.network_address.packed, network.prefixlen)
        assert ip_network(rule.remote_ip_prefix or "") == network


@given(st.lists(st.ip_addresses(v=4), min_size=2, max_size=2) | st.lists(st.ip_addresses(v=6), min_size=2, max_size=2))
def test_ranges_become_prefixes_that_cover_them_exactly(ends: list[IPv4Address] | list[IPv6Address]) -> None:
    first, last = sorted(map(int, ends))
    version = ends[0].version
    kind = type(ends[0])
    group = AddressGroup.model_validate({"id": "g", "ip_version": version, "ip_set": [f"{kind(first)}-{kind(last)}"]})
    size = 32 if version == 4 else 128
    ranges = [
        (int.from_bytes(a, "big"), int.from_bytes(a, "big") + (1 << size - bits) - 1) for a, bits in group.prefixes
    ]
    assert (ranges[0][0], ranges[-1][1]) == (first, last)
    assert all(a[1] + 1 == b[0] for a, b in pairwise(ranges))
    assert all(low % (high - low + 1) == 0 for low, high in ranges)


RULE_IDS = st.sampled_from(["g0/1", "g0/2", "g1/1", "g2/1", "new", "none"])
INSTANCES = st.sampled_from(["i0", "i1", "i9"])
CHANGES = st.one_of(
    st.builds(
        lambda group, rule, name: {
            "add_rule": {"security_group": group, "rule": rule | ({"id": name} if name else {})}
        },
        st.sampled_from([*GROUPS, "none"]),
        rules(),
        st.none() | RULE_IDS,
    ),
    st.builds(
        lambda name, rule, keys: {"update_rule": {"id": name, **{key: rule[key] for key in keys if key in rule}}},
        RULE_IDS,
        rules(),
        st.sets(
            st.sampled_from(["priority", "protocol", "multiport", "ethertype", "remote_group_id", "action", "name"])
        ),
    ),
    st.builds(lambda name: {"delete_rule": {"id": name}}, RULE_IDS),
    st.builds(
        lambda kind, group, instance: {kind: {"security_group": group, "instance": instance}},
        st.sampled_from(["add_instance", "remove_instance"]),
        st.sampled_from([*GROUPS, "default", "none"]),
        INSTANCES,
    ),
    st.builds(
        lambda name, entries: {"update_address_group": {"id": name, "ip_set": entries}},
        st.sampled_from(["s4", "s6", "none"]),
        st.lists(st.sampled_from(["10.0.0.1", "::1", "10.0.0.0/8"]), max_size=2),
    ),
)


def _lookups(policy: Policy) -> tuple[Any, ...]:
    """All lookups, which a policy makes when it is first asked."""
    members = {group: policy.members(group) for group in policy.groups_by_id}
    return (policy.groups_by_id, policy.rules_by_id, policy.address_groups_by_id, policy.instances_by_id, members)


@given(documents(), st.lists(CHANGES, max_size=6), st.booleans())
def test_a_change_leads_to_a_valid_policy_or_is_refused(
    document: dict[str, Any], changes: list[dict[str, Any]], asked: bool
) -> None:
    """SPEC 5.6. What stays equal stays the same object, and lookups are as if the document had been read anew."""
    policy = Policy.parse(json.dumps(document))
    for change in changes:
        before = policy.model_dump()
        if asked:
            _lookups(policy)
        try:
            after = apply(policy, parse_change(change))
        except ChangeError:
            after = policy
        assert policy.model_dump() == before
        assert Policy.model_validate(after.model_dump(exclude_defaults=True)) == after
        assert (after is policy) == (after.model_dump() == before)
        for section in ("security_groups", "address_groups", "instances"):
            old = {item.id: item for item in getattr(policy, section)}
            for item in getattr(after, section):
                assert item is old[item.id] or item != old[item.id]
        assert _lookups(after) == _lookups(Policy.model_validate(after.model_dump(exclude_defaults=True)))
        policy = after
