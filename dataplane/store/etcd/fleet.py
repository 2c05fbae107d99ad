"""What the hosts that share a store say of themselves, and what is read of it.

A host's report hangs on a lease: it is gone some seconds after the host. That there was one is kept besides, so that a
host that is gone is missed, until it is forgotten.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataplane.store import StoreError
from dataplane.store.etcd import kept
from dataplane.store.etcd.cluster import count, delete, put
from dataplane.store.etcd.kept import UnreadableError
from dataplane.store.etcd.version import Head, epoch_of, epoch_prefix

if TYPE_CHECKING:
    from dataplane.store.etcd.cluster import Cluster, Done, Item

#: How long a host is there after its last sign of life, at least, and for how many pauses between two of them.
_LEASE_SECONDS, _LEASE_PAUSES = 10, 4
#: The least and the longest pause; all hosts together look so often a second where they are many.
_LEAST_PAUSE, _LONGEST_PAUSE, _LOOKS_PER_SECOND = 2.0, 60.0, 100
_PAGE = 2000


class Reports:
    """What one host says, from one thread."""

    def __init__(self, cluster: Cluster, prefix: str, label: str) -> None:
        self._cluster = cluster
        self._here, self._known = f"{prefix}hosts/{label}", f"{prefix}known/{label}"
        self._lease, self._lease_seconds = 0, 0
        self._said = ""
        self._alive_at = 0.0
        #: Seconds between two looks at what is kept. There are more hosts where it is longer.
        self.pause = _LEAST_PAUSE
        #: The part of a transaction that counts the hosts, for `count`.
        self.counting = count(f"{prefix}hosts/")

    def count(self, done: Done) -> None:
        """Takes the pause from how many hosts there are."""
        hosts = int(done.answers[0].get("response_range", {}).get("count", 0))
        self.pause = min(max(_LEAST_PAUSE, hosts / _LOOKS_PER_SECOND), _LONGEST_PAUSE)

    def say(self, report: dict[str, Any]) -> None:
        """Says it where it is new, else that the host is still there. Raises StoreError."""
        text, now = json.dumps(report), time.monotonic()
        seconds = max(_LEASE_SECONDS, round(_LEASE_PAUSES * self.pause))
        is_due = now - self._alive_at >= self._lease_seconds / _LEASE_PAUSES
        if text == self._said and not is_due:
            return
        # One that is too short for so many hosts is given up for a longer one.
        if seconds > self._lease_seconds or (is_due and not self._cluster.keep_alive(self._lease)):
            self._lease, self._lease_seconds, self._said = self._cluster.grant(seconds), seconds, ""
            is_due = True
        if is_due:
            # Writing alone lengthens no lease.
            self._alive_at = now
        if text != self._said:
            self._cluster.transaction([], [put(self._here, text, self._lease), put(self._known, text)])
            self._said = text

    def end(self) -> None:
        """The host goes. Raises StoreError."""
        if self._lease:
            self._cluster.revoke(self._lease)


@dataclass(frozen=True, slots=True)
class HostState:
    """A host as it has said: the `change` that is in force there, made and in force at so many seconds since 1970.

    `is_there`: it has given a sign of life within the last seconds. `error` is why it does not do what it should.
    """

    name: str
    is_there: bool
    change: int
    changed_at: float
    in_force_at: float
    error: str | None
    version: str
    report: dict[str, Any]

    def lag(self, newest: Head, now: float) -> float:
        """How many seconds it was, or is by now, behind the newest change, by the hosts' clocks."""
        if self.change >= newest.number:
            return max(0.0, self.in_force_at - self.changed_at)
        return max(0.0, now - newest.at)


@dataclass(frozen=True, slots=True)
class Fleet:
    """All hosts, by name, and the newest change."""

    newest: Head
    hosts: list[HostState]


def fleet(cluster: Cluster, prefix: str) -> Fleet:
    """The hosts as they are now. Raises StoreError."""
    current = cluster.range(f"{prefix}current").items
    newest = Head()
    if current:
        found = cluster.range(f"{epoch_prefix(prefix, epoch_of(current[0]))}head").items
        newest = Head.of(*found[0]) if found else newest
    known, there = (dict(_all(cluster, f"{prefix}{place}/")) for place in ("known", "hosts"))
    return Fleet(
        newest,
        [_host(name, there.get(name), report) for name, report in sorted((known | there).items())],
    )


def _all(cluster: Cluster, place: str) -> list[tuple[str, dict[str, Any]]]:
    made: list[tuple[str, dict[str, Any]]] = []
    after, more = "", True
    while more:
        page = cluster.range(place, prefix=True, after=after, limit=_PAGE)
        made.extend((item.key.removeprefix(place), _report(item)) for item in page.items)
        after, more = page.items[-1].key if page.items else "", page.more
    return made


def _report(item: Item) -> dict[str, Any]:
    """What a host says; where nobody can read that, it is what is wrong there."""
    try:
        with kept.read_at(item.key):
            body = kept.mapping(item.value)
            said = {name: kept.number(body[name]) for name in ("changed_at", "in_force_at")}
            error, judged = body["error"], body.get("canary")
            return said | {
                "change": kept.integer(body["change"]),
                "version": kept.text(body["version"]),
                "error": None if error is None else kept.text(error),
                "filters": body.get("filters") is True,
                "canary": None if judged is None else _judged(judged),
            }
    except UnreadableError as error:
        return {"change": 0, "changed_at": 0.0, "in_force_at": 0.0, "error": str(error), "version": ""}


def _judged(body: dict[str, Any]) -> dict[str, Any]:
    """What a host says of a canary. Raises ValueError and its like."""
    found = {"id": kept.text(body["id"])}
    if body.get("error"):
        return found | {"error": kept.text(body["error"])}
    return found | {
        "seconds": kept.number(body["seconds"]),
        **{name: kept.integer(body[name]) for name in ("same", "changed")},
    }


def _host(name: str, there: dict[str, Any] | None, known: dict[str, Any]) -> HostState:
    report = there or known
    return HostState(
        name,
        there is not None,
        report["change"],
        report["changed_at"],
        report["in_force_at"],
        report["error"],
        report["version"],
        report,
    )


def forget(cluster: Cluster, prefix: str, name: str) -> None:
    """A host that is gone is not missed any more. Raises StoreError for one that is there, or was never."""
    known, here = f"{prefix}known/{name}", f"{prefix}hosts/{name}"
    if cluster.range(here).items:
        raise StoreError(f"host {name} is there: stop it first")
    if not cluster.range(known).items:
        raise StoreError(f"there was no host {name}")
    cluster.transaction([], [delete(known)])
