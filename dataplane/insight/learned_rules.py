"""The narrowest rules that let certain traffic pass (SPEC 8.7), within the limits of SPEC 6.

A NEED is what one rule at least must match: an instance, a direction, a protocol, one port (or ICMP type and code, or
none), one remote address. Rules match the union of the needs and nothing else, each need by one rule only, so that no
rule is redundant. Needs are joined where that says the same: ports of the same hosts in one rule, or hosts of the same
ports in one address group, whichever gives fewer rules. What uses quota beyond its limit is written out again as rules
with one prefix and one range of ports each, which use none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from itertools import product
from typing import Any, NamedTuple, TypeVar

from dataplane.policy.fields import MULTIPORT_MAX
from dataplane.policy.limits import QUOTA

#: Of an instance's id in those that are made of it.
_LONGEST_LABEL = 200

#: A port, or an ICMP type and code; None: there is none, or a rule cannot say it.
Cell = int | tuple[int, int] | None
Network = IPv4Network | IPv6Network
T = TypeVar("T", bound=Hashable)


class Need(NamedTuple):
    """What one connection needs of the rules of its instance; a `protocol` of None is one that no rule can name."""

    instance: str
    direction: str
    ethertype: str
    protocol: str | int | None
    cell: Cell
    remote: str


@dataclass(slots=True)
class Evidence:
    """What a need was seen in: how many connections, and the first packet of the first of them."""

    connections: int = 0
    first_packet: int = 0

    def add(self, connections: int, first_packet: int) -> None:
        """Adds connections, the first of which begins with this packet."""
        self.first_packet = min(first_packet, self.first_packet) if self.connections else first_packet
        self.connections += connections


class LearnedRules(NamedTuple):
    """Rules by instance, the address groups that they name, and what had to be written out, a sentence each."""

    rules: dict[str, list[dict[str, Any]]]
    address_groups: list[dict[str, Any]]
    notes: list[str]


def learned_rules(needs: Mapping[Need, Evidence], instances: Iterable[str]) -> LearnedRules:
    """Rules for all needs, as values of a policy document."""
    groups = _AddressGroups()
    rules: dict[str, list[dict[str, Any]]] = {}
    notes: list[str] = []
    needs = _without_overlaps(needs)
    tables = _grouped(needs, lambda need: (need.instance, need.direction, need.ethertype))
    for number, instance in enumerate(instances, 1):
        made = rules[instance] = []
        label = instance if len(instance) <= _LONGEST_LABEL else f"instance-{number}"
        for direction, ethertype in product(("ingress", "egress"), ("IPv4", "IPv6")):
            drafts = _drafts(tables.get((instance, direction, ethertype), ()))
            if spread := _keep_within_quota(drafts):
                notes.append(
                    f"{instance}, {direction} {ethertype}: {spread} rules with address groups or inconsecutive ports"
                    f" are written out as rules with one prefix and one range of ports: up to {QUOTA} are allowed"
                )
            for draft in drafts:
                for values, cells, networks in draft.rules(groups, label):
                    evidence = _evidence(needs, (instance, direction, ethertype, draft.protocol), cells, networks)
                    made.append(
                        {
                            "id": f"{label}-{direction}-{ethertype.lower()}-{len(made) + 1}",
                            "description": _description(evidence),
                            "direction": direction,
                            "ethertype": ethertype,
                            **({} if draft.protocol is None else {"protocol": draft.protocol}),
                            **values,
                        }
                    )
    return LearnedRules(rules, groups.made, notes)


def _without_overlaps(needs: Mapping[Need, Evidence]) -> dict[Need, Evidence]:
    """Ports of a remote that needs all ports of the protocol are among these, and protocols among all protocols."""
    found: dict[Need, Evidence] = {}
    for need, evidence in needs.items():
        wider = (need._replace(cell=None, protocol=None), need._replace(cell=None), need)
        widest = next(one for one in wider if one in needs)
        found.setdefault(widest, Evidence()).add(evidence.connections, evidence.first_packet)
    return found


def _grouped(items: Iterable[Need], key: Callable[[Need], T]) -> dict[T, list[Need]]:
    found: dict[T, list[Need]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found


def _description(evidence: Evidence) -> str:
    many = f"{evidence.connections} connections" if evidence.connections != 1 else "1 connection"
    return f"Learned from {many}, first packet {evidence.first_packet}"


def _evidence(
    needs: Mapping[Need, Evidence],
    table: tuple[str, str, str, str | int | None],
    cells: list[Cell],
    networks: list[Network],
) -> Evidence:
    found = Evidence()
    for network in networks:
        for address in network:
            for cell in cells:
                one = needs[Need(*table, cell, str(address))]
                found.add(one.connections, one.first_packet)
    return found


# ---- drafts ----


@dataclass(slots=True)
class _Draft:
    """All of `cells` from or to all of `remotes`: one rule, or as many as it takes."""

    protocol: str | int | None
    cells: tuple[Cell, ...]
    networks: list[Network]
    spread: bool = field(default=False)

    @property
    def ranges(self) -> list[tuple[Cell, Cell]]:
        return _ranges(self.cells)

    @property
    def counted(self) -> int:
        """How many of its rules use quota."""
        if self.spread:
            return 0
        chunks = [self.ranges[i : i + MULTIPORT_MAX] for i in range(0, len(self.ranges), MULTIPORT_MAX)]
        return sum(len(self.networks) > 1 or len(chunk) > 1 for chunk in chunks)

    @property
    def written_out(self) -> int:
        """How many rules it takes without using quota."""
        return len(self.networks) * len(self.ranges)

    def rules(
        self, groups: _AddressGroups, instance: str
    ) -> Iterator[tuple[dict[str, Any], list[Cell], list[Network]]]:
        """The fields of each rule for the other side, with what it is for."""
        step = 1 if self.spread else MULTIPORT_MAX
        for networks in [[one] for one in self.networks] if self.spread else [self.networks]:
            remote = (
                {"remote_ip_prefix": str(networks[0])}
                if len(networks) == 1
                else {"remote_address_group_id": groups.group_of(networks, instance)}
            )
            for at in range(0, len(self.ranges), step):
                chunk = self.ranges[at : at + step]
                cells = [cell for low, high in chunk for cell in _within(low, high)]
                yield {**_selector(chunk), **remote}, cells, networks


def _drafts(needs: Iterable[Need]) -> list[_Draft]:
    """The drafts for the needs of one instance in one direction and family, protocol by protocol."""
    by_protocol = _grouped(needs, lambda need: need.protocol)
    in_order = sorted(by_protocol.items(), key=lambda item: str(item[0]))
    return [draft for protocol, found in in_order for draft in _drafts_of(protocol, found)]


def _drafts_of(protocol: str | int | None, needs: list[Need]) -> list[_Draft]:
    """Disjoint drafts for the needs of one protocol in one direction, the fewer of the two ways to join them."""
    by_remote: dict[str, set[Cell]] = defaultdict(set)
    by_cell: dict[Cell, set[str]] = defaultdict(set)
    for need in needs:
        by_remote[need.remote].add(need.cell)
        by_cell[need.cell].add(need.remote)
    # ICMP has a type and code a rule.
    one_by_one = any(isinstance(need.cell, tuple) for need in needs)
    ways = [_by_cells(protocol, by_cell, one_by_one=one_by_one)]
    if not one_by_one:
        ways.append(_by_remotes(protocol, by_remote))
    return min(ways, key=lambda drafts: sum(-(-len(draft.ranges) // MULTIPORT_MAX) for draft in drafts))


def _by_cells(protocol: str | int | None, by_cell: dict[Cell, set[str]], *, one_by_one: bool) -> list[_Draft]:
    alike: dict[Hashable, list[Cell]] = defaultdict(list)
    for cell, remotes in by_cell.items():
        alike[cell if one_by_one else frozenset(remotes)].append(cell)
    drafts = (_Draft(protocol, tuple(cells), _networks(by_cell[cells[0]])) for cells in alike.values())
    return sorted(drafts, key=_place)


def _by_remotes(protocol: str | int | None, by_remote: dict[str, set[Cell]]) -> list[_Draft]:
    alike: dict[frozenset[Cell], set[str]] = defaultdict(set)
    for remote, cells in by_remote.items():
        alike[frozenset(cells)].add(remote)
    drafts = (_Draft(protocol, tuple(cells), _networks(remotes)) for cells, remotes in alike.items())
    return sorted(drafts, key=_place)


def _place(draft: _Draft) -> tuple[Any, ...]:
    return [_cell_order(low) for low, _ in draft.ranges], draft.networks


def _keep_within_quota(drafts: list[_Draft]) -> int:
    """Spreads drafts until their rules are within the quota, those that become the fewest rules first; how many."""
    used, spread = sum(draft.counted for draft in drafts), 0
    for draft in sorted((draft for draft in drafts if draft.counted), key=lambda draft: draft.written_out):
        if used <= QUOTA:
            break
        used -= draft.counted
        spread += draft.counted
        draft.spread = True
    return spread


# ---- the fields of rules ----


def _networks(remotes: Iterable[str]) -> list[Network]:
    """The fewest prefixes that hold these addresses and no other."""
    return list(collapse_addresses(ip_network(remote) for remote in remotes))  # type: ignore[type-var]


def _ranges(cells: Iterable[Cell]) -> list[tuple[Cell, Cell]]:
    """Ports as ranges with both ends within; all else as it is."""
    ranges: list[tuple[Cell, Cell]] = []
    for cell in sorted(cells, key=_cell_order):
        last = ranges[-1][1] if ranges else None
        if isinstance(cell, int) and isinstance(last, int) and cell == last + 1:
            ranges[-1] = (ranges[-1][0], cell)
        else:
            ranges.append((cell, cell))
    return ranges


def _cell_order(cell: Cell) -> tuple[int, ...]:
    return () if cell is None else cell if isinstance(cell, tuple) else (cell,)


def _within(low: Cell, high: Cell) -> Iterable[Cell]:
    return range(low, high + 1) if isinstance(low, int) and isinstance(high, int) else (low,)


def _selector(ranges: list[tuple[Cell, Cell]]) -> dict[str, Any]:
    low, _ = ranges[0]
    if low is None:
        return {}
    if isinstance(low, tuple):
        return {"icmp_type": low[0], "icmp_code": low[1]}
    return {"multiport": ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ranges)}


class _AddressGroups:
    """The address groups of learned rules, one for each set of addresses."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self._ids: dict[tuple[Network, ...], str] = {}

    def group_of(self, networks: list[Network], instance: str) -> str:
        """The id of the group with these prefixes, which is made for `instance` where there is none yet."""
        key = tuple(networks)
        if key not in self._ids:
            self._ids[key] = f"{instance}-hosts-{len(self.made) + 1}"
            ip_set = [str(n.network_address) if n.num_addresses == 1 else str(n) for n in networks]
            self.made.append({"id": self._ids[key], "ip_version": networks[0].version, "ip_set": ip_set})
        return self._ids[key]
