"""The policy as the model reads it: a document of SPEC 2, already valid, kept as plain mappings and searched each time.

`settle` fills in what the document leaves out, `first_match` is SPEC 3, `holder` is the first point of SPEC 7, `edit`
makes a new document by a change of SPEC 7, and `Difference` says what SPEC 5 disconnects between two documents.

Readings that the specification leaves open, as taken here:

* Rules of the same priority and action are tried in the order of the document.
* `expires_at`, whole seconds here, ends a rule as `delete_rule` at that time; a packet of that time is judged after it.
* An address group is used by an SG when any rule of the SG names it, an enabled one or not.
* A set of addresses is a set: another order of `ip_set` is no change, and neither is another order of an SG's rules.
* Other addresses of an instance are a change for that instance; its MAC, its virtual IPs and its interface are none.
* What is still named elsewhere is not deleted: SGs by instances and by rules of others, address groups by rules,
  instances by load balancers.
* Where several instances hold an address and no MAC decides, it is who was last seen to have it: who sent from it with
  its own MAC, or announced it by ARP, a neighbour advertisement, VRRP or CARP. Where nobody was, one that has it among
  its `addresses` comes before one that has it as a virtual IP, and then the first in the document.
* The virtual MAC of a pair tells its holder apart only for the pair's addresses, and only where no other holder has it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any

from .packet_model import DCCP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDP_LITE, Address, Packet

Document = dict[str, Any]

#: How the model names rules to which the document gives no id; the engine names them as it likes.
GENERATED = "generated:"

PROTOCOLS = {
    "tcp": TCP,
    "udp": UDP,
    "icmp": ICMP,
    "icmpv6": ICMPV6,
    "gre": GRE,
    "sctp": SCTP,
    "dccp": DCCP,
    "udplite": UDP_LITE,
}

TIMEOUTS = {
    "tcp_established": 600,
    "tcp_fin_wait": 30,
    "tcp_close_wait": 30,
    "tcp_half_open": 30,
    "tcp_close": 10,
    "icmp": 30,
    "other_bidirectional": 180,
    "other_unidirectional": 30,
}

RULE_DEFAULTS: Mapping[str, Any] = {
    "ethertype": "IPv4",
    "protocol": None,
    "multiport": None,
    "icmp_type": None,
    "icmp_code": None,
    "remote_ip_prefix": None,
    "remote_group_id": None,
    "remote_address_group_id": None,
    "action": "allow",
    "priority": 1,
    "enabled": True,
}

#: The SG `default` where the document has none (SPEC 3.4).
DEFAULT_GROUP: Mapping[str, Any] = {
    "id": "default",
    "security_group_rules": [
        {"direction": "ingress", "ethertype": "IPv4", "remote_group_id": "default", "priority": 100},
        {"direction": "ingress", "ethertype": "IPv6", "remote_group_id": "default", "priority": 100},
        {"direction": "egress", "ethertype": "IPv4", "remote_ip_prefix": "0.0.0.0/0", "priority": 100},
        {"direction": "egress", "ethertype": "IPv6", "remote_ip_prefix": "::/0", "priority": 100},
    ],
}


@cache
def _address(text: str) -> Address:
    return ip_address(text)


class RefusedChangeError(Exception):
    """The change is not valid: nothing happens (SPEC 5.6)."""


def settle(document: Mapping[str, Any]) -> Document:
    """A copy with every default written out (SPEC 2, 3.4)."""
    settled: Document = copy.deepcopy(dict(document))
    for key in ("security_groups", "address_groups", "instances", "load_balancers"):
        settled[key] = settled.get(key) or []
    for instance in settled["instances"]:
        if instance.get("security_groups") is None:
            instance["security_groups"] = ["default"]
            if all(group["id"] != "default" for group in settled["security_groups"]):
                settled["security_groups"].append(copy.deepcopy(dict(DEFAULT_GROUP)))
    for group in settled["security_groups"]:
        group["security_group_rules"] = [
            _settle_rule(rule, f"{GENERATED}{group['id']}:{n}")
            for n, rule in enumerate(group.get("security_group_rules") or [])
        ]
    conntrack = settled.get("conntrack") or {}
    defaults = {
        "tcp_loose": False,
        "tcp_be_liberal": False,
        "verify_checksums": False,
        "max_entries": 1048576,
        "on_change": "hold",
    }
    settled["conntrack"] = defaults | conntrack | {"timeouts": TIMEOUTS | (conntrack.get("timeouts") or {})}
    return settled


def _settle_rule(rule: Mapping[str, Any], generated: str) -> dict[str, Any]:
    return {**RULE_DEFAULTS, **rule, "id": rule.get("id") or generated}


def find(items: Iterable[dict[str, Any]], wanted: str) -> dict[str, Any]:
    """The item with this id; `RefusedChangeError` when there is none."""
    for item in items:
        if item["id"] == wanted:
            return item
    raise RefusedChangeError(f"no {wanted!r}")


def rules(document: Document) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every rule, with its SG before it."""
    for group in document["security_groups"]:
        for rule in group["security_group_rules"]:
            yield group, rule


