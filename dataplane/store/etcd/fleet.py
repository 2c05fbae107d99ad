"""What the hosts that share a store say of themselves, and what is read of it.

A host's report hangs on a lease: it is gone some seconds after the host. That there was one is kept besides, so that a
host that is gone is missed, until it is forgotten.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataplane.store import StoreError, kept
from dataplane.store.etcd.cluster import count, delete, found, get, put, written_at
from dataplane.store.etcd.session import Session
from dataplane.store.etcd.version import Head, epoch_of, epoch_prefix
from dataplane.store.kept import UnreadableError
from dataplane.terminal import printable

if TYPE_CHECKING:
    from dataplane.store.etcd.cluster import Cluster, Done, Item

log = logging.getLogger("dataplane")

#: How long a host is there after its last sign of life, at least, and for how many pauses between two of them.
_LEASE_SECONDS, _LEASE_PAUSES = 10, 4
#: The least and the longest pause; all hosts together look so often a second where they are many.
_LEAST_PAUSE, _LONGEST_PAUSE, _LOOKS_PER_SECOND = 2.0, 60.0, 100
_PAGE = 2000
#: So often a host that begins looks whether who has its name is alive, and so much longer than its lease lasts; so
#: many of its own words it knows again.
_CLAIM_PAUSE, _CLAIM_SPARE, _SENT = 0.2, 5.0, 64


class NameTakenError(StoreError):
    """Another host is there under this one's name: one sentence that says who, and what to do."""


class Reports:
    """What one host says, from one thread at a time.

    A host writes under its name only where nobody else does; one whose name another one has says what it says beside
    it, as `NAME@ADDRESS:PID`, until that is gone.
    """

    def __init__(self, cluster: Cluster, prefix: str, label: str, session: Session) -> None:
        self._cluster = cluster
        self._hosts, self._known, self._label = f"{prefix}hosts/", f"{prefix}known/", label
        self._beside = f"{label}@{session.address}:{session.pid}"
        self._session = session
        self._lease, self._lease_seconds = 0, 0
        self._said = ""
        # The revision that it was said at under its name; 0: it was not. What was sent since that, made or not.
        self._written = 0
        self._sent: deque[str] = deque(maxlen=_SENT)
        self._alive_at = 0.0
        #: The name that it is heard under, and why that is not its own.
        self.name, self.taken = label, ""
        #: Seconds between two looks at what is kept. There are more hosts where it is longer.
        self.pause = _LEAST_PAUSE
        #: The parts of a transaction that count the hosts, and tell who has the name, for `look`.
        self.looking = count(self._hosts), get(f"{self._hosts}{label}")

    def look(self, done: Done) -> None:
        """Takes the pause from how many hosts there are; sees who has the name by now."""
        hosts, holder = (answer.get("response_range", {}) for answer in done.answers[: len(self.looking)])
        self.pause = min(max(_LEAST_PAUSE, int(hosts.get("count", 0)) / _LOOKS_PER_SECOND), _LONGEST_PAUSE)
        items = found(holder).items
        revision = items[0].revision if items else 0
        if not revision or (revision != self._written and not self.taken):
            # It is said again, which tells who has the name.
            self._said = ""

    def claim(self, report: dict[str, Any]) -> None:
        """Has its name from here on. Raises NameTakenError where another host has it, StoreError.

        One that has ended here without a word is none; one that ended elsewhere is waited for, until its lease is over.
        """
        least: int | None = None
        until = 0.0
        self._keep_lease()
        while (taken := self._write(self._body(report))) is not None:
            left = self._cluster.seconds_left(taken.lease)
            if least is None:
                log.info("host %s: whether it is there elsewhere is known in %d s at most", self._label, left + 1)
                least, until = left, time.monotonic() + left + _CLAIM_SPARE
            elif left > least or time.monotonic() > until:
                # It was lengthened meanwhile: by one that is alive.
                self.end()
                raise NameTakenError(self._why(taken))
            least = min(least, left)
            time.sleep(_CLAIM_PAUSE)
            self._keep_lease()
        self._said = json.dumps(report)

    def say(self, report: dict[str, Any]) -> None:
        """Says it where it is new, else that the host is still there. Raises StoreError."""
        self._keep_lease()
        text = json.dumps(report)
        if text == self._said:
            return
        taken = self._write(self._body(report))
        if taken is None:
            self._heard_as(self._label, "")
        else:
            why = self._why(taken)
            self._heard_as(self._beside, why)
            body = self._body(report | {"error": report["error"] or why})
            self._cluster.transaction([], [put(f"{self._hosts}{self._beside}", body, self._lease)])
        self._said = text

    def _heard_as(self, name: str, taken: str) -> None:
        if taken and not self.taken:
            log.warning("%s", taken)
        elif self.taken and not taken:
            log.info("host %s has its name again", name)
        self.name, self.taken = name, taken

    def _keep_lease(self) -> None:
        """Lengthens the lease where that is due; a new one where it is over. Raises StoreError."""
        now = time.monotonic()
        seconds = max(_LEASE_SECONDS, round(_LEASE_PAUSES * self.pause))
        is_due = now - self._alive_at >= self._lease_seconds / _LEASE_PAUSES
        # One that is too short for so many hosts is given up for a longer one.
        if seconds > self._lease_seconds or (is_due and not self._cluster.keep_alive(self._lease)):
            self._lease, self._lease_seconds, self._said = self._cluster.grant(seconds), seconds, ""
            is_due = True
        if is_due:
            # Writing alone lengthens no lease.
            self._alive_at = now

    def _body(self, report: dict[str, Any]) -> str:
        """What is written: each time another text, so that a copy of this host is told from it."""
        return json.dumps(report | {"session": self._session.body(), "said": secrets.token_hex(8)})

    def _write(self, body: str) -> Item | None:
        """Writes under its name; what another host has written there, where one is there. Raises StoreError."""
        here, revision = f"{self._hosts}{self._label}", self._written
        self._sent.append(body)
        requests = [put(here, body, self._lease), put(f"{self._known}{self._label}", body)]
        if self.taken:
            requests.append(delete(f"{self._hosts}{self._beside}"))
        while not (done := self._cluster.transaction([written_at(here, revision)], requests, [get(here)])).succeeded:
            items = found(done.answers[0].get("response_range", {})).items
            if items and not self._is_free(items[0]):
                self._written = 0
                return items[0]
            revision = items[0].revision if items else 0
        self._written = done.revision
        self._sent.clear()
        return None

    def _is_free(self, item: Item) -> bool:
        """Whether what stands under the name is this host's, or of one that has ended."""
        # A member that was lost may have written what was sent to it.
        if item.value in self._sent or not item.lease:
            return True
        session = _session(item)
        return session is not None and session.has_ended(self._session)

    def _why(self, taken: Item) -> str:
        session = _session(taken)
        who = session.words() if session else "a dataplane that does not say where"
        if session and session.id == self._session.id:
            who += ", a copy of this process: was the machine cloned?"
        return (
            f"host {printable(self._label)} is there already ({who}): stop that one, or call this one otherwise"
            " (name=NAME in the address of the store)"
        )

    def end(self) -> None:
        """The host goes. Raises StoreError."""
        if self._lease:
            self._cluster.revoke(self._lease)


