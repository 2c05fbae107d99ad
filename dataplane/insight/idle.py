"""Rules that decide about nothing, or about nothing that would not be decided alike without them (SPEC 8.5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile

from dataplane.insight.packet_sets import Box, Kept, Match, halves, kept, takes_all, touching, walk, whole
from dataplane.insight.rule_sets import BITS, NO_RULE, TABLES, Membership, NumberedRule, Table, Tables

#: Among so few rules each is looked at by itself, whether others before it or behind it leave anything to learn.
_FEW = 512


@dataclass(frozen=True, slots=True)
class Shown:
    """A part of what a rule matches, where, and who takes it: a rule's number, or NO_RULE."""

    membership: Membership
    table: Table
    box: Box
    taker: int


@dataclass(frozen=True, slots=True)
class IdleRule:
    """A rule without which every packet gets the same verdict.

    `decides` tells whether it is the first to match any; `takers` are the rules that take its packets, before it or
    else in its place, and `shown` is an example. Both are empty where no rule ever decides about such packets.
    """

    item: NumberedRule
    decides: bool
    takers: tuple[NumberedRule, ...]
    shown: Shown | None


def idle_rules(tables: Tables) -> Iterator[IdleRule]:
    """The rules that decide nothing, for every instance that has their group; rules without a remote are left out."""
    verdicts = _Verdicts([item.allows for item in tables.rules])
    parts = [(membership, table) for membership in tables.memberships for table in TABLES]
    for membership, table in parts:
        matches = tables.matches(membership, table)
        if not all(verdicts.matters[item.number] for item in matches if item.number >= 0):
            walk(whole(BITS[table[1]]), matches, verdicts.look)
    idle = [item for item in tables.rules if not verdicts.matters[item.number] and tables.remotes(item.rule)]
    reasons = _Reasons(
        {item.number: {} for item in idle if not verdicts.decides[item.number]},
        {item.number: {} for item in idle if verdicts.decides[item.number]},
    )
    for membership, table in parts if idle else ():
        reasons.collect(membership, table, tables.matches(membership, table))
    for item in idle:
        numbers = reasons.shadowed.get(item.number) or reasons.redundant.get(item.number) or {}
        takers = tuple(tables.rules[number] for number in numbers)
        decides = bool(verdicts.decides[item.number])
        yield IdleRule(item, decides, takers, reasons.examples.get(item.number) if takers or decides else None)


@dataclass(slots=True)
class _Verdicts:
    """Of each rule by number: whether it is the first to match some packet, and whether one of these would get
    another verdict without it."""

    allows: list[bool]
    decides: bytearray = field(init=False)
    matters: bytearray = field(init=False)

    def __post_init__(self) -> None:
        self.decides, self.matters = bytearray(len(self.allows)), bytearray(len(self.allows))

    def look(self, box: Box, found: Kept) -> Match | None:
        """Notes what a box shows; a rule of which more can be learnt in it."""
        matches, covering = found
        if not matches:
            return None
        first = matches[0].number
        if covering[0]:
            if first < 0:
                return None
            self.decides[first] = 1
            if len(matches) == 1 or covering[1]:
                if self.allows[first] != (len(matches) > 1 and self.allows[matches[1].number]):
                    self.matters[first] = 1
                return None
        candidates = covering.index(True) + 1 if True in covering else len(matches)
        return next((matches[at] for at in reversed(range(candidates)) if self._unsettled(box, matches, at)), None)

    def _unsettled(self, box: Box, matches: list[Match], place: int) -> bool:
        """Whether a rule may be the first in a box and has not been seen to be, or may matter there at last."""
        item = matches[place]
        if item.number < 0 or self.matters[item.number]:
            return False
        if len(matches) > _FEW:
            return True
        if touching(box, item, matches[:place])[1]:
            return False
        if not self.decides[item.number]:
            return True
        behind, all_taken = touching(box, item, matches[place + 1 :])
        allows = self.allows[item.number]
        return (allows and not all_taken) or any(self.allows[other.number] != allows for other in behind)


