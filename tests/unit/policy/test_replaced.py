"""What a list has of another is seen by identity (SPEC 5.1: only what a change touches is another)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dataplane.policy.replaced import Replaced, come, gone, replaced_parts

STEPS = st.lists(st.tuples(st.sampled_from(["add", "replace", "remove", "move"]), st.integers(0, 99)), max_size=30)


def others(n: int) -> list[object]:
    return [object() for _ in range(n)]


def changed(before: list[object], steps: list[tuple[str, int]]) -> list[object]:
    now = list(before)
    for kind, where in steps:
        place = where % (len(now) + 1)
        if kind == "add":
            now.insert(place, object())
        elif place < len(now):
            item = now.pop(place)
            if kind == "replace":
                now.insert(place, object())
            elif kind == "move":
                now.insert(where * 7 % (len(now) + 1), item)
    return now


@given(st.integers(0, 60), STEPS)
def test_what_is_not_replaced_is_the_same(n: int, steps: list[tuple[str, int]]) -> None:
    before = others(n)
    now = changed(before, steps)
    parts = replaced_parts(before, now)
    made: list[object] = []
    done = 0
    for part in parts:
        assert part.first >= done
        assert part.last > part.first or part.last_now > part.first_now
        made += before[done : part.first]
        assert len(made) == part.first_now
        made += now[part.first_now : part.last_now]
        done = part.last
    made += before[done:]
    assert len(made) == len(now)
    assert all(a is b for a, b in zip(made, now, strict=True))
    # Each step leaves all others where they were among each other; so few may be told place by place.
    assert max(len(gone(before, parts)), len(come(now, parts))) <= max(len(steps), 16)


def test_few_of_many_all_over_a_list_are_told_alone() -> None:
    before = others(1000)
    now = list(before)
    for place in (3, 4, 500, 999):
        now[place] = object()
    assert replaced_parts(before, now) == ((3, 5, 3, 5), (500, 501, 500, 501), (999, 1000, 999, 1000))
    del now[100]
    now.insert(700, object())
    now.append(object())
    assert replaced_parts(before, now) == (
        Replaced(3, 5, 3, 5),
        Replaced(100, 101, 100, 100),
        Replaced(500, 501, 499, 500),
        Replaced(701, 701, 700, 701),
        Replaced(999, 1000, 999, 1001),
    )


def test_one_that_moved_is_all_that_is_different() -> None:
    before = others(1000)
    now = [*before[1:], before[0]]
    assert replaced_parts(before, now) == (Replaced(0, 1, 0, 0), Replaced(1000, 1000, 999, 1000))
    assert replaced_parts(before, list(before)) == ()
