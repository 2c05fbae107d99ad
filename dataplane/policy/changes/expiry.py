"""Rules whose time is over."""

from dataplane.policy.changes.kind import Change
from dataplane.policy.expiry import without_expired
from dataplane.policy.model import Policy


class RulesExpire(Change):
    """All rules whose time is over by a moment end; nobody makes this change, and it is in no file."""

    kind = "rules_expire"

    rules: tuple[str, ...]
    now_ns: int

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"rule{'' if len(self.rules) == 1 else 's'} {', '.join(self.rules)} expired"

    def made(self, policy: Policy) -> Policy:
        return without_expired(policy, self.now_ns)
