"""Policies to try, and changes of them: overlapping prefixes, few ports, SGs that name each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from .policy_model import Document

INSTANCES: dict[str, list[str]] = {
    "ecs-a": ["10.0.0.1", "fd00::1"],
    "ecs-b": ["10.0.0.2", "fd00::2"],
    "ecs-c": ["10.0.1.3", "10.0.0.3"],
    "ecs-d": ["fd00:1::4", "10.0.1.4"],
}
VIRTUAL_IP = "10.0.0.100"
VIRTUAL_MACS = ["00:00:5e:00:01:07", "00:00:5e:00:01:08"]
LB_MAC = "02:00:00:00:0e:01"
LB_ADDRESS = "10.0.9.9"
CLIENTS = ["192.0.2.1", "192.0.2.200", "2001:db8::1"]
#: Clients that only the load balancer forwards for: their TCP numbers are their own.
LB_CLIENT = "203.0.113.5"

PREFIXES = {
    "IPv4": ["192.0.2.0/24", "192.0.2.0/25", "192.0.2.1/32", "10.0.0.0/24", "10.0.0.0/16", "10.0.0.1/32", "0.0.0.0/0"],
    "IPv6": ["2001:db8::/32", "2001:db8::1/128", "fd00::/64", "fd00::2/128", "::/0"],
}
ADDRESS_SETS = {
    4: ["192.0.2.0/25", "192.0.2.200", "192.0.2.1-192.0.2.200", "10.0.0.1", "10.0.0.2-10.0.1.3", "10.0.1.0/24"],
    6: ["2001:db8::1", "fd00::/64", "fd00::1-fd00::2"],
}
MULTIPORTS = ["22", "22,80", "20-80", "80-1023,1024", "1-65535"]

#: What an ingress rule may take in so that there is something to disconnect.
WIDE: list[dict[str, Any]] = [
    *[{}] * 5,
    {"remote_ip_prefix": "10.0.0.0/8"},
    {"remote_ip_prefix": "192.0.2.0/24"},
    {"remote_group_id": "sg-1"},
    {"ethertype": "IPv6"},
]

#: Rule values that SPEC 2 does not allow.
BROKEN = [
    {"priority": 0},
    {"priority": 101},
    {"protocol": "tcp", "multiport": "0"},
    {"protocol": "tcp", "multiport": "70000"},
    {"protocol": "gre", "multiport": "22"},
    {"remote_ip_prefix": "10.0.0.1/24"},
    {"remote_ip_prefix": "fd00::/64"},
    {"remote_ip_prefix": "10.0.0.0/24", "remote_group_id": "sg-1"},
    {"remote_group_id": "sg-none"},
    {"action": "maybe"},
]


@st.composite
def rule_values(draw: st.DrawFn, groups: Sequence[str], address_groups: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A rule without its id."""
    ethertype = draw(st.sampled_from(["IPv4", "IPv4", "IPv4", "IPv6"]))
    rule: dict[str, Any] = {
        "direction": draw(st.sampled_from(["ingress", "ingress", "egress"])),
        "ethertype": ethertype,
    }
    icmp = "icmp" if ethertype == "IPv4" else "icmpv6"
    protocol = draw(st.sampled_from([None, None, "tcp", "tcp", "udp", icmp, icmp, "gre", 136, "sctp", "dccp"]))
    if protocol is not None:
        rule["protocol"] = protocol
    if protocol in ("tcp", "udp", "sctp", "dccp", 136) and draw(st.booleans()):
        rule["multiport"] = draw(st.sampled_from(MULTIPORTS))
    if protocol == icmp and draw(st.booleans()):
        rule["icmp_type"] = draw(st.sampled_from([8, 13] if ethertype == "IPv4" else [128]))
        if draw(st.booleans()):
            rule["icmp_code"] = draw(st.sampled_from([0, 1]))
    fitting = [group["id"] for group in address_groups if f"IPv{group['ip_version']}" == ethertype]
    remotes: list[dict[str, Any]] = [{}]
    remotes += [{"remote_group_id": group} for group in groups]
    remotes += [{"remote_address_group_id": group} for group in fitting]
    remotes += [{"remote_ip_prefix": draw(st.sampled_from(PREFIXES[ethertype]))}] * 2
    rule.update(draw(st.sampled_from(remotes)))
    rule["action"] = draw(st.sampled_from(["allow", "allow", "allow", "deny"]))
    rule["priority"] = draw(st.sampled_from([1, 2, 100]))
    if draw(st.integers(0, 9)) == 9:
        rule["enabled"] = False
    return rule


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A valid policy: one to four instances in one to four SGs."""
    groups = [f"sg-{n + 1}" for n in range(draw(st.integers(1, 4)))]
    address_groups = [
        {"id": f"ag-{version}", "ip_version": version, "ip_set": draw(_ip_sets(version))}
        for version in (4, 6)
        if draw(st.booleans())
    ]
    serial = 0
    security_groups = []
    for group in groups:
        rules = draw(st.lists(rule_values(groups, address_groups), max_size=4))
        if draw(st.integers(0, 3)):
            rules.append({"direction": "egress", "priority": 100})
            rules.append({"direction": "egress", "ethertype": "IPv6", "priority": 100})
        if draw(st.integers(0, 2)):
            rules.append({"direction": "ingress", "priority": 100, **draw(st.sampled_from(WIDE))})
        for rule in rules:
            serial += 1
            # A document may leave an id out.
            if draw(st.integers(0, 3)):
                rule["id"] = f"r{serial}"
        security_groups.append({"id": group, "security_group_rules": rules})
    instances = []
    for n, (name, addresses) in enumerate(list(INSTANCES.items())[: draw(st.integers(1, 4))]):
        instance: dict[str, Any] = {"id": name, "addresses": addresses, "mac": mac(n)}
        if draw(st.integers(0, 7)):
            instance["security_groups"] = draw(st.lists(st.sampled_from(groups), min_size=1, max_size=3, unique=True))
        if n < 2 and draw(st.booleans()):
            virtual = [{"ip": ip, "mac": mac} for ip in (VIRTUAL_IP, "10.0.0.96/28") for mac in VIRTUAL_MACS]
            instance["allowed_address_pairs"] = [draw(st.sampled_from([VIRTUAL_IP, "10.0.0.96/28", *virtual]))]
        instances.append(instance)
    if draw(st.integers(0, 3)) == 3:
        # Another network with the addresses of the first instance.
        twin = {
            "id": "twin",
            "vpc": "two",
            "addresses": INSTANCES["ecs-a"],
            "mac": mac(9),
            "security_groups": groups[:1],
        }
        instances.append(twin)
    document: Document = {"security_groups": security_groups, "instances": instances}
    if address_groups:
        document["address_groups"] = address_groups
    if draw(st.integers(0, 5)) == 3:
        backends = draw(st.lists(st.sampled_from([i["id"] for i in instances]), min_size=1, unique=True))
        balancer = {"id": "elb-1", "addresses": [LB_ADDRESS], "mac": LB_MAC, "backends": backends}
        document["load_balancers"] = [{**balancer, "transfer_client_ip": draw(st.sampled_from([True, True, False]))}]
    document["conntrack"] = draw(_conntrack())
    return document


@st.composite
def open_documents(draw: st.DrawFn) -> Document:
    """A valid policy under which most packets pass, by rules of every kind: for what changes disconnect (SPEC 5)."""
    groups = [f"sg-{n + 1}" for n in range(draw(st.integers(2, 4)))]
    remotes: list[dict[str, Any]] = [{}, {"remote_ip_prefix": "10.0.0.0/8"}, {"remote_address_group_id": "ag-4"}]
    remotes += [{"remote_group_id": group} for group in groups] * 2
    security_groups = []
    for group in groups:
        rules: list[dict[str, Any]] = [{"id": f"{group}-out", "direction": "egress"}]
        for n, remote in enumerate(draw(st.lists(st.sampled_from(remotes), min_size=1, max_size=2))):
            priority = draw(st.sampled_from([1, 100]))
            named = {"id": f"{group}-in-{n}"} if draw(st.booleans()) else {}
            rules.append({**named, "direction": "ingress", "priority": priority, **remote})
        security_groups.append({"id": group, "security_group_rules": rules})
    instances = []
    for n, (name, addresses) in enumerate(list(INSTANCES.items())[: draw(st.integers(2, 4))]):
        member = draw(st.lists(st.sampled_from(groups), min_size=1, max_size=3, unique=True))
        instances.append({"id": name, "addresses": addresses, "mac": mac(n), "security_groups": member})
    return {
        "security_groups": security_groups,
        "instances": instances,
        "address_groups": [{"id": "ag-4", "ip_version": 4, "ip_set": draw(_ip_sets(4))}],
        "conntrack": {
            "on_change": draw(st.sampled_from(["hold", "hold", "hold", "reevaluate"])),
            "verify_checksums": draw(st.booleans()),
        },
    }


#: The group that `guarding_documents` deny.
QUARANTINE = "sg-q"


@st.composite
def guarding_documents(draw: st.DrawFn) -> Document:
    """A valid policy whose first instance denies a group some things, between rules that allow (SPEC 5.4)."""
    kinds: list[dict[str, Any]] = [
        {},
        {"protocol": "tcp", "multiport": "22"},
        {"protocol": "udp"},
        {"protocol": "icmp"},
    ]
    rules: list[dict[str, Any]] = [{"id": "out", "direction": "egress"}, {"id": "in", "direction": "ingress"}]
    rules[1]["priority"] = 50
    for n, kind in enumerate(draw(st.lists(st.sampled_from(kinds), max_size=2))):
        rules.append({"id": f"before-{n}", "direction": "ingress", "priority": draw(st.sampled_from([2, 4])), **kind})
    for n, kind in enumerate(draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=2))):
        denying = {"id": f"not-{n}", "direction": "ingress", "action": "deny", "remote_group_id": QUARANTINE}
        rules.append({**denying, "priority": draw(st.sampled_from([1, 3, 99])), **kind})
    both = [{"direction": direction} for direction in ("ingress", "egress")]
    groups = [("sg-1", rules), ("sg-2", both), (QUARANTINE, both)]
    instances = []
    for n, (name, addresses) in enumerate(INSTANCES.items()):
        instances.append(
            {"id": name, "addresses": addresses, "mac": mac(n), "security_groups": ["sg-2" if n else "sg-1"]}
        )
    return {
        "security_groups": [{"id": group, "security_group_rules": written} for group, written in groups],
        "instances": instances,
        "conntrack": {"on_change": draw(st.sampled_from(["hold", "hold", "reevaluate"]))},
    }


def joins(document: Document) -> st.SearchStrategy[tuple[dict[str, Any], bool]]:
    """Changes of who is in quarantine, as `changes`."""
    kinds = st.sampled_from(["add_instance", "add_instance", "remove_instance"])
    instances = st.sampled_from([instance["id"] for instance in document["instances"][1:]])
    return st.builds(lambda kind, i: ({kind: {"security_group": QUARANTINE, "instance": i}}, False), kinds, instances)


def mac(n: int) -> str:
    """The MAC of the n-th instance."""
    return f"02:00:00:00:00:{n + 1:02x}"


def _ip_sets(version: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(ADDRESS_SETS[version]), min_size=1, max_size=3, unique=True)


@st.composite
def _conntrack(draw: st.DrawFn) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name in ("tcp_loose", "tcp_be_liberal", "verify_checksums"):
        if draw(st.integers(0, 5)) == 3:
            settings[name] = True
    if draw(st.integers(0, 5)) == 3:
        settings["on_change"] = "reevaluate"
    if draw(st.integers(0, 5)) == 3:
        names = ["tcp_established", "tcp_fin_wait", "tcp_close_wait", "tcp_half_open", "tcp_close", "icmp"]
        settings["timeouts"] = draw(st.dictionaries(st.sampled_from(names), st.sampled_from([10, 30, 180]), max_size=2))
    return settings


#: Ids of rules that changes add; the first of a kind is there only after it was added.
ADDED = ["n1", "n2"]
#: Ids of a group, an address group and an instance that are there only after they were created.
NEW_GROUP, NEW_ADDRESS_GROUP = "sg-n", "ag-n"
NEW_INSTANCE = {"id": "ecs-n", "addresses": ["10.0.0.50", "fd00::50"], "mac": "02:00:00:00:00:50"}


@st.composite
def changes(draw: st.DrawFn, document: Document) -> tuple[dict[str, Any], bool]:
    """A change of SPEC 7, and whether a value in it is not allowed.

    It is drawn from what the policy was in the beginning, whatever changes came before: so what it names may be there
    or not, and `apply_policy` goes back to the beginning, or to something near it.
    """
    groups = [group["id"] for group in document["security_groups"]]
    rules = [r for group in document["security_groups"] for r in group["security_group_rules"] if "id" in r]
    sets = document.get("address_groups", [])
    kinds = ["add_rule", "update_rule", "delete_rule", "membership", "membership", "apply_policy", "item", "item"]
    kind = draw(st.sampled_from(kinds + ["update_address_group"] * bool(sets)))
    if kind == "item":
        return draw(items(document))
    if kind == "membership":
        joining = draw(st.sampled_from(["add_instance", "remove_instance"]))
        instance = draw(st.sampled_from([instance["id"] for instance in document["instances"]]))
        return {joining: {"security_group": draw(st.sampled_from(groups)), "instance": instance}}, False
    if kind == "update_address_group":
        group = draw(st.sampled_from(sets))
        return {"update_address_group": {"id": group["id"], "ip_set": draw(_ip_sets(group["ip_version"]))}}, False
    if kind == "apply_policy":
        return {"apply_policy": draw(_other_policy(document))}, False
    if kind == "update_rule" and rules:
        return {"update_rule": draw(_rule_updates(draw(st.sampled_from(rules))))}, False
    if kind == "delete_rule":
        return {"delete_rule": {"id": draw(st.sampled_from([*(rule["id"] for rule in rules), *ADDED]))}}, False
    broken = draw(st.integers(0, 7)) == 7
    values = {"direction": "ingress", **draw(st.sampled_from(BROKEN))} if broken else draw(rule_values(groups, sets))
    rule = {"id": draw(st.sampled_from(ADDED)), **values}
    return {"add_rule": {"security_group": draw(st.sampled_from(groups)), "rule": rule}}, broken


def items(document: Document) -> st.SearchStrategy[tuple[dict[str, Any], bool]]:
    """Changes by which instances, groups and load balancers come, go, or are others, as `changes`."""
    kinds = [*[of_instances(document)] * 3, of_groups(document), of_balancers(document)]
    return st.one_of(kinds).map(lambda change: (change, False))


@st.composite
def of_groups(draw: st.DrawFn, document: Document) -> dict[str, Any]:
    """A group or an address group created, updated or deleted, whether or not that is possible."""
    groups = [*(group["id"] for group in document["security_groups"]), NEW_GROUP]
    sets = [*(group["id"] for group in document.get("address_groups", [])), NEW_ADDRESS_GROUP]
    rules = [{"id": f"{NEW_GROUP}-{n}", "direction": d} for n, d in enumerate(("ingress", "egress"))]
    changes: list[dict[str, Any]] = [
        {"create_group": {"id": NEW_GROUP, "security_group_rules": rules[: draw(st.integers(0, 2))]}},
        {"update_group": {"id": draw(st.sampled_from(groups)), "name": "another", "description": "text"}},
        {"update_group": {"id": NEW_GROUP, "security_group_rules": rules[draw(st.integers(0, 2)) :]}},
        {"delete_group": {"id": draw(st.sampled_from(groups))}},
        {"create_address_group": {"id": NEW_ADDRESS_GROUP, "ip_version": 4, "ip_set": draw(_ip_sets(4))}},
        {"update_address_group": {"id": draw(st.sampled_from(sets)), "name": "another"}},
        {"delete_address_group": {"id": draw(st.sampled_from(sets))}},
    ]
    return draw(st.sampled_from(changes))


@st.composite
def of_instances(draw: st.DrawFn, document: Document) -> dict[str, Any]:
    """An instance that comes, goes, or is another, whether or not that is possible."""
    groups = [*(group["id"] for group in document["security_groups"]), NEW_GROUP]
    some = st.lists(st.sampled_from(groups), min_size=1, max_size=2, unique=True)
    instance = draw(st.sampled_from([*document["instances"], NEW_INSTANCE]))
    own = instance["addresses"]
    values: list[dict[str, Any]] = [
        {"security_groups": draw(some)},
        {"addresses": [address for address in own if ":" not in address]},
        {"addresses": draw(st.sampled_from([own, own[::-1], own[:1]]))},
        {"name": "another", "mac": instance["mac"]},
    ]
    changes: list[dict[str, Any]] = [
        {"create_instance": {**instance, "security_groups": draw(some)}},
        {"create_instance": NEW_INSTANCE},
        *[{"update_instance": {"id": instance["id"], **update}} for update in values],
        *[{"delete_instance": {"id": instance["id"]}}] * 2,
    ]
    return draw(st.sampled_from(changes))


@st.composite
def of_balancers(draw: st.DrawFn, document: Document) -> dict[str, Any]:
    """The balancer that comes, goes, or is another."""
    instances = [*(instance["id"] for instance in document["instances"]), NEW_INSTANCE["id"]]
    values = {
        "backends": draw(st.lists(st.sampled_from(instances), min_size=1, max_size=2, unique=True)),
        "transfer_client_ip": draw(st.booleans()),
    }
    changes: list[dict[str, Any]] = [
        {"create_load_balancer": {"id": "elb-1", "addresses": [LB_ADDRESS], "mac": LB_MAC, **values}},
        {"update_load_balancer": {"id": "elb-1", **values}},
        {"delete_load_balancer": {"id": "elb-1"}},
    ]
    return draw(st.sampled_from(changes))


@st.composite
def _rule_updates(draw: st.DrawFn, rule: dict[str, Any]) -> dict[str, Any]:
    """Another value, or the same, for one field of a rule."""
    values: list[dict[str, Any]] = [{"action": "allow"}, {"action": "deny"}, {"enabled": True}, {"enabled": False}]
    values += [{"priority": 1}, {"priority": 2}, {"description": "another"}]
    if "multiport" in rule:
        values += [{"multiport": "80"}, {"multiport": "22,80"}, {"multiport": None}]
    if "remote_ip_prefix" in rule:
        prefixes = PREFIXES[rule.get("ethertype", "IPv4")]
        values += [{"remote_ip_prefix": prefix} for prefix in prefixes]
    return {"id": rule["id"], **draw(st.sampled_from(values))}


@st.composite
def _other_policy(draw: st.DrawFn, document: Document) -> Document:
    """A copy with some of: the SGs of an instance or the rules of an SG in another order, a rule more or less, an
    instance less."""
    other: Document = json.loads(json.dumps(document))
    if draw(st.booleans()):
        instance = draw(st.sampled_from(other["instances"]))
        if "security_groups" in instance:
            instance["security_groups"] = draw(st.permutations(instance["security_groups"]))
    group = draw(st.sampled_from(other["security_groups"]))
    if draw(st.booleans()):
        group["security_group_rules"] = draw(st.permutations(group["security_group_rules"]))
    kind = draw(st.sampled_from(["", "", "", "more", "less", "gone"]))
    if kind == "more":
        groups = [group["id"] for group in other["security_groups"]]
        added = {"id": ADDED[0], **draw(rule_values(groups, other.get("address_groups", [])))}
        group["security_group_rules"].append(added)
    elif kind == "less" and group["security_group_rules"]:
        group["security_group_rules"].pop()
    elif kind == "gone" and len(other["instances"]) > 1 and "load_balancers" not in other:
        other["instances"].pop()
    return other
