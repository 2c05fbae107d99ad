"""From a policy to the tables of the C side: rule tables by ordered groups, and endpoints.

The order in which rules are tried (SPEC 3.1) is made here: groups by their place in the instance's list, within a group
by priority, deny before allow, and then as written. Instances with the same list of groups share their tables, and a
table is kept as long as what it was made from is the same objects: a change rebuilds only what it touches.
"""

from __future__ import annotations

import socket
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.policy.fields import VirtualAddress, packed_prefix
from dataplane.policy.selectors import Selector, selectors

if TYPE_CHECKING:
    from dataplane.policy.document import Instance, SecurityGroup
    from dataplane.policy.model import Policy
    from dataplane.verdict import Names

INGRESS, EGRESS = lib.DP_INGRESS, lib.DP_EGRESS
DIRECTIONS = (("ingress", INGRESS), ("egress", EGRESS))
FAMILIES = (("IPv4", 4), ("IPv6", 6))
_ANY = 0xFFFFFFFF  # DP_REMOTE_ANY in an unsigned array
_PREFIX_SIZE = ffi.sizeof("struct dp_prefix")
_ZONE_SIZE = ffi.sizeof("struct dp_zone_tables")
_RULE_SIZE, _REMOTE_SIZE = ffi.sizeof("struct dp_rule"), ffi.sizeof("struct dp_remote")
#: More places than one group's rules have.
_PLACES = 1024

#: A rule's remote: its prefix as written, or else its security group and its address group.
Remote = str | tuple[str | None, str | None]
_NO_REMOTE: Remote = (None, None)

#: What a table needs of a rule: the place at which it is tried, its names (its id and its group's), its selectors, its
#: remote, and whether it allows.
WrittenRule = tuple[int, tuple[str, str], tuple[Selector, ...], Remote, bool]

#: What follows the address in a `struct dp_prefix`, by family and by length as written.
_TAILS = {
    family: {str(bits): bytes(16 - size) + bits.to_bytes(4, "little") for bits in range(8 * size + 1)}
    for family, size in ((4, 4), (6, 16))
}


def _prefix(address: bytes, bits: int) -> bytes:
    """A `struct dp_prefix` as bytes."""
    return address + _TAILS[_family(address)][str(bits)]


class _Tables:
    """The four rule tables of one ordered list of groups, and what they were made from."""

    def __init__(self, sources: tuple[object, ...], handles: dict[tuple[int, int], Any]) -> None:
        self.sources = sources
        self.handles = handles