def expiry_ns(rule: Mapping[str, Any]) -> int:
    """When a rule that has `expires_at` ends, in nanoseconds since 1970."""
    return round(datetime.fromisoformat(rule["expires_at"]).timestamp()) * 1_000_000_000


def members(document: Document, group: str) -> list[dict[str, Any]]:
    """The instances now in an SG."""
    return [instance for instance in document["instances"] if group in instance["security_groups"]]


def group_addresses(document: Document, group: str) -> set[Address]:
    """What `remote_group_id` stands for: the addresses of its members, never their virtual IPs (SPEC 3.3)."""
    return {ip_address(text) for instance in members(document, group) for text in instance["addresses"]}


def link_local(instance: Mapping[str, Any]) -> Address | None:
    """The address that is made from an instance's MAC (SPEC 7; RFC 4291, appendix A)."""
    if not instance.get("mac"):
        return None
    mac = bytes.fromhex(instance["mac"].replace(":", ""))
    return ip_address(bytes([0xFE, 0x80, *bytes(6), mac[0] ^ 2, mac[1], mac[2], 0xFF, 0xFE, *mac[3:]]))


def holders(document: Document, address: Address) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The instances that have an address as their own, and those that have it as a virtual IP."""
    own = [i for i in document["instances"] if address in map(_address, i["addresses"]) or address == link_local(i)]
    virtual = [
        instance
        for instance in document["instances"]
        if instance not in own and any(_in_set(address, text) for text, _ in pairs(instance))
    ]
    return own, virtual


def pairs(instance: dict[str, Any]) -> list[tuple[str, str]]:
    """The virtual IPs of an instance, addresses or prefixes, with their virtual MAC or nothing (SPEC 2)."""
    written = instance.get("allowed_address_pairs") or []
    return [(p, "") if isinstance(p, str) else (p["ip"], (p.get("mac") or "").lower()) for p in written]


def own_mac(instance: dict[str, Any]) -> str:
    """The MAC of an instance's interface; empty when the document does not tell."""
    return (instance.get("mac") or "").lower()


def known_by_mac(document: Document, address: Address, mac: str) -> dict[str, Any] | None:
    """The one of several holders of an address that a MAC tells."""
    own, virtual = holders(document, address)
    candidates = own + virtual
    if len(candidates) < 2 or not mac:
        return None
    by_own = [i for i in candidates if own_mac(i) == mac]
    by_pair = [i for i in candidates if any(m == mac and _in_set(address, text) for text, m in pairs(i))]
    return by_own[0] if by_own else by_pair[0] if len(by_pair) == 1 else None


def holder(document: Document, address: Address, macs: Iterable[str], seen: str | None = None) -> dict[str, Any] | None:
    """The instance that holds an address; between several the first MAC that tells one decides (SPEC 7), then who was
    last `seen` there."""
    own, virtual = holders(document, address)
    candidates = own + virtual
    by_mac = [i for i in (known_by_mac(document, address, mac) for mac in macs) if i is not None]
    by_owner = [i for i in candidates if i["id"] == seen]
    return next(iter(by_mac + by_owner + candidates), None)


def balanced(document: Document, instance: dict[str, Any], remote: Address, remote_mac: str) -> bool:
    """Whether the far end is a load balancer with transfer_client_ip that has this instance as a backend (SPEC 3.5)."""
    return any(
        balancer.get("transfer_client_ip")
        and instance["id"] in balancer.get("backends", [])
        and (remote in map(_address, balancer["addresses"]) or (balancer.get("mac") or "").lower() == remote_mac)
        for balancer in document["load_balancers"]
    )


def first_match(
    document: Document, instance: dict[str, Any], direction: str, packet: Packet
) -> tuple[dict[str, Any], str] | None:
    """The first rule that matches, and its SG's id (SPEC 3.1)."""
    for group_id in instance["security_groups"]:
        ranked = sorted(
            find(document["security_groups"], group_id)["security_group_rules"],
            key=lambda rule: (rule["priority"], rule["action"] != "deny"),
        )
        for rule in ranked:
            if rule["enabled"] and rule["direction"] == direction and matches(document, rule, packet):
                return rule, group_id
    return None


