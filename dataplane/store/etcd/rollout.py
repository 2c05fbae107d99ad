"""A policy that goes to some hosts first: it is in force on all only if these would judge their packets much as now."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataplane.store import StoreError
from dataplane.store.etcd.canary import Begun, Judged, chosen, judged
from dataplane.store.etcd.cluster import Cluster
from dataplane.store.etcd.fleet import fleet
from dataplane.store.etcd.writing import discard, put_in_place

if TYPE_CHECKING:
    from dataplane.policy import Policy
    from dataplane.store.etcd.store import EtcdStore

#: How long the hosts may take until all of them judge, besides twice the pause of so many hosts.
_BEGINNING_SECONDS = 20.0
_LOOK_SECONDS = 1.0


class StoppedError(Exception):
    """The policy is not in force: one sentence that says why."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the chosen hosts have said so far; `seconds_left` until it is in force on all, None until all judge."""

    hosts: tuple[str, ...]
    judged: Judged
    seconds_left: float | None


def rollout(
    store: EtcdStore, policy: Policy, *, share: float, bound: float, seconds: float, now: float
) -> Iterator[Progress]:
    """Has a share of the hosts judge by a policy for so long, and puts it in force on all.

    `bound` is the share of packets that each may judge otherwise. Raises StoppedError where one judges more of them
    so, is lost or cannot judge, or where no packet came, and StoreError; the policy before stays in force then.
    """
    prefix = store.address.prefix
    with closing(Cluster(store.address)) as cluster, contextlib.ExitStack() as stack:
        found = fleet(cluster, prefix)
        names = chosen(found.hosts, share)
        if not names:
            raise StoppedError(
                "no host that shares the store filters now, so nobody can judge by the policy: start one, or apply it"
                " to all at once (dataplane policy apply --store)"
            )
        staged = store.staged(policy, now)
        undo = stack.enter_context(contextlib.ExitStack())
        undo.callback(_if_it_answers, lambda: discard(cluster, prefix, staged))
        begun = Begun(cluster, prefix, staged, names)
        stack.callback(_if_it_answers, begun.end)
        late = time.monotonic() + _BEGINNING_SECONDS + len(found.hosts) / 50
        while True:
            begun.go_on()
            states = {host.name: host for host in fleet(cluster, prefix).hosts}
            told = judged(begun.id, names, states, bound)
            if told.why_not:
                raise StoppedError(told.why_not)
            is_late = time.monotonic() > late
            if is_late and told.judging < len(names):
                raise StoppedError(
                    f"{len(names) - told.judging} of {len(names)} hosts do not judge by it in time: see fleet status"
                )
            left = max(0.0, seconds - told.seconds) if told.judging == len(names) else None
            yield Progress(begun.hosts, told, left)
            if left == 0:
                break
            if is_late and time.monotonic() > late + seconds:
                raise StoppedError("the hosts that judge have said nothing for too long")
            time.sleep(_LOOK_SECONDS)
        if not told.same + told.changed:
            raise StoppedError(
                "no packet came to the hosts that judge, so nothing is known of the policy: give them longer (--watch)"
            )
        put_in_place(cluster, prefix, staged)
        undo.pop_all()


def _if_it_answers(work: object) -> None:
    assert callable(work)
    with contextlib.suppress(StoreError):
        work()
