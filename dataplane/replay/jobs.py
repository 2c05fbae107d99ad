"""How many threads judge a replay (SPEC 7): none of them changes what comes out."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dataplane._core import lib

if TYPE_CHECKING:
    from dataplane.policy.model import Policy

JOBS_MAX = lib.DP_SHARDS_MAX
#: Bytes of captures from which on a second thread is worth its start.
_WORTH = 64 << 20


def jobs_for(
    asked: int | None, policies: Sequence[Policy], captures: Sequence[str], *, at: str | None, flows: bool
) -> int:
    """The threads for a replay: as many as are `asked` for, else as fit the captures and the processors.

    `policies` are all that come into force. One where frames cannot be judged beside each other: captures taken `at` an
    instance's interface, several instances that may hold one address, and records of flows, which are told in the order
    in which connections end.
    """
    if at is not None or flows or any(map(_shares_addresses, policies)):
        return 1
    if asked is not None:
        return asked
    return min(len(os.sched_getaffinity(0)), JOBS_MAX) if _size(captures) >= _WORTH else 1


def _shares_addresses(policy: Policy) -> bool:
    held = [address for instance in policy.instances for address in instance.packed_addresses]
    return len(held) != len(set(held)) or any(instance.allowed_address_pairs for instance in policy.instances)


def _size(captures: Sequence[str]) -> int:
    """Bytes of the regular files among the captures."""
    size = 0
    for path in captures:
        try:
            found = os.stat(path)
        except OSError:
            continue
        size += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return size
