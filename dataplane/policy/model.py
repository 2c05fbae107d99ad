"""The policy: a document (SPEC 2) in which everything fits together, and nothing is left out.

`Policy.load` and `Policy.parse` read one and report every mistake with its place. Built by other means
(`model_validate`, or the constructors) a model is checked just as strictly, and pydantic's ValidationError tells what
is wrong. What a Policy holds is complete: every rule has an id, every instance a security group (SPEC 3.4).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

from pydantic import model_validator

from dataplane.policy import consistency, defaults
from dataplane.policy.document import Document
from dataplane.policy.mistakes import Conflict


class Policy(Document):
    """A whole policy: who is protected, and by which rules."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        # Frozen against everybody else: this value is still being made.
        self.__dict__.update(defaults.completed(self))
        return self

    def conflicts(self) -> Iterable[Conflict]:
        return consistency.document_conflicts(self)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a YAML or JSON file, or standard input for ``-``. Raises PolicyError with every mistake in it."""
        from dataplane.policy.reading.load import load

        return load(cls, path)

    @classmethod
    def parse(cls, text: str | bytes, name: str = "<policy>") -> Self:
        """Reads a YAML or JSON text; `name` stands for the file in messages. Raises PolicyError with every mistake."""
        from dataplane.policy.reading.load import parse

        return parse(cls, text, name)
