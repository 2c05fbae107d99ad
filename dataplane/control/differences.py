"""What is different between two policies, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from dataplane.policy import replaced
from dataplane.policy.structural_sharing import rules_between
from dataplane.terminal import counted

if TYPE_CHECKING:
    from dataplane.policy import Policy
    from dataplane.policy.rule import SecurityGroupRule

_WORDS_MAX = 2000
#: So many values of a list are told, and of a longer one only what changed.
_LIST_MAX = 100


def differences(before: Policy, after: Policy) -> Iterator[str]:
    """What is different, a sentence each: rules, groups, memberships, and all other parts of the document."""
    return (sentence for _, sentence in _differences(before, after))


def first_differences(before: Policy, after: Policy, most: int) -> list[str]:
    """The first of the differences, as the log has them."""
    return [shortened(words) for words in islice(differences(before, after), most)]


def some_differences(before: Policy, after: Policy, most: int) -> tuple[list[str], int]:
    """The first of the differences, as the log has them, and how many there are."""
    found = differences(before, after)
    told = [shortened(words) for words in islice(found, most)]
    return told, len(told) + sum(1 for _ in found)


def different(before: Policy, after: Policy) -> set[str]:
    """The parts of the document that are different, by kind and id, such as ``rule A01``."""
    return {part for part, _ in _differences(before, after)}


def _differences(before: Policy, after: Policy) -> Iterator[tuple[str, str]]:
    """The parts that are different, each with its sentence."""
    yield from _rules(before, after)
    for kind, section in (
        ("security group", "security_groups"),
        ("address group", "address_groups"),
        ("instance", "instances"),
        ("load balancer", "load_balancers"),
        ("uplink", "uplinks"),
    ):
        was_there, is_there = replaced.different(getattr(before, section), getattr(after, section))
        yield from _parts(kind, _by_id(was_there), _by_id(is_there))
    for name in ("region", "conntrack"):
        was, now = getattr(before, name, None), getattr(after, name, None)
        if was != now:
            yield name, f"{name} changed: {_fields(_values(now), _values(was))}"


def _by_id(found: Iterable[Any]) -> dict[str, Any]:
    return {getattr(part, "id", None) or part.interface: part for part in found}


def _rules(before: Policy, after: Policy) -> Iterator[tuple[str, str]]:
    was, now = rules_between(before, after)
    for rule_id, (group, rule) in now.items():
        if rule_id not in was:
            yield f"rule {rule_id}", f"rule {rule_id} added to security group {group.id}: {_rule_words(rule)}"
        elif was[rule_id][1] != rule or was[rule_id][0].id != group.id:
            old_group, old = was[rule_id]
            moved = f", moved from security group {old_group.id}" if old_group.id != group.id else ""
            yield (
                f"rule {rule_id}",
                f"rule {rule_id} of security group {group.id} updated{moved}: {_rule_words(rule)}; before:"
                f" {_rule_words(old)}",
            )
    for rule_id, (group, rule) in was.items():
        if rule_id not in now:
            yield f"rule {rule_id}", f"rule {rule_id} deleted from security group {group.id}: {_rule_words(rule)}"


def _rule_words(rule: SecurityGroupRule) -> str:
    """All fields of a rule that say something, in words."""
    return _fields({name: value for name, value in rule.model_dump(mode="json").items() if name != "id"})


def _parts(kind: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, part in now.items():
        old = was.get(name)
        if old is None:
            yield f"{kind} {name}", f"{kind} {name} added: {_fields(_values(part), rules=len(_rules_of(part)))}"
        elif old is not part and (values := _values(part)) != (before := _values(old)):
            yield f"{kind} {name}", f"{kind} {name} changed: {_fields(values, before)}"
    for name, part in was.items():
        if name not in now:
            yield f"{kind} {name}", f"{kind} {name} removed: {_fields(_values(part))}"


def _values(part: Any) -> dict[str, Any]:
    """The fields of a part of a document; rules are told by themselves."""
    if not hasattr(part, "model_dump"):
        return {"value": part}
    values: dict[str, Any] = part.model_dump(mode="json", exclude={"id", "security_group_rules"})
    return values


def _rules_of(part: Any) -> Sequence[Any]:
    """The rules of a security group; none of another part."""
    rules: Sequence[Any] = getattr(part, "security_group_rules", ())
    return rules


def _fields(values: Mapping[str, Any], before: Mapping[str, Any] | None = None, *, rules: int = 0) -> str:
    """Fields in words; where there is a value of before, those that differ, from what to what. `rules` are counted."""
    words = [counted(rules, "rule")] if rules else []
    for name, value in values.items():
        if before is None:
            if value not in (None, [], {}, ""):
                words.append(f"{name} {_word(value)}")
        elif before.get(name) != value:
            words.append(f"{name} {_changed(before.get(name), value)}")
    return ", ".join(words) or "nothing more"


def _changed(old: Any, new: Any) -> str:
    """From what to what; of long lists of texts what is gone and what is new."""
    lists = [value for value in (old, new) if isinstance(value, list)]
    if not any(len(value) > _LIST_MAX for value in lists) or not all(isinstance(x, str) for v in lists for x in v):
        return f"from {_word(old)} to {_word(new)}"
    before, now = dict.fromkeys(old or ()), dict.fromkeys(new or ())
    gone, come = [text for text in before if text not in now], [text for text in now if text not in before]
    if not gone and not come:
        return f"of {len(old):,} in another order"
    return f"of {len(old or ()):,} without {_word(gone)} and with {_word(come)}"


def _word(value: Any) -> str:
    match value:
        case None | []:
            return "none"
        case bool():
            return "true" if value else "false"
        case list():
            more = f" and {len(value) - _LIST_MAX:,} more" if len(value) > _LIST_MAX else ""
            return f"[{', '.join(map(_word, value[:_LIST_MAX]))}{more}]"
        case dict():
            return f"{{{', '.join(f'{name} {_word(part)}' for name, part in value.items() if part is not None)}}}"
    return str(value)


def shortened(words: str) -> str:
    """Words that are told of, cut where they are very long."""
    return words if len(words) <= _WORDS_MAX else f"{words[:_WORDS_MAX]}... ({len(words):,} characters)"
