"""A policy that some hosts judge beside the one in force, before it is in force on all.

It is written as an epoch that is not the current one. While the key ``canary`` names it, the hosts that stand there
have a shadow judge by it, and say what it judged otherwise; the key hangs on a lease, so that it ends with who watches.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataplane.policy import Policy
from dataplane.store import StoreError, kept
from dataplane.store.etcd.cluster import put, written_at
from dataplane.store.etcd.version import epoch_prefix, rows_of
from dataplane.store.etcd.writing import Staged
from dataplane.store.rows import document_of
from dataplane.terminal import printable

if TYPE_CHECKING:
    from dataplane.store.etcd.cluster import Cluster
    from dataplane.store.etcd.fleet import HostState

#: How long it goes on without who began it.
_LEASE_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Canary:
    """What a host is to judge by; `text` is the policy, in JSON."""

    id: str
    text: str

    def policy(self) -> Policy:
        """The policy. Raises PolicyError."""
        return Policy.parse(self.text, f"canary {self.id}")


def key(prefix: str) -> str:
    """Where it is kept."""
    return f"{prefix}canary"


def asked_of(cluster: Cluster, prefix: str, found: str, label: str, host: str | None) -> Canary | None:
    """What this host is to judge by, as the key says; None where others are to. Raises StoreError."""
    with kept.read_at(key(prefix)):
        body = kept.mapping(found)
        is_asked, epoch, document = label in body["hosts"], kept.text(body["id"]), kept.text(body["document"])
    if not is_asked:
        return None
    rows = rows_of(cluster, epoch_prefix(prefix, epoch), host)
    with kept.read_at(epoch_prefix(prefix, epoch)):
        return Canary(epoch, json.dumps(document_of(document, rows)))


def id_of(prefix: str, found: str) -> str:
    """Which canary the key tells. Raises UnreadableError."""
    with kept.read_at(key(prefix)):
        return kept.text(kept.mapping(found)["id"])


class Begun:
    """A canary as who began it has it. Raises StoreError where there is another one."""

    def __init__(self, cluster: Cluster, prefix: str, staged: Staged, hosts: Sequence[str]) -> None:
        self.hosts, self.id = tuple(hosts), staged.epoch
        self._cluster, self._prefix, self._staged = cluster, prefix, staged
        self._lease = cluster.grant(_LEASE_SECONDS)
        body = {"id": staged.epoch, "hosts": list(hosts), "document": staged.head.document}
        place = key(prefix)
        if not cluster.transaction([written_at(place, 0)], [put(place, json.dumps(body), self._lease)]).succeeded:
            cluster.revoke(self._lease)
            raise StoreError("another policy is being tried by some hosts: wait until that has ended")

    def go_on(self) -> None:
        """Says that it goes on. Raises StoreError where it was away for too long."""
        if not all(self._cluster.keep_alive(lease) for lease in (self._lease, self._staged.lease)):
            raise StoreError("etcd was away for too long: the hosts have ended it")

    def end(self) -> None:
        """The hosts end it. Raises StoreError."""
        # Its key goes with the lease, and no key of somebody else.
        self._cluster.revoke(self._lease)


def chosen(hosts: Sequence[HostState], share: float) -> list[str]:
    """Some of the hosts that filter and are there, at least one; none where there are none."""
    able = [host.name for host in hosts if host.is_there and host.report.get("filters")]
    number = min(len(able), max(1, math.ceil(len(able) * share)))
    return sorted(random.sample(able, number))


@dataclass(frozen=True, slots=True)
class Judged:
    """What the chosen hosts have said: how many judge, since how many seconds at least, packets judged alike and
    otherwise, and why it must end.
    """

    judging: int
    seconds: float
    same: int
    changed: int
    why_not: str | None


def judged(begun_id: str, names: Sequence[str], hosts: Mapping[str, HostState], bound: float) -> Judged:
    """What the hosts say of a canary; each is held to the bound, a share of the packets that it has judged."""
    judging = same = changed = 0
    seconds: list[float] = []
    why: str | None = None
    for name in names:
        host = hosts.get(name)
        if host is None or not host.is_there:
            why = why or f"host {printable(name)} is gone"
            continue
        told = host.report.get("canary") or {}
        if told.get("id") != begun_id:
            continue
        if told.get("error"):
            why = why or f"host {printable(name)} cannot judge by it: {printable(told['error'])}"
            continue
        judging += 1
        seconds.append(told["seconds"])
        same, changed = same + told["same"], changed + told["changed"]
        if told["changed"] > bound * (told["same"] + told["changed"]):
            share = told["changed"] / (told["same"] + told["changed"])
            why = (
                why or f"host {printable(name)} would judge {told['changed']:,} packets otherwise, {share:.2%} of them"
            )
    return Judged(judging, min(seconds, default=0.0), same, changed, why)