def _session(item: Item) -> Session | None:
    """Whose report it is; None where that is not told, or not by us."""
    try:
        with kept.read_at(item.key):
            return Session.of(kept.mapping(item.value)["session"])
    except UnreadableError:
        return None


@dataclass(frozen=True, slots=True)
class HostState:
    """A host as it has said: the `change` that is in force there, made and in force at so many seconds since 1970.

    `is_there`: it has given a sign of life within the last seconds. `error` is why it does not do what it should.
    `session` is where it runs, as far as it has said.
    """

    name: str
    is_there: bool
    change: int
    changed_at: float
    in_force_at: float
    error: str | None
    version: str
    report: dict[str, Any]
    session: Session | None = None

    def lag(self, newest: Head, now: float) -> float:
        """How many seconds it was, or is by now, behind the newest change, by the hosts' clocks."""
        if self.change >= newest.number:
            return max(0.0, self.in_force_at - self.changed_at)
        return max(0.0, now - newest.at)


@dataclass(frozen=True, slots=True)
class Fleet:
    """All hosts, by name, and the newest change. `error`: why what the hosts say may be old."""

    newest: Head
    hosts: list[HostState]
    error: str | None = None


def fleet(cluster: Cluster, prefix: str) -> Fleet:
    """The hosts as they are now. Raises StoreError."""
    known, there = (dict(_all(cluster, f"{prefix}{place}/")) for place in ("known", "hosts"))
    hosts = [_host(name, there.get(name), report) for name, report in sorted((known | there).items())]
    # After the hosts: a change that is made meanwhile is in force on none that was read before it.
    return Fleet(_newest(cluster, prefix), hosts, cluster.why_it_takes_nothing())


def _newest(cluster: Cluster, prefix: str) -> Head:
    current = cluster.range(f"{prefix}current").items
    heads = cluster.range(f"{epoch_prefix(prefix, epoch_of(current[0]))}head").items if current else []
    return Head.of(heads[0].key, heads[0].value, heads[0].revision) if heads else Head()


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
            error, judged, session = body["error"], body.get("canary"), body.get("session")
            return said | {
                "change": kept.integer(body["change"]),
                "version": kept.text(body["version"]),
                "error": None if error is None else kept.text(error),
                "filters": body.get("filters") is True,
                "canary": None if judged is None else _judged(judged),
                "session": None if session is None else Session.of(session),
            }
    except UnreadableError as error:
        return {"change": 0, "changed_at": 0.0, "in_force_at": 0.0, "error": str(error), "version": ""}


def _judged(body: dict[str, Any]) -> dict[str, Any]:
    """What a host says of a canary. Raises ValueError and its like."""
    told = {"id": kept.text(body["id"])}
    if body.get("error"):
        return told | {"error": kept.text(body["error"])}
    return told | {
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
        report.get("session"),
    )


def forget(cluster: Cluster, prefix: str, name: str) -> None:
    """A host that is gone is not missed any more. Raises StoreError for one that is there, or was never."""
    known, here = f"{prefix}known/{name}", f"{prefix}hosts/{name}"
    if cluster.range(here).items:
        raise StoreError(f"host {name} is there: stop it first")
    if not cluster.range(known).items:
        raise StoreError(f"there was no host {printable(name)}: see dataplane fleet status")
    cluster.transaction([], [delete(known)])
