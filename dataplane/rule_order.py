"""The rules of an ordered list of groups, of one direction and family, in the order in which they are tried (SPEC 3.1),
as the arrays that a rule table is made from.

The order is: groups by their place in the list, within a group by priority, deny before allow, and then as written.
A change of some rules makes the next order from the one before: what it does not touch is shared, or copied as memory,
and not looked at (`rule_changes.py`). Numbers, places and all that is in an order never change; what names addresses
and ports (`Fields`) is only added to, and shared by the orders that come from each other, until too much in it is of
rules that are gone.
"""

from __future__ import annotations

import socket
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain
from operator import itemgetter
from typing import TYPE_CHECKING

from dataplane._core import ffi
from dataplane.policy.selectors import Selector, selectors
from dataplane.rule_changes import COLUMNS, Added, OrderedRules, RuleChanges

if TYPE_CHECKING:
    from dataplane.policy.document import SecurityGroup
    from dataplane.policy.replaced import Replaced
    from dataplane.policy.rule import SecurityGroupRule

_ANY = 0xFFFFFFFF  # DP_REMOTE_ANY in an unsigned array
PREFIX_SIZE = ffi.sizeof("struct dp_prefix")
#: More places than one group's rules have.
_PLACES = 1024
#: An order is made anew where a change is of more rules than this part of all, or where so many are gone since.
_PART, _CHANGED_MIN = 8, 64
#: An order has changes beside its arrays where these have so many rules, and as long as the changes are no more than so
#: many: those of a few rules cost no more to make anew, with the table.
_BASE_MIN, _BESIDE_MOST = 4096, 256
#: Where so many rules come, those of the whole group are told where they are written.
_LOOKED_UP_MOST = 32

#: A rule's remote: its prefix as written, or else its security group and its address group.
Remote = str | tuple[str | None, str | None]
_NO_REMOTE: Remote = (None, None)

#: What a table needs of a rule: the place at which it is tried, its names (its id and its group's), its selectors, its
#: remote, and whether it allows.
WrittenRule = tuple[int, tuple[str, str], tuple[Selector, ...], Remote, bool]

#: (direction, ethertype)
Kind = tuple[str, str]

#: What follows the address in a `struct dp_prefix`, by family and by length as written.
TAILS = {
    family: {str(bits): bytes(16 - size) + bits.to_bytes(4, "little") for bits in range(8 * size + 1)}
    for family, size in ((4, 4), (6, 16))
}


@dataclass(frozen=True, slots=True)
class Lookups:
    """What is known of the policy that an order is made for: the numbers of rules by their names, and the addresses
    that a security group or an address group stands for now, as `struct dp_prefix` of a family, and the places of rules
    in their groups, from 0, by their numbers: `written` of one, `all_written` of any in a group, for many of them.
    """

    numbers: Callable[[Sequence[tuple[str, str]]], list[int]]
    addresses: Callable[[str | None, str | None, int], bytes]
    written: Callable[[int], int]
    all_written: Callable[[SecurityGroup], Callable[[int], int]]

    def number(self, rule: SecurityGroupRule, group: SecurityGroup) -> int:
        """The number of one rule."""
        return self.numbers([(rule.id, group.id)])[0]


def written_rules(groups: Iterable[SecurityGroup]) -> dict[Kind, list[WrittenRule]]:
    """The enabled rules of an ordered list of groups as written, by (direction, ethertype); pairs without any are left
    out.

    A smaller place is tried first, and what has the same as written: by group, priority, and deny before allow
    (SPEC 3.1).
    """
    written: dict[Kind, list[WrittenRule]] = {}
    for number, group in enumerate(groups):
        for rule in group.security_group_rules:
            if rule.enabled:
                row, table = _row(rule, group.id, number), (rule.direction, rule.ethertype)
                if table in written:
                    written[table].append(row)
                else:
                    written[table] = [row]
    return written


def _place(rule: SecurityGroupRule, number: int) -> int:
    return number * _PLACES + 2 * rule.priority + (rule.action == "allow")


