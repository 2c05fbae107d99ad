"""A policy to begin with, made from a preset, and tests beside it that say what it does (`dataplane new`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from dataplane.policy import fields
from dataplane.policy.addresses import address_text, checked_prefix, family, packed_prefix
from dataplane.policy.services import BOTH, DATABASES, SERVICES, Preset, preset_rules
from dataplane.policy.write import as_yaml
from dataplane.terminal import host_port

_ADMINS, _CLIENTS = "admins", "clients"
#: Addresses of the documents: RFC 5737, RFC 3849 and RFC 4193 leave them to examples and to private networks.
_ADMIN_NETWORK = "192.0.2.0/24"
_STRANGERS = {"IPv4": ("203.0.113.9", "10.99.0.9"), "IPv6": ("2001:db8:ffff::9", "fd99::9")}
_SERVERS = ({"IPv4": "192.168.0.10", "IPv6": "fd00::10"}, {"IPv4": "192.168.0.11", "IPv6": "fd00::11"})
_CLIENT = {"IPv4": "192.168.0.20", "IPv6": "fd00::20"}
_CLOSED = 9


@dataclass(frozen=True, slots=True)
class Beginning:
    """A policy as a document and as text, and its tests as text."""

    document: dict[str, Any]
    policy: str
    tests: str


def beginning(preset: Preset, *, policy_file: str, source: str | None = None) -> Beginning:
    """The policy of a preset, whose tests name it as `policy_file`.

    `source`, an address or CIDR block, is whom all services are for; without it those of a database are for a group
    of clients, and remote logins for an address group of the people who administer the servers. Raises ValueError, with
    what goes on after the preset's name, for a source that it cannot take.
    """
    prefix = None if source is None else _network(source)
    plan = _Plan(preset, prefix)
    document = plan.document()
    head = f"# {preset.title[:1].upper()}{preset.title[1:]}. Addresses and names are examples: write your own.\n"
    head += "# Live traffic needs the interface of each instance (interface: tap-a), and one that leads outside\n"
    head += "# (uplinks: [{interface: eth0}]).\n"
    told = f"# What {policy_file} does, packet by packet: dataplane test runs it.\n"
    tests = {"policy": policy_file, "cases": list(plan.cases(document))}
    return Beginning(document, head + as_yaml(document), told + _cases_text(tests))


def _network(source: str) -> str:
    try:
        return checked_prefix(source)
    except ValueError as error:
        raise ValueError(f"cannot be for {source}, which {getattr(error, 'message_template', error)}") from None


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which group, instances and remotes a preset needs."""

    preset: Preset
    source: str | None

    @property
    def group(self) -> str:
        """Id of the servers' group."""
        return self.preset.name

    @property
    def _for_clients(self) -> bool:
        return any(SERVICES[name].purpose == DATABASES for name in self.preset.named)

    def _stranger(self, ethertype: str) -> str | None:
        """An address outside of the source; None where the source is all addresses."""
        within = [self.source] if self.source and f"IPv{family(self.source)}" == ethertype else []
        networks = [ip_network(network) for network in within]
        outside = (one for one in _STRANGERS[ethertype] if not any(ip_address(one) in network for network in networks))
        return next(outside, None)

    def _anybody(self, ethertype: str) -> str:
        """An address that no rule names, where there is one."""
        return self._stranger(ethertype) or _STRANGERS[ethertype][0]

    def _remote(self) -> tuple[dict[str, str] | None, tuple[str, ...]]:
        if self.source is not None:
            return {"remote_ip_prefix": self.source}, (f"IPv{family(self.source)}",)
        if not self.preset.named:
            return None, BOTH
        if self._for_clients:
            return {"remote_group_id": _CLIENTS}, BOTH
        return {"remote_address_group_id": _ADMINS}, BOTH[:1]

    def document(self) -> dict[str, Any]:
        """The policy."""
        remote, families = self._remote()
        rules = preset_rules(self.preset, self.group, remote, families)
        groups = [{"id": self.group, "name": self.preset.title, "security_group_rules": _numbered("A", rules)}]
        instances = [_instance(f"{self.group}-{n}", at, self.group) for n, at in enumerate(_SERVERS, 1)]
        made: dict[str, Any] = {"security_groups": groups, "instances": instances}
        if remote and _CLIENTS in remote.values():
            egress = [{"direction": "egress", "ethertype": e, "description": "to everybody"} for e in BOTH]
            groups.append({"id": _CLIENTS, "name": "who works with it", "security_group_rules": _numbered("B", egress)})
            instances.append(_instance("client-1", _CLIENT, _CLIENTS))
        if remote and _ADMINS in remote.values():
            made["address_groups"] = [{"id": _ADMINS, "ip_version": 4, "ip_set": [_ADMIN_NETWORK]}]
        return made

    def cases(self, document: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The tests, which say of each rule what it lets in, and what else is not let in."""
        rules = document["security_groups"][0]["security_group_rules"]
        served = [
            rule for rule in rules if rule["direction"] == "ingress" and rule.get("remote_group_id") != self.group
        ]
        if served:
            yield {"name": "what it serves", "packets": [*_packets(served, self._welcome, "allow")]}
        closed = [rule for rule in served if _remotes(rule) and self._stranger(_ethertype(rule))]
        if closed:
            packets = _packets(closed, lambda rule: self._anybody(_ethertype(rule)), "deny")
            yield {"name": "nobody else comes in", "packets": [*packets]}
        open_to_all = {
            _ethertype(rule)
            for rule in served
            if rule.get("protocol") is None and not (_remotes(rule) and self._stranger(_ethertype(rule)))
        }
        if shut := [e for e in BOTH if e not in open_to_all]:
            yield {
                "name": "nothing else is open",
                "packets": [f"{_flow('tcp', self._anybody(e), _SERVERS[0][e], _CLOSED)} S => deny" for e in shut],
            }
        yield {"name": "what comes from within, and leaves", "packets": [*self._own()]}

    def _welcome(self, rule: dict[str, Any]) -> str:
        """An address from which the rule lets in."""
        ethertype = _ethertype(rule)
        if rule.get("remote_group_id"):
            return _CLIENT[ethertype]
        network = rule.get("remote_ip_prefix") or (rule.get("remote_address_group_id") and _ADMIN_NETWORK)
        return _host(network) if network else self._anybody(ethertype)

    def _own(self) -> Iterator[str]:
        first, second = _SERVERS
        for e in BOTH:
            yield f"{_flow('tcp', second[e], first[e], _CLOSED)} S => allow"
            yield f"{_flow('tcp', first[e], self._anybody(e), 443)} S => allow"
            answer = f"tcp {host_port(self._anybody(e), 443)} > {host_port(first[e], 40000)} SA"
            yield f"{answer} => allow state=established"


def _numbered(letter: str, rules: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rules with ids, and what they are for at their end."""
    made = []
    for number, rule in enumerate(rules, 1):
        written = {name: value for name, value in rule.items() if (name, value) != ("ethertype", "IPv4")}
        told = written.pop("description", None)
        direction = written.pop("direction")
        id_ = {"id": f"{letter}{number:02}", "direction": direction}
        made.append(id_ | written | ({"description": told} if told else {}))
    return made


def _instance(id_: str, at: dict[str, str], group: str) -> dict[str, Any]:
    return {"id": id_, "addresses": list(at.values()), "security_groups": [group]}


def _remotes(rule: dict[str, Any]) -> bool:
    return any(name.startswith("remote_") for name in rule)


def _host(network: str) -> str:
    """An address in a network: the ninth, or the last where there are fewer."""
    packed, bits = packed_prefix(network)
    room = (1 << (len(packed) * 8 - bits)) - 1
    number = int.from_bytes(packed, "big") + min(9, room)
    return address_text(number.to_bytes(len(packed), "big"))


def _ethertype(rule: dict[str, Any]) -> str:
    ethertype: str = rule.get("ethertype", "IPv4")
    return ethertype


def _packets(rules: Iterable[dict[str, Any]], source: Any, verdict: str) -> Iterator[str]:
    """A packet for each rule, from an address that `source` tells for it."""
    for rule in rules:
        server = _SERVERS[0][_ethertype(rule)]
        protocol = rule.get("protocol") or "tcp"
        if protocol in ("icmp", "icmpv6"):
            packet = f"{protocol} {source(rule)} > {server} echo-request id 1"
        else:
            port = fields.port_ranges(rule["multiport"])[0][0] if rule.get("multiport") else _CLOSED
            packet = _flow(protocol, source(rule), server, port) + (" S" if protocol == "tcp" else "")
        yield f"{packet} => {verdict}" + (f" rule={rule['id']}" if verdict == "allow" else " reason=no-rule-matched")


def _flow(protocol: str, source: str, destination: str, port: int) -> str:
    return f"{protocol} {host_port(source, 40000)} > {host_port(destination, port)}"


def _cases_text(tests: dict[str, Any]) -> str:
    lines = as_yaml({"policy": tests["policy"], "cases": [{"name": ""}]}).splitlines()[:2]
    for case in tests["cases"]:
        lines += [f"  - name: {case['name']}", "    packets: |", *(f"      {packet}" for packet in case["packets"])]
    return "\n".join(lines) + "\n"
