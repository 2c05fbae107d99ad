"""From a policy to the tables of the C side: rule tables by ordered groups, and endpoints.

Instances with the same list of groups share their tables. What a policy shares with the one compiled before, as the
same objects, is not looked at again: a change rebuilds the tables that it touches, from the order of rules before
(`rule_order.py`), and all others are kept.
"""

from __future__ import annotations

import socket
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, count
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.policy.addresses import VirtualAddress, packed_prefix
from dataplane.policy.collection import no_collection
from dataplane.policy.replaced import different
from dataplane.rule_order import PREFIX_SIZE, TAILS, Fields, Kind, Lookups, RuleOrder, written_rules

if TYPE_CHECKING:
    from dataplane.policy.document import Instance, SecurityGroup
    from dataplane.policy.model import Policy
    from dataplane.verdict import Names

INGRESS, EGRESS = lib.DP_INGRESS, lib.DP_EGRESS
DIRECTIONS = (("ingress", INGRESS), ("egress", EGRESS))
FAMILIES = (("IPv4", 4), ("IPv6", 6))
#: The four tables of an instance, in the order of a `struct dp_zone_tables`.
KINDS = tuple((direction, ethertype) for direction, _ in DIRECTIONS for ethertype, _ in FAMILIES)
_FAMILY = dict(FAMILIES)
#: Sets that no rule names any more are kept, where they are no more than the others and so many.
_SETS_MIN = 64
_ZONE_WORDS = ffi.sizeof("struct dp_zone_tables") // 8


def _prefix(address: bytes, bits: int) -> bytes:
    """A `struct dp_prefix` as bytes."""
    return address + TAILS[_family(address)][str(bits)]


class _Tables:
    """The four rule tables of one ordered list of groups, and what they were made from.

    `sets` are the members of groups and the address groups that rules may name. In the order of KINDS are the orders of
    rules, and the tables.
    """

    def __init__(
        self,
        groups: Sequence[SecurityGroup],
        sets: Mapping[object, object],
        orders: list[RuleOrder],
        handles: list[Any],
    ) -> None:
        self.groups, self.sets = groups, sets
        self.orders, self.handles = orders, handles
        self.pointers = [int(ffi.cast("uintptr_t", handle)) for handle in handles]