class Compiler:
    """Compiles policies one after the other, and keeps what the next one can use again."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self._tables: dict[tuple[str, ...], _Tables] = {}
        self._members: dict[tuple[str, int], tuple[tuple[Instance, ...], bytes]] = {}
        # By instance: its zone, with dhcp_server above it; and its groups.
        self._zones: list[int] = []
        self._groups: list[tuple[str, ...]] = []
        self._zones_from: object = None
        self._endpoints: Any = None
        self._endpoints_from: tuple[object, ...] = ()
        self.rebuilt = 0

    def copy(self) -> Compiler:
        """Another that goes on from here, with names of its own; this one and its names stay as they are."""
        other = Compiler(self.names.copy())
        other._tables, other._members = self._tables, self._members.copy()
        other._zones, other._groups, other._zones_from = self._zones, self._groups, self._zones_from
        other._endpoints, other._endpoints_from = self._endpoints, self._endpoints_from
        return other

    def compile(self, policy: Policy) -> tuple[Any, Any]:
        """The policy as (array of `struct dp_zone_tables`, endpoints); `rebuilt` counts the tables made anew.

        The array points to tables that this compiler owns, until it compiles the next policy.
        """
        self.rebuilt = 0
        if self._zones_from is not policy.instances:
            self._zones = [self.names.zone(i.id) | i.dhcp_server << 32 for i in policy.instances]
            self._groups = [tuple(i.security_groups) for i in policy.instances]
            self._zones_from = policy.instances
        self._tables = {groups: self._tables_of(policy, groups) for groups in dict.fromkeys(self._groups)}
        self._members = {key: value for key, value in self._members.items() if policy.members(key[0]) is value[0]}
        return self._zone_tables(), self._compile_endpoints(policy)

    def _zone_tables(self) -> Any:
        """The array of `struct dp_zone_tables`, column by column, which costs fewest steps."""
        flat = array("Q", bytes(len(self._zones) * _ZONE_SIZE))
        words = _ZONE_SIZE // 8
        flat[::words] = array("Q", self._zones)
        for _, direction in DIRECTIONS:
            for _, family in FAMILIES:
                pointers = {
                    groups: int(ffi.cast("uintptr_t", tables.handles[direction, family]))
                    for groups, tables in self._tables.items()
                }
                flat[1 + 2 * direction + (family == 6) :: words] = array("Q", map(pointers.__getitem__, self._groups))
        return ffi.from_buffer("struct dp_zone_tables[]", flat)

    # ---- rule tables ----

    def _tables_of(self, policy: Policy, groups: tuple[str, ...]) -> _Tables:
        sources = self._sources(policy, groups)
        tables = self._tables.get(groups)
        if (
            tables
            and len(tables.sources) == len(sources)
            and all(a is b for a, b in zip(tables.sources, sources, strict=True))
        ):
            return tables
        handles = {}
        written = written_rules(policy.group(group) for group in groups)
        for direction, d in DIRECTIONS:
            for ethertype, family in FAMILIES:
                handles[d, family] = self._table(policy, written.get((direction, ethertype), ()), family)
                self.rebuilt += 1
        return _Tables(sources, handles)

    def _sources(self, policy: Policy, groups: tuple[str, ...]) -> tuple[object, ...]:
        """All objects that decide what the tables of `groups` say, in a fixed order."""
        sources: list[object] = []
        for group in groups:
            security_group = policy.group(group)
            sources.append(security_group.security_group_rules)
            sources.extend(policy.members(remote) for remote in security_group.remote_groups)
            sources.extend(policy.address_group(remote) for remote in security_group.remote_address_groups)
        return tuple(sources)

    def _table(self, policy: Policy, written: Sequence[WrittenRule], family: int) -> Any:
        # A field of all rules at a time costs fewest steps, and going through them as they lie in memory is fastest:
        # what is sorted is numbers.
        places, names, selectors, named, allowed = zip(*written, strict=True) if written else ((),) * 5
        order = sorted(range(len(places)), key=places.__getitem__)
        n_selectors = list(map(len, selectors))
        remote_numbers, remotes, prefixes = self._remotes(policy, named, family)
        columns: tuple[Sequence[int], ...] = (
            self.names.rule_numbers(names),
            remote_numbers,
            list(accumulate(n_selectors, initial=0)),
            n_selectors,
            allowed,
        )
        flat = array("I", bytes(len(written) * _RULE_SIZE))
        # One index alone gives no tuple.
        ordered = itemgetter(*order) if len(order) > 1 else tuple
        for field, column in enumerate(columns):
            flat[field :: len(columns)] = array("I", ordered(column)[: len(written)])
        ends = array("I", list(chain.from_iterable(chain.from_iterable(selectors))))
        out = ffi.new("struct dp_rule_table **")
        code = lib.dp_rule_table_new(
            family,
            ffi.from_buffer("struct dp_rule[]", flat),
            len(written),
            ffi.from_buffer("struct dp_remote[]", remotes),
            len(remotes) // 2,
            ffi.from_buffer("struct dp_prefix[]", prefixes),
            len(prefixes) // _PREFIX_SIZE,
            ffi.from_buffer("struct dp_selector[]", ends),
            len(ends) // 2,
            out,
        )
        check(code, "building a rule table")
        return ffi.gc(out[0], lib.dp_rule_table_free, lib.dp_rule_table_size(out[0]))

    def _remotes(self, policy: Policy, named: Sequence[Remote], family: int) -> tuple[list[int], array[int], bytes]:
        """The number of each rule's remote, the remotes as `struct dp_remote`, and their `struct dp_prefix`."""
        numbers: dict[Remote, int] = {_NO_REMOTE: _ANY}
        blobs: list[bytes] = []
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        tails = _TAILS[family]
        for remote in named:
            if remote not in numbers:
                numbers[remote] = len(blobs)
                if isinstance(remote, str):
                    address, _, bits = remote.partition("/")
                    blobs.append(socket.inet_pton(kind, address) + tails[bits])
                else:
                    blobs.append(self._set_prefixes(policy, *remote, family))
        counts = [len(blob) // _PREFIX_SIZE for blob in blobs]
        remotes = array("I", bytes(len(blobs) * _REMOTE_SIZE))
        if blobs:
            remotes[::2] = array("I", accumulate(counts[:-1], initial=0))
            remotes[1::2] = array("I", counts)
        return list(map(numbers.__getitem__, named)), remotes, b"".join(blobs)

    def _set_prefixes(self, policy: Policy, group: str | None, address_group: str | None, family: int) -> bytes:
        """The addresses that a group or an address group stands for now (SPEC 3.3), as `struct dp_prefix`."""
        if group is not None:
            return self._member_prefixes(policy, group, family)
        return b"".join(_prefix(*packed) for packed in policy.address_group(str(address_group)).prefixes)

    def _member_prefixes(self, policy: Policy, group: str, family: int) -> bytes:
        members = policy.members(group)
        cached = self._members.get((group, family))
        if cached and cached[0] is members:
            return cached[1]
        size = 4 if family == 4 else 16
        blob = b"".join(
            _prefix(address, size * 8) for i in members for address in i.packed_addresses if len(address) == size
        )
        self._members[group, family] = (members, blob)
        return blob

    # ---- endpoints ----

    def _compile_endpoints(self, policy: Policy) -> Any:
        sources = (policy.instances, policy.load_balancers)
        if self._endpoints_from and all(a is b for a, b in zip(self._endpoints_from, sources, strict=True)):
            return self._endpoints
        holdings = [h for i in policy.instances for h in self._holdings(i)]
        macs = [_known_mac(i.mac, zone=self.names.zone(i.id)) for i in policy.instances if i.mac]
        macs += [
            _known_mac(pair.mac, zone=self.names.zone(i.id), pair=pair.ip)
            for i in policy.instances
            for pair in i.allowed_address_pairs
            if isinstance(pair, VirtualAddress)
        ]
        addresses: list[tuple[bytes, int, int, bool]] = []
        backends: list[tuple[int, int]] = []
        for balancer in policy.load_balancers:
            number = self.names.balancer(balancer.id)
            has_port = balancer.interface is not None
            if balancer.mac:
                macs.append(_known_mac(balancer.mac, balancer=number, has_port=has_port))
            addresses.extend((_padded(a), _family(a), number, has_port) for a in map(pack_address, balancer.addresses))
            if balancer.transfer_client_ip:
                backends.extend((number, self.names.zone(backend)) for backend in balancer.backends)
        out = ffi.new("struct dp_endpoints **")
        code = lib.dp_endpoints_new(
            ffi.new("struct dp_holding[]", holdings),
            len(holdings),
            ffi.new("struct dp_mac[]", macs),
            len(macs),
            ffi.new("struct dp_balancer_address[]", addresses),
            len(addresses),
            ffi.new("struct dp_backend[]", backends),
            len(backends),
            out,
        )
        check(code, "building the table of endpoints")
        self._endpoints = ffi.gc(out[0], lib.dp_endpoints_free)
        self._endpoints_from = sources
        return self._endpoints

    def _holdings(self, instance: Instance) -> Iterable[tuple[tuple[bytes, int], int, int, int]]:
        zone = self.names.zone(instance.id)
        for address in instance.packed_addresses:
            yield (_padded(address), len(address) * 8), _family(address), zone, 0
        if instance.mac:
            yield (link_local(_mac(instance.mac)), 128), 6, zone, 0
        # Most have none, and there are many instances.
        for address, bits in instance.packed_address_pairs if instance.allowed_address_pairs else ():
            yield (_padded(address), bits), _family(address), zone, 1


def written_rules(groups: Iterable[SecurityGroup]) -> dict[tuple[str, str], list[WrittenRule]]:
    """The enabled rules of an ordered list of groups as written, by (direction, ethertype); pairs without any are left
    out.

    A smaller place is tried first, and what has the same as written: by group, priority, and deny before allow
    (SPEC 3.1).
    """
    written: dict[tuple[str, str], list[WrittenRule]] = {}
    for number, group in enumerate(groups):
        first, group_id = number * _PLACES, group.id
        for rule in group.security_group_rules:
            if rule.enabled:
                allow = rule.action == "allow"
                place = first + 2 * rule.priority + allow
                remote = rule.remote_ip_prefix or (rule.remote_group_id, rule.remote_address_group_id)
                selected = selectors(rule.protocol, rule.multiport, rule.icmp_type, rule.icmp_code)
                row = (place, (rule.id, group_id), selected, remote, allow)
                table = rule.direction, rule.ethertype
                if table in written:
                    written[table].append(row)
                else:
                    written[table] = [row]
    return written


def pack_address(text: str) -> bytes:
    """An IPv4 or IPv6 address as 4 or 16 bytes."""
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def link_local(mac: bytes) -> bytes:
    """The link-local address that is made from a MAC (RFC 4291, appendix A): 16 bytes."""
    return b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


def _padded(address: bytes) -> bytes:
    return address.ljust(16, b"\0")


def _family(address: bytes) -> int:
    return 4 if len(address) == 4 else 6


def _known_mac(
    mac: str, *, zone: int = 0, balancer: int = 0, has_port: bool = False, pair: str | None = None
) -> dict[str, Any]:
    """A struct dp_mac; `pair`: the virtual IP that it is the virtual MAC of."""
    known = {"mac": _mac(mac), "zone": zone, "balancer": balancer, "has_port": has_port}
    if pair is not None:
        address, bits = packed_prefix(pair)
        known |= {"family": _family(address), "pair": (_padded(address), bits)}
    return known


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
