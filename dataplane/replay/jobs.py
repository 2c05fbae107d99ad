"""How many threads judge a replay (SPEC 7): none of them changes what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataplane.policy.model import Policy


def jobs_for(asked: int | None, policies: Sequence[Policy], *, at: str | None, flows: bool) -> int:
    """The threads for a replay: as many as are `asked` for, else one, which on two processors was the faster.

    `policies` are all that come into force. One where frames cannot be judged beside each other: captures taken `at` an
    instance's interface, several instances that may hold one address, and records of flows, which are told in the order
    in which connections end.
    """
    if asked is None or at is not None or flows or any(map(_shares_addresses, policies)):
        return 1
    return asked


def _shares_addresses(policy: Policy) -> bool:
    held = [address for instance in policy.instances for address in instance.packed_addresses]
    return len(held) != len(set(held)) or any(instance.allowed_address_pairs for instance in policy.instances)
