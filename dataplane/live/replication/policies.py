"""Whether two firewalls have the same policy in force, by digests of both: no more is said of it between them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataplane.live.firewall import Firewall
    from dataplane.policy import Policy

log = logging.getLogger("dataplane")

#: What of a processor's time working out digests may take.
_SHARE = 0.05
#: Two hosts change one after the other: that is told when it lasts longer.
_TOLD_AFTER_SECONDS = 10.0
#: What the hosts of one policy may call otherwise.
_NOT_JUDGED_BY = {"interface", "tap", "host"}


class Policies:
    """The digest of the policy in force here, and whether that of the other side is the same.

    `other` is who that is, as the log calls it.
    """

    def __init__(self, firewall: Firewall, other: str) -> None:
        self._firewall, self._other = firewall, other
        self._known: tuple[Policy, str] | None = None
        self._not_before = 0.0
        self._differ_since: float | None = None
        self._is_told = False
        #: None where it is not known, as of a dataplane that does not say it.
        self.are_same: bool | None = None

    @property
    def digest(self) -> str | None:
        """That of the policy in force; None where it has not been worked out yet. For any thread."""
        known = self._known
        return known[1] if known and known[0] is self._firewall.policy else None

    async def work_out(self) -> None:
        """Works out the digest, unless policies change faster than that may be done."""
        policy, began = self._firewall.policy, time.monotonic()
        if (self._known and self._known[0] is policy) or began < self._not_before:
            return
        self._known = policy, await asyncio.to_thread(_digest, policy)
        self._not_before = time.monotonic() + (time.monotonic() - began) / _SHARE

    def hear(self, digest: Any) -> bool | None:
        """What the other side says of its policy; whether it is the same by now."""
        own = self.digest
        self.are_same = own == digest if own and isinstance(digest, str) else None
        now = time.monotonic()
        if self.are_same is not False:
            self._differ_since = None
            if self._is_told and self.are_same:
                self._is_told = False
                log.info("%s has the same policy as this firewall", self._other)
        elif self._differ_since is None:
            self._differ_since = now
        elif not self._is_told and now - self._differ_since > _TOLD_AFTER_SECONDS:
            self._is_told = True
            log.warning(
                "%s has another policy than this firewall: load the same in both, or what is open may end, and what is"
                " allowed may differ, when it takes over",
                self._other,
            )
        return self.are_same

    def forget(self) -> None:
        """There is no other side any more."""
        self.are_same, self._differ_since = None, None


def _digest(policy: Policy) -> str:
    made = hashlib.sha256(policy.conntrack.model_dump_json().encode())
    for part in (*policy.address_groups, *policy.instances, *policy.load_balancers, *policy.security_groups):
        made.update(part.model_dump_json(exclude=_NOT_JUDGED_BY).encode() + b"\n")
    return made.hexdigest()