def matches(document: Document, rule: dict[str, Any], packet: Packet) -> bool:
    """Whether a rule matches, whatever its direction and whether or not it is enabled (SPEC 3.2, 3.3)."""
    if rule["ethertype"] != f"IPv{packet.family}":
        return False
    if rule["protocol"] is not None and protocol_number(rule["protocol"]) != packet.protocol:
        return False
    if rule["multiport"] is not None and not _in_ports(packet.destination_port, str(rule["multiport"])):
        return False
    for field in ("type", "code"):
        wanted = rule[f"icmp_{field}"]
        if wanted is not None and (packet.icmp is None or getattr(packet.icmp, field) != wanted):
            return False
    remote = packet.source if rule["direction"] == "ingress" else packet.destination
    if rule["remote_ip_prefix"] is not None:
        return _in_set(remote, rule["remote_ip_prefix"])
    if rule["remote_group_id"] is not None:
        return remote in group_addresses(document, rule["remote_group_id"])
    if rule["remote_address_group_id"] is not None:
        addresses = find(document["address_groups"], rule["remote_address_group_id"])["ip_set"]
        return any(_in_set(remote, text) for text in addresses)
    return True


def protocol_number(protocol: str | int) -> int:
    """The number of a protocol given by name or number."""
    return PROTOCOLS[protocol] if isinstance(protocol, str) and protocol in PROTOCOLS else int(protocol)


def _in_ports(port: int, multiport: str) -> bool:
    for part in multiport.split(","):
        low, _, high = part.strip().partition("-")
        if int(low) <= port <= int(high or low):
            return True
    return False


def _in_set(address: Address, text: str) -> bool:
    """Whether an address lies in an address, a CIDR block or a range `first-last`."""
    if "-" in text:
        first, last = (ip_address(end.strip()) for end in text.split("-"))
        return first.version == address.version and int(first) <= int(address) <= int(last)
    network = ip_network(text)
    return network.version == address.version and address in network


def edit(document: Document, change: Mapping[str, Any]) -> Document:
    """The document after a change of SPEC 7 (without `at`); `RefusedChangeError` where it cannot be made.

    `apply_policy` takes the new document itself here, not the name of a file.
    """
    ((kind, value),) = change.items()
    if kind == "apply_policy":
        return _known_again(document, settle(value))
    new = copy.deepcopy(document)
    verb, _, noun = kind.partition("_")
    if noun == "rule":
        _edit_rule(new, verb, value)
    elif kind in ("add_instance", "remove_instance"):
        find(new["security_groups"], value["security_group"])
        groups = find(new["instances"], value["instance"])["security_groups"]
        if kind == "add_instance":
            groups.append(value["security_group"])
        elif value["security_group"] not in groups or len(groups) == 1:
            raise RefusedChangeError("not in that group, or in no other")
        else:
            groups.remove(value["security_group"])
    elif noun in _SECTIONS:
        _edit_section(new, verb, noun, value)
    else:
        raise RefusedChangeError(f"no such change: {kind}")
    return new


def _edit_rule(new: Document, verb: str, value: Mapping[str, Any]) -> None:
    if verb == "add":
        group = find(new["security_groups"], value["security_group"])
        if any(rule["id"] == value["rule"].get("id") for _, rule in rules(new)):
            raise RefusedChangeError("the rule id is taken")
        taken = sum(1 for _ in rules(new))
        group["security_group_rules"].append(_settle_rule(value["rule"], f"{GENERATED}{group['id']}:{taken}+"))
        return
    rule = find((rule for _, rule in rules(new)), value["id"])
    if verb == "update":
        rule.update(value)
    for group in new["security_groups"] if verb == "delete" else ():
        group["security_group_rules"] = [other for other in group["security_group_rules"] if other is not rule]


#: The sections of a document, as changes name one of their items.
_SECTIONS = {
    "group": "security_groups",
    "address_group": "address_groups",
    "instance": "instances",
    "load_balancer": "load_balancers",
}


def _edit_section(new: Document, verb: str, noun: str, value: Mapping[str, Any]) -> None:
    """Creates, updates or deletes an item. What comes of it must be a document again: no id twice, no dangling name."""
    items = new[_SECTIONS[noun]]
    if verb == "create":
        items.append(copy.deepcopy(dict(value)))
    else:
        item = find(items, value["id"])
        if verb == "update":
            item.update(copy.deepcopy(dict(value)))
        else:
            new[_SECTIONS[noun]] = [other for other in items if other is not item]
    serial = f"{GENERATED}{value['id']}:{sum(1 for _ in rules(new))}"
    for group in new["security_groups"]:
        group.setdefault("security_group_rules", [])
        group["security_group_rules"] = [
            _settle_rule(rule, f"{serial}.{n}") for n, rule in enumerate(group["security_group_rules"])
        ]
    for instance in new["instances"]:
        if instance.get("security_groups") is None:
            instance["security_groups"] = ["default"]
            if all(group["id"] != "default" for group in new["security_groups"]):
                new["security_groups"].append(settle({"security_groups": [DEFAULT_GROUP]})["security_groups"][0])
    _must_hold(new)


