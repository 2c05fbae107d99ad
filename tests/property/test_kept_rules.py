"""Whether rules of a group differ (SPEC 5.2, 5.5) does not depend on which of them are the same objects.

A change of one rule leaves the others as they are, and those with which both lists begin and end are not looked at; a
document that is read again has none in common.
"""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataplane.conntrack import _rules_differ
from dataplane.policy.document import SecurityGroup
from dataplane.policy.rule import GeneratedId, SecurityGroupRule

#: A rule's id, None for one that tells its place, and its port: with two of them, many rules do the same.
Written = tuple[str | None, str]
PORTS = st.sampled_from(["1", "2"])


def lists(names: str, most: int) -> st.SearchStrategy[list[Written]]:
    """Rules with ids that are used once, or none."""
    ids = st.permutations([*names, None, None, None])
    return st.tuples(ids, st.lists(PORTS, max_size=most)).map(lambda drawn: list(zip(*drawn, strict=False)))


def rules(written: list[Written]) -> tuple[SecurityGroupRule, ...]:
    """New objects."""
    return tuple(
        SecurityGroupRule.model_construct(
            id=GeneratedId(f"rule-{place}") if name is None else name,
            direction="ingress",
            protocol="tcp",
            multiport=port,
        )
        for place, (name, port) in enumerate(written)
    )


def differ(old: tuple[SecurityGroupRule, ...], new: tuple[SecurityGroupRule, ...]) -> bool:
    """What is said of two groups with these rules."""
    before, now = (SecurityGroup.model_construct(id="g", security_group_rules=rules) for rules in (old, new))
    return _rules_differ(before, now)


@settings(max_examples=300, deadline=None)
@given(lists("pq", 3), lists("ab", 3), lists("bc", 3), lists("rs", 3))
# One name is gone, another has come, and a rule without a name does what both do: it may have got the name.
@example([(None, "1")], [("a", "1")], [("b", "1")], [])
@example([], [("a", "1")], [("b", "1")], [])
def test_rules_that_are_kept_differ_as_those_that_are_read_again(
    begin: list[Written], old: list[Written], new: list[Written], end: list[Written]
) -> None:
    """What is between a common begin and a common end is replaced."""
    first, last = rules(begin), rules(end)
    kept = differ((*first, *rules(old), *last), (*first, *rules(new), *last))
    again = differ((*rules(begin), *rules(old), *rules(end)), (*rules(begin), *rules(new), *rules(end)))
    assert kept == again
