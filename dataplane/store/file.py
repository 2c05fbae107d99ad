"""A policy kept in a file."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from dataplane.atomic import is_replaceable
from dataplane.policy import Policy, PolicyError
from dataplane.policy.mistakes import Mistake
from dataplane.terminal import printable


class PolicyFile:
    """A YAML or JSON file, read anew each time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """The file's name as it was given."""
        return str(self._path)

    @property
    def keeps_changes(self) -> bool:
        """A file is written by people."""
        return False

    def kept_elsewhere(self) -> int | None:
        """A file is read again when that is asked for."""
        return None

    def keeping(self, policy: Policy, now: float) -> AbstractContextManager[None]:
        """Nothing is kept."""
        return nullcontext()

    def close(self) -> None:
        """A file is closed when it was read."""

    def load(self) -> Policy:
        """The policy in the file. Raises PolicyError with every mistake."""
        # A FIFO or a device may never end, and who loads a policy keeps others waiting.
        if not is_replaceable(self._path):
            text = "it is no regular file: put the policy there"
            raise PolicyError([Mistake(printable(self.name), None, None, "", text)])
        return Policy.load(self._path)