def _must_hold(document: Document) -> None:
    """What SPEC 2 says of ids, references and addresses; `RefusedChangeError` where it does not hold."""
    ids = {section: [item["id"] for item in document[section]] for section in _SECTIONS.values()}
    named = [rule["id"] for _, rule in rules(document)]
    if any(len(set(found)) < len(found) for found in (*ids.values(), named)):
        raise RefusedChangeError("an id is there twice")
    for _, rule in rules(document):
        for field, section in (("remote_group_id", "security_groups"), ("remote_address_group_id", "address_groups")):
            if rule[field] is not None and rule[field] not in ids[section]:
                raise RefusedChangeError(f"{rule[field]} is named by a rule")
    for instance in document["instances"]:
        if not set(instance["security_groups"]) <= set(ids["security_groups"]):
            raise RefusedChangeError(f"{instance['id']} is in a group that is not there")
    for balancer in document["load_balancers"]:
        if not set(balancer.get("backends", [])) <= set(ids["instances"]):
            raise RefusedChangeError(f"{balancer['id']} has a backend that is not there")
    held = [(i.get("vpc", "default"), ip_address(text)) for i in document["instances"] for text in i["addresses"]]
    for balancer in document["load_balancers"]:
        backends = [find(document["instances"], name) for name in balancer.get("backends", [])]
        vpcs = {backend.get("vpc", "default") for backend in backends}
        held += [(vpc, ip_address(text)) for vpc in vpcs for text in balancer.get("addresses", [])]
    if len(set(held)) < len(held):
        raise RefusedChangeError("an address is there twice")


def _known_again(old: Document, new: Document) -> Document:
    """The new document, where a rule without an id is one of the old that had none either and says the same (SPEC 5.5).

    All others get ids that no rule had.
    """
    used = {rule["id"] for _, rule in rules(old)}
    for group in new["security_groups"]:
        spare = [
            rule for before, rule in rules(old) if before["id"] == group["id"] and rule["id"].startswith(GENERATED)
        ]
        for rule in group["security_group_rules"]:
            if rule["id"].startswith(GENERATED):
                same = [other for other in spare if _values(other) == _values(rule)]
                if same:
                    spare.remove(same[0])
                rule["id"] = same[0]["id"] if same else f"{GENERATED}{group['id']}:{len(used)}*"
                used.add(rule["id"])
    return new


def _values(rule: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(rule[key] for key in ("direction", *RULE_DEFAULTS))


@dataclass(frozen=True)
class Difference:
    """What a change disconnects (SPEC 5.2 to 5.5).

    `instances`: ids of those whose inbound connections are all cut. `revoked`: (rule id, remote address) of inbound
    connections that are cut wherever they are. `arrived`: (id of a deny rule, remote address) of inbound connections
    that are cut where that rule is the first to match them now.
    """

    instances: frozenset[str]
    revoked: frozenset[tuple[str, Address]]
    arrived: frozenset[tuple[str, Address]]

    @classmethod
    def between(cls, old: Document, new: Document) -> Difference:
        """Everything that changed from one settled document to the next."""
        group_ids = {group["id"] for document in (old, new) for group in document["security_groups"]}
        cut: set[str] = set()
        for group in group_ids:
            if _substance(old, group) != _substance(new, group):
                cut |= {instance["id"] for document in (old, new) for instance in members(document, group)}
        order = [{i["id"]: i["security_groups"] for i in document["instances"]} for document in (old, new)]
        cut |= {i for i in order[0].keys() & order[1].keys() if order[0][i] != order[1][i]}
        own = [{i["id"]: set(map(_address, i["addresses"])) for i in document["instances"]} for document in (old, new)]
        cut |= {i for i in own[0].keys() & own[1].keys() if own[0][i] != own[1][i]}
        revoked = {
            (rule["id"], address)
            for _, rule in rules(old)
            if rule["remote_group_id"] is not None
            for address in group_addresses(old, rule["remote_group_id"]) - group_addresses(new, rule["remote_group_id"])
        }
        arrived = {
            (rule["id"], address)
            for _, rule in rules(new)
            if rule["action"] == "deny" and rule["remote_group_id"] is not None
            for address in group_addresses(new, rule["remote_group_id"]) - group_addresses(old, rule["remote_group_id"])
        }
        return cls(frozenset(cut), frozenset(revoked), frozenset(arrived))


def _substance(document: Document, group_id: str) -> object:
    """What counts about an SG in SPEC 5.1 and 5.5: its rules, the address groups they use, and its members."""
    found = [group for group in document["security_groups"] if group["id"] == group_id]
    substance = {}
    for rule in found[0]["security_group_rules"] if found else ():
        used = rule["remote_address_group_id"]
        remote = frozenset(find(document["address_groups"], used)["ip_set"]) if used is not None else None
        substance[rule["id"]] = (_values(rule), remote)
    return substance, {instance["id"] for instance in members(document, group_id)}
