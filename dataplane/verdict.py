"""The words of an answer (SPEC 7), taken from the C enumerations, and one packet's verdict as a value."""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain, compress, count, zip_longest
from typing import Any

from dataplane._core import ffi, lib
from dataplane.notebook import table


def _words(kind: int, count: int) -> tuple[str, ...]:
    return tuple(ffi.string(lib.dp_word(kind, value)).decode() for value in range(count))


VERDICT_WORDS = _words(lib.DP_WORD_VERDICT, lib.DP_VERDICTS)
DIRECTION_WORDS = _words(lib.DP_WORD_DIRECTION, lib.DP_DIRECTIONS)
ORIGIN_WORDS = _words(lib.DP_WORD_ORIGIN, lib.DP_ORIGINS)
STATE_WORDS = _words(lib.DP_WORD_STATE, lib.DP_STATES)
REASON_WORDS = _words(lib.DP_WORD_REASON, lib.DP_REASONS)
CAUSE_WORDS = _words(lib.DP_WORD_CAUSE, lib.DP_CAUSES)
CONN_STATE_WORDS = _words(lib.DP_WORD_CONN_STATE, lib.DP_CONN_STATES)
LINK_WORDS = _words(lib.DP_WORD_LINK, lib.DP_LINKS)
FLOOD_WORDS = _words(lib.DP_WORD_FLOOD, lib.DP_FLOODS)
FLOW_END_WORDS = _words(lib.DP_WORD_FLOW_END, lib.DP_FLOW_ENDS)
SHADOW_WORDS = _words(lib.DP_WORD_SHADOW, lib.DP_SHADOW_OUTCOMES)
RESTORED_WORDS = _words(lib.DP_WORD_RESTORED, lib.DP_RESTORED_OUTCOMES)
FLOW_LOSS_WORDS = _words(lib.DP_WORD_FLOW_LOSS, lib.DP_FLOW_LOSSES)


class Names:
    """What zones and rule numbers are called: zone -> instance id, rule number -> (rule id, security group id).

    A name keeps its number until that is taken back: a connection goes on under the name of the rule that admitted it
    after that rule is gone (SPEC 5.2). Rule number 0 stands for no rule. Numbers that nobody has are called "" and
    None; `version` changes when any number is called something else.
    """

    def __init__(self) -> None:
        self.instances: list[str] = []
        self.rules: list[tuple[str, str] | None] = [None]
        self.version = 0
        self._zones: dict[str, int] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._balancers: dict[str, int] = {}
        # Numbers that were taken back, the lowest last.
        self._free_zones: list[int] = []
        self._free_rules: list[int] = []
        # What `zones_of` said last.
        self._zones_of: tuple[frozenset[str], tuple[list[str], array[int]]] | None = None

    def copy(self) -> Names:
        """The same names; numbers that either gives out from now on are its own."""
        other = Names()
        other.instances, other.rules, other.version = self.instances.copy(), self.rules.copy(), self.version
        other._zones, other._numbers = self._zones.copy(), self._numbers.copy()
        other._balancers = self._balancers.copy()
        other._free_zones, other._free_rules = self._free_zones.copy(), self._free_rules.copy()
        return other

    def zone(self, instance: str) -> int:
        """The zone of an instance: one that nobody has for an instance that has none yet."""
        zone = self._zones.get(instance)
        if zone is None:
            if self._free_zones:
                zone = self._free_zones.pop()
                self.instances[zone] = instance
            else:
                zone = len(self.instances)
                self.instances.append(instance)
            self._zones[instance] = zone
            self._zones_of = None
            self.version += 1
        return zone

    def known_zone(self, instance: str) -> int | None:
        """The zone of an instance, or None."""
        return self._zones.get(instance)

    def zones_of(self, instances: frozenset[str]) -> tuple[list[str], array[int]]:
        """Those of instances that have a zone, and their zones; one change after the other asks for the same."""
        if self._zones_of and self._zones_of[0] is instances:
            return self._zones_of[1]
        known = [instance for instance in instances if instance in self._zones]
        found = known, array("I", map(self._zones.__getitem__, known))
        self._zones_of = instances, found
        return found

    def balancer(self, balancer: str) -> int:
        """The number of a load balancer, from 1: a free one where it has none yet."""
        number = self._balancers.get(balancer)
        if number is None:
            used = set(self._balancers.values())
            number = self._balancers[balancer] = next(n for n in count(1) if n not in used)
        return number

    def keep_balancers(self, balancers: Iterable[str]) -> None:
        """Takes back the numbers of all other load balancers.

        Only endpoints and ports refer to them, and these are replaced together by the change that was just made.
        """
        kept = set(balancers)
        self._balancers = {name: number for name, number in self._balancers.items() if name in kept}

    def rule_number(self, rule: str, group: str) -> int:
        """The number of a rule: one that nobody has for a rule that has none yet."""
        return self.rule_numbers([(rule, group)])[0]

    def known_rule(self, rule: str, group: str) -> int | None:
        """The number of a rule, or None."""
        return self._numbers.get((rule, group))

    def rule_numbers(self, rules: Sequence[tuple[str, str]]) -> list[int]:
        """The numbers of many rules, given as (rule id, security group id); as `rule_number`, and faster."""
        try:
            return list(map(self._numbers.__getitem__, rules))
        except KeyError:
            self._number_new(rules)
            return list(map(self._numbers.__getitem__, rules))

    def _number_new(self, rules: Iterable[tuple[str, str]]) -> None:
        named = [rule for rule in dict.fromkeys(rules) if rule not in self._numbers]
        self.version += 1
        again = [self._free_rules.pop() for _ in named[: len(self._free_rules)]]
        for number, rule in zip(again, named, strict=False):
            self.rules[number] = rule
        self._numbers.update(zip(named, chain(again, count(len(self.rules))), strict=False))
        self.rules.extend(named[len(again) :])

    # ---- numbers that come back ----

    def count(self) -> tuple[int, int]:
        """How many zones and rule numbers have a name."""
        return len(self._zones), len(self._numbers)

    def retired(self, instances: Container[str], rules: Container[tuple[str, str]]) -> tuple[bytearray, bytearray]:
        """Which zones and which rule numbers have a name that is not among these: 1 at the number's place, else 0."""
        zones = bytearray(name != "" and name not in instances for name in self.instances)
        numbers = bytearray(name is not None and name not in rules for name in self.rules)
        return zones, numbers

    def take_back(self, zones: bytes | bytearray, rules: bytes | bytearray) -> None:
        """Takes back the numbers at whose place there is a 1; nothing may refer to them any more."""
        self._zones_of = None
        for zone in compress(range(len(zones)), zones):
            del self._zones[self.instances[zone]]
            self.instances[zone] = ""
            self._free_zones.append(zone)
        for number in compress(range(len(rules)), rules):
            named = self.rules[number]
            assert named is not None
            del self._numbers[named]
            self.rules[number] = None
            self._free_rules.append(number)
        self._free_zones.sort(reverse=True)
        self._free_rules.sort(reverse=True)
        self.version += 1