def _row(rule: SecurityGroupRule, group: str, number: int) -> WrittenRule:
    allow = rule.action == "allow"
    # As _place says, without a call for each of many.
    place = number * _PLACES + 2 * rule.priority + allow
    remote = rule.remote_ip_prefix or (rule.remote_group_id, rule.remote_address_group_id)
    selected = selectors(rule.protocol, rule.multiport, rule.icmp_type, rule.icmp_code)
    return place, (rule.id, group), selected, remote, allow


class Fields:
    """Remotes as `struct dp_remote` with their `struct dp_prefix`, and `struct dp_selector`, that rules refer to."""

    def __init__(self, family: int) -> None:
        self.family = family
        self.remotes, self.prefixes, self.selectors = array("I"), bytearray(), array("I")
        self._kind = socket.AF_INET if family == 4 else socket.AF_INET6
        self._numbers: dict[Remote, int] = {_NO_REMOTE: _ANY}

    def remote_numbers(self, named: Sequence[Remote], lookups: Lookups) -> list[int]:
        """The number of each rule's remote."""
        numbers, blobs = self._numbers, []
        new: dict[Remote, int] = {}
        for remote in named:
            if remote not in numbers and remote not in new:
                new[remote] = len(self.remotes) // 2 + len(new)
                if isinstance(remote, str):
                    address, _, bits = remote.partition("/")
                    blobs.append(socket.inet_pton(self._kind, address) + TAILS[self.family][bits])
                else:
                    blobs.append(lookups.addresses(*remote, self.family))
        if blobs:
            counts = [len(blob) // PREFIX_SIZE for blob in blobs]
            first = len(self.prefixes) // PREFIX_SIZE
            added = array("I", bytes(len(blobs) * 8))
            added[::2] = array("I", accumulate(counts[:-1], initial=first))
            added[1::2] = array("I", counts)
            self.prefixes += b"".join(blobs)
            self.remotes += added
            # At last: orders that share these go on where this one could not be made.
            numbers.update(new)
        return list(map(numbers.__getitem__, named))

    def first_selectors(self, selected: Sequence[tuple[Selector, ...]]) -> list[int]:
        """Where each rule's selectors begin."""
        first = list(accumulate(map(len, selected), initial=len(self.selectors) // 2))
        self.selectors += array("I", chain.from_iterable(chain.from_iterable(selected)))
        return first[:-1]


class RuleOrder:
    """Some rules in the order in which they are tried.

    An order is based on arrays of rules, and where these are many has some changes beside them: the positions in
    `removed` are of rules that it does not have, and `added` are the others that it has. A `plain` order has none.
    """

    def __init__(
        self,
        fields: Fields,
        base: OrderedRules,
        gone: int,
        removed: tuple[int, ...] = (),
        added: tuple[Added, ...] = (),
    ) -> None:
        self.fields, self.base, self.removed, self.added = fields, base, removed, added
        self._gone = gone

    def __len__(self) -> int:
        return len(self.base) - len(self.removed) + len(self.added)

    @property
    def plain(self) -> bool:
        """Whether the rules of `base` are those of the order."""
        return not self.removed and not self.added

    @classmethod
    def of(cls, written: Sequence[WrittenRule], fields: Fields, lookups: Lookups) -> RuleOrder:
        """The order of rules that are written in this one."""
        # A field of all rules at a time costs fewest steps, and going through them as they lie in memory is fastest:
        # what is sorted is numbers.
        places, names, selected, remotes, allowed = zip(*written, strict=True) if written else ((),) * 5
        order = sorted(range(len(places)), key=places.__getitem__)
        columns: tuple[Sequence[int], ...] = (
            lookups.numbers(names),
            fields.remote_numbers(remotes, lookups),
            fields.first_selectors(selected),
            list(map(len, selected)),
            allowed,
        )
        rules = array("I", bytes(4 * COLUMNS * len(written)))
        # One index alone gives no tuple.
        ordered = itemgetter(*order) if len(order) > 1 else tuple
        for field, column in enumerate(columns):
            rules[field::COLUMNS] = array("I", ordered(column))
        return cls(fields, OrderedRules(array("I", ordered(places)), rules[::COLUMNS], rules), 0)

    def following(
        self, kind: Kind, number: int, before: SecurityGroup, group: SecurityGroup, lookups: Lookups
    ) -> RuleOrder | None:
        """The order where a group, the list's `number`th, has other rules than before; None where it is better made
        anew.
        """
        parts, rules = group.rules_replaced(before), group.security_group_rules
        others = sum(part.last - part.first + part.last_now - part.first_now for part in parts)
        if others > max(_CHANGED_MIN, len(rules) // _PART):
            return None
        removed, added, stays = _changed(kind, number, before, group, parts)
        if not removed and not added and not stays:
            return self
        gone, most = self._gone + len(removed) + len(stays), max(_CHANGED_MIN, len(self) // _PART)
        if gone > most or len(removed) + len(added) + 2 * len(stays) > most:
            return None
        changes = RuleChanges(self.base, self.removed, self.added)
        for rule in removed:
            changes.remove(_place(rule, number), lookups.number(rule, group))
        come = [index for _, index in stays] + added
        columns = dict(zip(come, self._columns([_row(rules[i], group.id, number) for i in come], lookups), strict=True))
        for rule, index in stays:
            place = _place(rule, number)
            spot = changes.remove(place, lookups.number(rule, group))
            changes.insert(spot, place, columns[index])
        written = lookups.all_written(group) if len(added) > _LOOKED_UP_MOST else lookups.written
        # From here on there is none that was there before, and none that came already.
        end = parts[-1].first_now if parts[-1].last_now == len(rules) else len(rules)
        end = max(end, stays[-1][1]) if stays else end
        for index in added:
            place = _place(rules[index], number)
            # What has the same place stands as written.
            spot = changes.spot(place, _is_never_behind if index >= end else partial(_is_behind, written, index))
            changes.insert(spot, place, columns[index])
        if len(self.base) < _BASE_MIN or len(changes.removed) + len(changes.added) > _BESIDE_MOST:
            return RuleOrder(self.fields, changes.merged(), gone)
        return RuleOrder(self.fields, self.base, gone, tuple(changes.removed), tuple(changes.added))

    def _columns(self, rows: Sequence[WrittenRule], lookups: Lookups) -> Iterable[tuple[int, ...]]:
        """Rules as `struct dp_rule` each."""
        _, names, selected, remotes, allowed = zip(*rows, strict=True) if rows else ((),) * 5
        return zip(
            lookups.numbers(names),
            self.fields.remote_numbers(remotes, lookups),
            self.fields.first_selectors(selected),
            map(len, selected),
            allowed,
            strict=True,
        )

    def merged(self) -> RuleOrder:
        """The same order as a plain one."""
        if self.plain:
            return self
        return RuleOrder(self.fields, RuleChanges(self.base, self.removed, self.added).merged(), self._gone)


def _changed(
    kind: Kind, number: int, before: SecurityGroup, group: SecurityGroup, parts: Iterable[Replaced]
) -> tuple[list[SecurityGroupRule], list[int], list[tuple[SecurityGroupRule, int]]]:
    """The rules of a kind that are gone; the places in the group of those that came; and the rules that are tried
    where they were and yet are others, as most that are changed, with their places in the group.
    """
    gone: list[SecurityGroupRule] = []
    come: list[int] = []
    stays: list[tuple[SecurityGroupRule, int]] = []
    rules = group.security_group_rules
    for part in parts:
        was, now = before.security_group_rules[part.first : part.last], range(part.first_now, part.last_now)
        if len(was) == len(now):
            for rule, index in zip(was, now, strict=True):
                is_, will_be = _is(rule, kind), _is(rules[index], kind)
                # With its own name none of the others is taken for it.
                if (
                    is_
                    and will_be
                    and rule.id == rules[index].id
                    and _place(rule, number) == _place(rules[index], number)
                ):
                    stays.append((rule, index))
                    continue
                if is_:
                    gone.append(rule)
                if will_be:
                    come.append(index)
        else:
            gone.extend(rule for rule in was if _is(rule, kind))
            come.extend(index for index in now if _is(rules[index], kind))
    return gone, come, stays


def _is_behind(written: Callable[[int], int], index: int, number: int) -> bool:
    """Whether a rule of the same group is written behind a place."""
    return written(number) > index


def _is_never_behind(number: int) -> bool:
    return False


def _is(rule: SecurityGroupRule, kind: Kind) -> bool:
    return rule.enabled and (rule.direction, rule.ethertype) == kind
