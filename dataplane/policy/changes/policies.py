"""Another policy as a whole."""

from pathlib import Path

from pydantic import Field

from dataplane.policy.changes.kind import Change
from dataplane.policy.model import Policy
from dataplane.policy.structural_sharing import adopted


class ApplyPolicy(Change):
    """Another policy as a whole, from a file; the difference is what changed."""

    kind = "apply_policy"

    policy: Policy = Field(description="The policy.")
    name: str = Field(default="", description="The file that it was read from.")

    @classmethod
    def of_file(cls, name: str, base: Path) -> "ApplyPolicy":
        """The change to the policy of a file, relative to a folder. Raises PolicyError."""
        return cls(policy=Policy.load(base / name), name=name)

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"apply policy {self.name}".rstrip()

    def made(self, policy: Policy) -> Policy:
        return adopted(policy, self.policy)
