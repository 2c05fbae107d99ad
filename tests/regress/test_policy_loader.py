"""Faults of the loader that were found, by fuzzing or otherwise: one named case each."""

from __future__ import annotations

from itertools import count

import pytest

from dataplane.policy import Policy, PolicyError
from dataplane.policy.mistakes import COMPARED_MAX, nearest


@pytest.mark.parametrize(
    ("text", "place"), [("region: [[# comment", "1:20"), ("region: [a,\n# comment", "2:10"), ("a: [\r\n#", "2:2")]
)
def test_a_comment_in_the_last_line_leaves_mistakes_inside_the_document(text: str, place: str) -> None:
    """libyaml ends a text that ends in a comment, without a line feed, one line too far (fuzz_policy)."""
    with pytest.raises(PolicyError, match=f"^p:{place}: the YAML cannot be read"):
        Policy.parse(text, "p")


def test_thousands_of_unknown_names_are_told_in_bounded_time() -> None:
    """Each unknown group of a document was compared with every known one: six thousand of both took a minute."""
    names = (f"group-{n}" for n in count())
    assert nearest("group-x", names) is not None
    assert next(names) == f"group-{COMPARED_MAX}"