class Compiler:
    """Compiles policies one after the other, and keeps what the next one can use again."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self._policy: Policy | None = None
        self._tables: dict[tuple[str, ...], _Tables] = {}
        self._members: dict[tuple[str, int], tuple[tuple[Instance, ...], bytes]] = {}
        # The lists of groups that instances have, by group; and by list the places of those instances.
        self._lists: dict[str, list[tuple[str, ...]]] = {}
        self._places: dict[tuple[str, ...], array[int]] = {}
        # An array of `struct dp_zone_tables`, in the order of instances.
        self._zones = array("Q")
        self._endpoints: Any = None
        self._endpoints_from: tuple[object, ...] = ()

    def copy(self) -> Compiler:
        """Another that goes on from here, with names of its own; this one and its names stay as they are."""
        other = Compiler(self.names.copy())
        other._policy, other._tables, other._members = self._policy, self._tables, self._members.copy()
        other._lists, other._places, other._zones = self._lists, self._places, self._zones
        other._endpoints, other._endpoints_from = self._endpoints, self._endpoints_from
        return other

    def compile(self, policy: Policy) -> tuple[Any, Any]:
        """The policy as (array of `struct dp_zone_tables`, endpoints).

        The array points to tables that this compiler owns, until it compiles the next policy.
        """
        before = self._policy
        if before is None or before.instances is not policy.instances:
            self._list_instances(policy)
            before = None
        if before is None or before.address_groups is not policy.address_groups:
            touched: Iterable[tuple[str, ...]] = self._places
        else:
            groups = different(before.security_groups, policy.security_groups)[1]
            touched = dict.fromkeys(groups for group in groups for groups in self._lists.get(group.id, ()))
        tables = {groups: self._tables_of(policy, groups) for groups in touched}
        if before is None:
            self._tables = tables
        else:
            self._tables = self._tables | tables
        self._set_pointers(tables, self._zones[:])
        self._policy = policy
        return ffi.from_buffer("struct dp_zone_tables[]", self._zones), self._compile_endpoints(policy)

    def _list_instances(self, policy: Policy) -> None:
        """Which groups instances are in, and the zones without tables."""
        places: dict[tuple[str, ...], list[int]] = {}
        for place, instance in enumerate(policy.instances):
            places.setdefault(tuple(instance.security_groups), []).append(place)
        self._places = {groups: array("I", found) for groups, found in places.items()}
        self._lists = {}
        for groups in places:
            for group in groups:
                self._lists.setdefault(group, []).append(groups)
        self._zones = array("Q", bytes(8 * _ZONE_WORDS * len(policy.instances)))
        zones = [self.names.zone(i.id) | i.dhcp_server << 32 for i in policy.instances]
        self._zones[::_ZONE_WORDS] = array("Q", zones)
        self._members = {key: value for key, value in self._members.items() if policy.members(key[0]) is value[0]}

    def _set_pointers(self, tables: Mapping[tuple[str, ...], _Tables], zones: array[int]) -> None:
        """The zones of instances with these lists of groups point to other tables."""
        for groups, made in tables.items():
            places = self._places[groups]
            first, last = places[0], places[-1]
            for word, pointer in enumerate(made.pointers, 1):
                if last - first + 1 == len(places):
                    # Those who are in the same groups mostly stand together.
                    end = last * _ZONE_WORDS + word + 1
                    zones[first * _ZONE_WORDS + word : end : _ZONE_WORDS] = array("Q", [pointer]) * len(places)
                else:
                    for place in places:
                        zones[place * _ZONE_WORDS + word] = pointer
        self._zones = zones

    # ---- rule tables ----

    def _tables_of(self, policy: Policy, names: tuple[str, ...]) -> _Tables:
        before = self._tables.get(names)
        groups = [policy.group(name) for name in names]
        sets = _sets(policy, groups)
        lookups = Lookups(
            self.names.rule_numbers,
            partial(self._addresses, policy),
            partial(self._written, policy),
            self._all_written,
        )
        # What was known of sets that no rule names any more holds for those that are to name them again.
        known = sets if before is None else {**before.sets, **sets}
        kept: list[RuleOrder | None] = [None] * len(KINDS)
        if (
            before
            and len(known) <= 2 * len(sets) + _SETS_MIN
            and all(before.sets.get(key, value) is value for key, value in sets.items())
        ):
            kept = [
                _following(kind, order, before.groups, groups, lookups)
                for kind, order in zip(KINDS, before.orders, strict=True)
            ]
        else:
            known = sets
        with no_collection():
            written = written_rules(groups) if any(order is None for order in kept) else None
        orders, handles = [], []
        for place, (kind, order) in enumerate(zip(KINDS, kept, strict=True)):
            if order is None:
                assert written is not None
                order = RuleOrder.of(written.get(kind, ()), Fields(_FAMILY[kind[1]]), lookups)
            if before and order is before.orders[place]:
                handle = before.handles[place]
            else:
                order, handle = self._ordered_table(order, before, place)
            orders.append(order)
            handles.append(handle)
        return _Tables(groups, known, orders, handles)

    def _ordered_table(self, order: RuleOrder, before: _Tables | None, place: int) -> tuple[RuleOrder, Any]:
        """The table of an order, and the order that it is of: one with changes gets a patch on the table before, if
        that has the same base, and is made plain where that is not worth it.
        """
        handle = None
        if not order.plain and before and order.base is before.orders[place].base:
            handle = _patched_table(before.handles[place], order)
        if handle is None:
            order = order.merged()
            handle = _table(order)
        return order, handle

    def _written(self, policy: Policy, number: int) -> int:
        """The place of a rule in its group."""
        named = self.names.rules[number]
        assert named is not None
        return policy.rules_by_id.place(named[0])

    def _all_written(self, group: SecurityGroup) -> Callable[[int], int]:
        """The place of each rule of a group by its number."""
        places: dict[str, int] = dict(zip(map(attrgetter("id"), group.security_group_rules), count(), strict=False))

        def written(number: int) -> int:
            named = self.names.rules[number]
            assert named is not None
            return places[named[0]]

        return written

    def _addresses(self, policy: Policy, group: str | None, address_group: str | None, family: int) -> bytes:
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


def _table(order: RuleOrder) -> Any:
    """The rule table of a plain order."""
    fields = order.fields
    out = ffi.new("struct dp_rule_table **")
    code = lib.dp_rule_table_new(
        fields.family,
        ffi.from_buffer("struct dp_rule[]", order.base.rules),
        len(order),
        ffi.from_buffer("struct dp_remote[]", fields.remotes),
        len(fields.remotes) // 2,
        ffi.from_buffer("struct dp_prefix[]", fields.prefixes),
        len(fields.prefixes) // PREFIX_SIZE,
        ffi.from_buffer("struct dp_selector[]", fields.selectors),
        len(fields.selectors) // 2,
        out,
    )
    check(code, "building a rule table")
    return ffi.gc(out[0], lib.dp_rule_table_free, lib.dp_rule_table_size(out[0]))


def _patched_table(before: Any, order: RuleOrder) -> Any:
    """The rule table of an order with changes, from a table with the same base; None where that is not worth it."""
    fields = order.fields
    added = array("I", chain.from_iterable(rule.columns for rule in order.added))
    kept = {
        "rules": ffi.from_buffer("struct dp_rule[]", order.base.rules),
        "remotes": ffi.from_buffer("struct dp_remote[]", fields.remotes),
        "prefixes": ffi.from_buffer("struct dp_prefix[]", fields.prefixes),
        "selectors": ffi.from_buffer("struct dp_selector[]", fields.selectors),
        "removed": ffi.new("uint32_t[]", order.removed),
        "added": ffi.from_buffer("struct dp_rule[]", added),
        "before": ffi.new("uint32_t[]", [rule.before for rule in order.added]),
    }
    sizes = {f"n_{name}": len(array) for name, array in kept.items() if name != "before"}
    out = ffi.new("struct dp_rule_table **")
    code = lib.dp_rule_table_patch(before, ffi.new("struct dp_rule_changes *", kept | sizes), out)
    if code == lib.DP_E_LIMIT:
        return None
    check(code, "changing a rule table")
    # What it shares with the table before is counted there.
    return ffi.gc(out[0], lib.dp_rule_table_free)


def _following(
    kind: Kind,
    order: RuleOrder | None,
    before: Sequence[SecurityGroup],
    groups: Sequence[SecurityGroup],
    lookups: Lookups,
) -> RuleOrder | None:
    """The order of rules of a kind after a list of groups has become another; None where it is better made anew."""
    for number, (was, now) in enumerate(zip(before, groups, strict=True)):
        if order is not None and was is not now:
            order = order.following(kind, number, was, now, lookups)
    return order


def _sets(policy: Policy, groups: Iterable[SecurityGroup]) -> dict[object, object]:
    """Whoever rules of these groups may name, by group and by address group, as who these are now."""
    sets: dict[object, object] = {}
    for group in groups:
        sets.update(((group_id, None), policy.members(group_id)) for group_id in group.remote_groups)
        sets.update(((None, group_id), policy.address_group(group_id)) for group_id in group.remote_address_groups)
    return sets


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