@dataclass(slots=True)
class _Reasons:
    """Of the rules that decide nothing, which others take their packets: before them, or in their place.

    Where one of these alone matches all that the rule does, it is named alone; else all that take some of it are.
    `shadowed` and `redundant` have the takers by number, `examples` a part of what each rule matches and its taker.
    """

    shadowed: dict[int, dict[int, None]]
    redundant: dict[int, dict[int, None]]
    examples: dict[int, Shown] = field(default_factory=dict)
    alone: dict[int, set[int]] = field(default_factory=dict)

    def collect(self, membership: Membership, table: Table, matches: list[Match]) -> None:
        """Adds what one table shows."""
        order = {item.number: place for place, item in enumerate(matches)}
        unexplained = [item for item in matches if item.number >= 0 and not self._explained(item.number, order)]
        hidden = [item for item in unexplained if item.number in self.shadowed]
        replaced = {item.number for item in unexplained if item.number in self.redundant}
        if hidden or replaced:
            _Search(self, membership, table, matches, hidden, replaced).run()

    def _explained(self, number: int, order: dict[int, int]) -> bool:
        """Whether a rule that is known to take all packets of this one alone is there too, before it or behind it."""
        place, before = order[number], number in self.shadowed
        return any(other in order and (order[other] < place) == before for other in self.alone.get(number, ()))


class _Search:
    """The search for who takes the packets of `hidden` rules before them, and those of `replaced` ones in their place,
    in one table."""

    def __init__(
        self,
        reasons: _Reasons,
        membership: Membership,
        table: Table,
        matches: list[Match],
        hidden: list[Match],
        replaced: set[int],
    ) -> None:
        self._reasons = reasons
        self._membership, self._table = membership, table
        self._matches, self._hidden = matches, hidden
        self._whole = {item.number: item for item in matches if item.number >= 0}
        self._box = whole(BITS[table[1]])
        self._open = {item.number for item in hidden} | replaced
        self._takers: dict[int, set[int]] = {number: set() for number in self._open}

    def run(self) -> None:
        """Halves the space until nothing is left to learn in any part."""
        stack = [(self._box, kept(self._box, self._matches, 2), self._hidden)]
        while stack and self._open:
            box, found, hidden = stack.pop()
            hidden = [item for item in hidden if item.number in self._open]
            if not found[0]:
                continue
            if found[1][0]:
                self._learn(box, found, hidden)
                hidden = []
            hidden, item = self._unknown(box, found, hidden)
            if item is not None:
                stack += [
                    (part, kept(part, found[0], 2), kept(part, hidden, len(hidden) + 1)[0])
                    for part in reversed(halves(box, *found, item))
                ]
        order = {item.number: place for place, item in enumerate(self._matches)}
        for number in sorted(self._takers):
            into = self._reasons.shadowed if number in self._reasons.shadowed else self._reasons.redundant
            into[number].update(dict.fromkeys(sorted(self._takers[number], key=order.__getitem__)))

    def _learn(self, box: Box, found: Kept, hidden: list[Match]) -> None:
        """Notes who takes what in a box where one rule is the first everywhere."""
        matches, covering = found
        first = matches[0].number
        for item in hidden if first >= 0 else ():
            part = item.within(box)
            if part is not None:
                self._note(item.number, first, part)
        if first in self._open and first in self._reasons.redundant and (len(matches) == 1 or covering[1]):
            self._note(first, matches[1].number if len(matches) > 1 else NO_RULE, box)

    def _note(self, number: int, taker: int, box: Box) -> None:
        examples = self._reasons.examples
        alone = taker >= 0 and takes_all(self._whole[number], self._whole[taker])
        if number not in examples or examples[number].taker < 0 <= taker or alone:
            examples[number] = Shown(self._membership, self._table, box, taker)
        if alone:
            # Nothing more has to be known of it.
            self._takers[number] = {taker}
            self._reasons.alone.setdefault(number, set()).add(taker)
            self._open.discard(number)
        elif taker >= 0:
            self._takers[number].add(taker)

    def _unknown(self, box: Box, found: Kept, hidden: list[Match]) -> tuple[list[Match], Match | None]:
        """The hidden rules that may have takers in a box which are not known, and one that has, replaced or hidden."""
        matches, covering = found
        candidates = matches[: covering.index(True) + 1] if True in covering else matches
        hidden = [item for item in hidden if not self._known(box, item, candidates)]
        if hidden:
            return hidden, hidden[0]
        if covering[:2] != [True, True] and not self._open.isdisjoint(item.number for item in candidates):
            for place, item in enumerate(candidates):
                wanted = item.number in self._open and item.number in self._reasons.redundant
                shown = item.number in self._reasons.examples
                if wanted and not (shown and self._known(box, item, matches[place + 1 :])):
                    return hidden, item
        return hidden, None

    def _known(self, box: Box, item: Match, takers: list[Match]) -> bool:
        """Whether all that may take packets of an item in a box, before it or in its place, are known to do it."""
        known = self._takers[item.number]
        if len(takers) <= _FEW:
            takers = touching(box, item, takewhile(lambda other: other.number != item.number, takers))[0]
        return all(other.number in known or other.number < 0 for other in takers)