@dataclass(frozen=True, slots=True)
class Check:
    """One packet, seen at one instance, in one direction (SPEC 1); the words are those of SPEC 7.

    `cause` says more of an invalid or malformed packet, such as ``tcp-window``; None otherwise.
    """

    instance: str
    direction: str
    verdict: str
    state: str
    reason: str
    rule: str | None
    security_group: str | None
    connection: str | None
    cause: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Verdict:
    """What one packet met: ``allow``, ``deny`` or ``bypass``, and its checks, egress before ingress.

    A later fragment that came before its datagram's first is ``waiting`` and has no checks yet (SPEC 4.6); its verdict
    is among `Plane.resolved` once it is known. `time_ns` is the packet's time in nanoseconds, `length` its bytes on
    the wire.
    """

    verdict: str
    time_ns: int
    length: int
    checks: tuple[Check, ...]

    @property
    def allowed(self) -> bool:
        """True unless the packet was denied."""
        return self.verdict != "deny"

    def __repr__(self) -> str:
        return f"<Verdict {'; '.join(_met(self).splitlines())}>"

    def _repr_html_(self) -> str:
        words = [field.name for field in fields(Check)]
        rows = ([getattr(check, word) for word in words] for check in self.checks)
        return table(_met(self).partition("\n")[0], words, rows)


def comment_of(verdict: Verdict, opened_by: Sequence[int] = ()) -> str:
    """What a packet met, for the comment of a capture (SPEC 8.1): ``deny no-rule-matched``, then a line for each check.

    `opened_by` are the packets that opened the connections of its checks, 0 where none is known. The word deny is in
    the comments of denied packets and in no other: in the names of another packet's its first letter is escaped.
    """
    if verdict.verdict != "deny":
        verdict = replace(verdict, checks=tuple(map(_names_without_deny, verdict.checks)))
    return _met(verdict, opened_by)


def _names_without_deny(check: Check) -> Check:
    def told(name: str | None) -> str | None:
        return name and name.replace("deny", r"\u0064eny")

    instance = check.instance.replace("deny", r"\u0064eny")
    return replace(check, instance=instance, rule=told(check.rule), security_group=told(check.security_group))


def _met(verdict: Verdict, opened_by: Sequence[int] = ()) -> str:
    words = [verdict.verdict]
    if verdict.checks:
        words.append(verdict.checks[-1].reason)
    elif verdict.verdict == "deny":
        # Nobody is asked about what comes from outside under the name of who is here.
        words.append("invalid")
    lines = [" ".join(words)]
    for check, packet in zip_longest(verdict.checks, opened_by[: len(verdict.checks)]):
        named = (("rule", check.rule), ("group", check.security_group), ("connection", check.connection))
        words = [check.direction, f"{check.instance}:", check.verdict, check.state, check.reason, check.cause or ""]
        words += [f"{name}={value}" for name, value in (*named, ("opened-by", packet)) if value]
        lines.append(" ".join(word for word in words if word))
    return "\n".join(lines)


def check_of(check: Any, names: Names) -> Check:
    """A `struct dp_check` as a value."""
    named = names.rules[check.rule]
    return Check(
        instance=names.instances[check.zone],
        direction=DIRECTION_WORDS[check.direction],
        verdict=VERDICT_WORDS[check.verdict],
        state=STATE_WORDS[check.state],
        reason=REASON_WORDS[check.reason],
        rule=named[0] if named else None,
        security_group=named[1] if named else None,
        connection=ORIGIN_WORDS[check.origin] if check.origin else None,
        cause=CAUSE_WORDS[check.cause] if check.cause else None,
    )


def verdict_of(record: Any, names: Names) -> Verdict:
    """A `struct dp_record` as a value."""
    return Verdict(
        verdict="waiting" if record.verdict == lib.DP_WAITING else VERDICT_WORDS[record.verdict],
        time_ns=record.time_ns,
        length=record.length,
        checks=tuple(check_of(record.check[i], names) for i in range(record.checks)),
    )
