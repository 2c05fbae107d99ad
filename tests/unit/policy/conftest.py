"""Documents in, mistakes out."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent

import pytest

from dataplane.policy import Policy, PolicyError

MistakesOf = Callable[[str], list[str]]


@pytest.fixture
def mistakes_of() -> MistakesOf:
    """The mistakes of a document that is not valid, as people read them, without the file's name: ``line:column: message``."""

    def mistakes(text: str) -> list[str]:
        with pytest.raises(PolicyError) as caught:
            Policy.parse(dedent(text), "policy.yaml")
        lines = str(caught.value).splitlines()
        assert len(lines) == len(caught.value.mistakes)
        assert all(line.startswith("policy.yaml:") for line in lines)
        return [line.removeprefix("policy.yaml:") for line in lines]

    return mistakes
