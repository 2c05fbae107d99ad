"""The store: the policy of a cluster as this host has it, kept at hand, written to, and watched."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dataplane import __version__
from dataplane.store import StoreAwayError, StoreChangedError, StoreError, StorePartError
from dataplane.store.etcd import canary, copy
from dataplane.store.etcd.cluster import Cluster, CompactedError, StoreFullError, found, get, written_at
from dataplane.store.etcd.fleet import Reports
from dataplane.store.etcd.session import Session
from dataplane.store.etcd.version import Version, epoch_prefix, read
from dataplane.store.etcd.writing import next_head, stage, written
from dataplane.store.kept import UnreadableError
from dataplane.store.rows import Key, Writing

if TYPE_CHECKING:
    from dataplane.policy import Policy
    from dataplane.store.etcd.address import Address
    from dataplane.store.etcd.canary import Canary
    from dataplane.store.etcd.cluster import Item, Watch
    from dataplane.store.etcd.version import Head
    from dataplane.store.etcd.writing import Staged

log = logging.getLogger("dataplane")

#: Pauses between two tries to reach the cluster: they grow, and are not the same on all hosts.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
#: All is read again after so long where it was not what we write.
_UNREADABLE_PAUSE = 10.0
#: How long a change waits for one that somebody else has made to arrive.
_AWAIT_SECONDS = 2.0
_END_SECONDS = 2.0
#: A copy that could not be written is tried again after so long.
_COPY_PAUSE = 10.0


class EtcdStore:
    """A policy in a cluster, of which a host has the last one that it could read."""

    keeps_changes = True

    def __init__(self, address: Address, *, filters: bool = True) -> None:
        """Reads what is kept, or where etcd is away the last good copy. Raises StoreError where there is neither.

        `filters`: packets are judged here.
        """
        self._address, self._filters = address, filters
        self._canary: Canary | None = None
        self._judged: dict[str, Any] | None = None
        self._unreadable = ""
        # Why nothing that this host says is written; empty where it is.
        self._unheard = ""
        # The policy of a version's rows, as it was kept or loaded here.
        self._known: tuple[Version, Policy] | None = None
        self._cluster = Cluster(address)
        self._arriving = threading.Condition()
        self._ending = threading.Event()
        self._notify: Callable[[], None] = lambda: None
        self._threads: list[threading.Thread] = []
        self._watch: Watch | None = None
        self._is_stale, self._is_just_read = False, True
        self._to_copy, self._to_report = threading.Event(), threading.Event()
        self._in_force_at = time.time()
        self._error: str | None = None
        self._away: tuple[float, str] | None = None
        # Asked by who claims the name, and then by who looks after it.
        self._looking = Cluster(address)
        session = Session.of_this_process(address.members)
        self._reports = Reports(self._looking, address.prefix, address.label, session)
        try:
            self._last = self._in_force = self._read(self._cluster)
        except (StoreAwayError, UnreadableError) as error:
            found = copy.read(address.copy, self.name) if address.copy else None
            if found is None:
                raise
            log.warning("%s; the last good copy is in force (change %d)", error, found.head.number)
            self._away = time.time(), str(error)
            self._last = self._in_force = found
        self._to_copy.set()

    @property
    def name(self) -> str:
        """Its address, without how it is spoken to."""
        return self._address.name

    @property
    def is_empty(self) -> bool:
        """Whether no policy was kept in it yet."""
        return self._in_force.is_empty

    @property
    def times(self) -> Mapping[Key, tuple[float, float]]:
        """When each part came, and was changed last, in seconds since 1970, by section and id."""
        return {key: (row.created, row.updated) for key, row in self._in_force.rows.items()}

    def load(self) -> Policy:
        """The policy that is kept now; for any thread. Raises PolicyError, StoreError."""
        # At the start it has just been read.
        just_read, self._is_just_read = self._is_just_read, False
        if not just_read:
            with contextlib.closing(Cluster(self._address)) as cluster:
                self._read_anew(cluster)
        version = self._last
        policy = version.policy()
        self._known = version, policy
        return policy

    def kept_elsewhere(self) -> int | None:
        """Nothing that has to be asked for: it comes by itself."""
        return None

    def read_again(self) -> None:
        """Reads what is kept as what is in force, while nobody follows it. Raises StoreError."""
        self._last = self._in_force = self._read(self._cluster)

    def claim_name(self) -> None:
        """Is the one host of its name, as far as etcd answers, before it follows. Raises NameTakenError, StoreError."""
        with contextlib.suppress(StoreAwayError, StoreFullError):
            self._reports.claim(self._report())

    @contextmanager
    def keeping(self, policy: Policy, now: float) -> Iterator[None]:
        """Keeps a policy, and the one before again where what is done within fails. Raises StoreError.

        It is kept first, so that nobody else's change is in force here for a moment and then not. Where somebody else
        has changed what is kept, only what is there now can be kept.
        """
        seen, last = self._in_force, self._last
        is_newest = last is seen or (last.head == seen.head and last.rows == seen.rows)
        made = self._written_upon(last, policy, now)
        made_anew = made.head != last.head.document or made.is_new or last.is_empty
        kept = last
        if made_anew:
            if not last.is_empty:
                self._expect_whole()
            made = made if is_newest else self._written_upon(seen, policy, now)
            try:
                kept = written(self._cluster, self._address.prefix, seen, made, now, self._address.label)
            except StoreAwayError as error:
                told = (_refused if error.is_done is False else _unknown)(str(error))
                raise StoreAwayError(told, is_done=error.is_done) from None
        try:
            yield
        except BaseException:
            if made_anew:
                self._take_back(kept, seen, now)
            raise
        self._known = kept, policy
        self._set_in_force(kept)

    def _written_upon(self, version: Version, policy: Policy, now: float) -> Writing:
        known = self._known
        # The watch may have brought the same.
        same = known and (known[0] is version or (known[0].head == version.head and known[0].rows == version.rows))
        return Writing(policy, version.rows, known[1] if known and same else None, now)

    def expect_changes(self) -> None:
        """Raises StorePartError, StoreAwayError where no change can be kept now."""
        self._expect_whole()
        if away := self._away:
            raise StoreAwayError(_refused(away[1]))

    def _expect_whole(self) -> None:
        if self._address.host is not None:
            raise StorePartError(
                f"{self.name}: this host keeps its part of the policy alone: change it where all of it is kept"
                " (dataplane api, or run, with the address without host)"
            )

    def _take_back(self, kept: Version, seen: Version, now: float) -> None:
        """Keeps again what was kept before; what others have made of it by now stays."""
        before = Writing(seen.policy(), kept.rows, None, now)
        with contextlib.suppress(StoreChangedError):
            self._arrive(written(self._cluster, self._address.prefix, kept, before, now, self._address.label))

    @property
    def address(self) -> Address:
        """Where it is."""
        return self._address

    def staged(self, policy: Policy, now: float) -> Staged:
        """A policy that is written and not yet kept: `writing.put_in_place` does that. Raises StoreError."""
        self.expect_changes()
        seen = self._in_force
        made = self._written_upon(seen, policy, now)
        return stage(self._cluster, self._address.prefix, seen, made, next_head(seen, made, now, self._address.label))

    # ---- what others change ----

    @property
    def canary(self) -> Canary | None:
        """The policy that this host is to judge by beside the one in force."""
        return self._canary

    def tell_canary(self, told: dict[str, Any] | None) -> None:
        """What has come of it, which the fleet is told."""
        self._judged = told

    @property
    def arrived(self) -> Version | None:
        """What was kept last, as far as it is known, while it is not in force here."""
        with self._arriving:
            return None if self._last.head == self._in_force.head else self._last

    def taken(self, version: Version) -> None:
        """What had arrived is in force."""
        self._set_in_force(version)

    def failed(self, version: Version, why: str) -> None:
        """What had arrived cannot be put in force."""
        self._error = why
        self._to_report.set()

    def _set_in_force(self, version: Version) -> None:
        with self._arriving:
            if version.head != self._in_force.head:
                self._in_force_at = time.time()
            self._in_force, self._error = version, None
            self._arrive(version)
        # It is reported with the next look, so that many hosts do not ask at once while the change is on its way.
        self._to_copy.set()

    def _arrive(self, version: Version) -> None:
        """Takes down what is kept, unless something newer is known."""
        with self._arriving:
            if version.revision > self._last.revision:
                self._last = version
            self._arriving.notify_all()

    def await_change(self) -> None:
        """Waits until what is kept is another policy than the one in force, or some time has passed."""
        with self._arriving:
            self._arriving.wait_for(lambda: self.arrived is not None, _AWAIT_SECONDS)

    def state(self) -> dict[str, Any]:
        """How far it has come: `change` in force, `newest` that is known, since when etcd is `away`, and `error`."""
        away = self._away
        return {
            "change": self._in_force.head.number,
            "changed_at": self._in_force.head.at,
            "newest": self._last.head.number,
            "away_since": away and away[0],
            "error": self._error or self._reports.taken or self._unheard or (away and away[1]),
        }

    def follow(self, notify: Callable[[], None]) -> None:
        """Begins to watch, and to write the copy; `notify` is called when something has arrived."""
        self._notify = notify
        for work in (self._follow, self._look_after, *((self._copy,) if self._address.copy else ())):
            thread = threading.Thread(target=work, name="etcd", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Ends the watch, and all connections."""
        self._ending.set()
        self._to_copy.set()
        self._to_report.set()
        if watch := self._watch:
            watch.close()
        for thread in self._threads:
            thread.join(_END_SECONDS)
        if not self._threads:
            # Who looks after it does that.
            with contextlib.suppress(StoreError):
                self._reports.end()
        self._cluster.close()
        self._looking.close()

    def _read(self, cluster: Cluster) -> Version:
        return read(cluster, self.name, self._address.prefix, self._address.host, self._look)

    def _look(self) -> None:
        if self._ending.is_set():
            raise StoreAwayError("the store is closed")

    def _follow(self) -> None:
        """Watches for as long as the store is open; from where it was, or where that is not kept any more, anew."""
        pause = _FIRST_PAUSE
        anew = False
        with contextlib.closing(Cluster(self._address)) as cluster:
            while not self._ending.is_set():
                try:
                    if anew:
                        self._read_anew(cluster)
                        self._notify_of_arrived()
                    self._is_stale = False
                    anew = self._watched(cluster) or self._is_stale
                    pause = _FIRST_PAUSE
                except UnreadableError as error:
                    # It is put right by a change behind it, which a watch would never come to.
                    anew = True
                    self._is_away(error, "that is put right")
                    self._ending.wait(_UNREADABLE_PAUSE * random.uniform(0.5, 1))
                except CompactedError:
                    log.info("%s: what has happened since is compacted: it is read anew", self.name)
                    anew = True
                except Exception as error:
                    if self._ending.is_set():
                        return
                    if not isinstance(error, StoreError):
                        # What is kept there is not as we write it.
                        log.error("%s: what is kept cannot be read", self.name, exc_info=error)
                        anew = True
                    self._is_away(error, "etcd is there again")
                    self._ending.wait(pause * random.uniform(0.5, 1))
                    pause = min(2 * pause, _LONGEST_PAUSE)

    def _watched(self, cluster: Cluster) -> bool:
        """Watches an epoch until that, or the watch, ends; whether all is to be read then.

        Raises CompactedError, StoreError.
        """
        last = self._last
        self._watch = cluster.watch(epoch_prefix(self._address.prefix, last.epoch), last.revision + 1)
        try:
            self._look()
            if self._away:
                log.info("%s: etcd is there again", self.name)
                self._away = None
            for events in self._watch:
                last = self._last
                if events.revision <= last.revision:
                    continue
                brought = last.brought_on(self._address.prefix, events.items, events.revision)
                if brought is None:
                    return True
                self._arrive(brought)
                self._notify_of_arrived()
        except StoreAwayError:
            # Another member may answer.
            cluster.leave_member()
            self._ending.wait(_FIRST_PAUSE)
        finally:
            self._watch.close()
        return False

    def _look_after(self) -> None:
        """Says how far this host is; has the watch begin anew where that says nothing of what has changed."""
        before: Version | None = None
        reports = self._reports
        while not self._ending.is_set():
            last = self._last
            try:
                self._say()
                is_newest = self._is_newest(last)
            except StoreError:
                is_newest, before = False, last
            # What is on its way has the time until the next look.
            if not is_newest and last is before and (watch := self._watch):
                self._is_stale = True
                watch.close()
            before = None if is_newest else last
            self._to_report.wait(reports.pause * random.uniform(0.8, 1))
            self._to_report.clear()
        with contextlib.suppress(StoreError):
            reports.end()

    def _say(self) -> None:
        """Tells the fleet; where etcd takes nothing, the log says so. Raises StoreAwayError."""
        try:
            self._reports.say(self._report())
            self._unheard = ""
        except StoreAwayError:
            raise
        except StoreError as error:
            why = f"the fleet is not told how this host is: {error}"
            if why != self._unheard:
                log.warning("%s", why)
            self._unheard = why

    def _report(self) -> dict[str, Any]:
        """What the fleet is told of this host."""
        version = self._in_force
        return {
            "change": version.head.number,
            "changed_at": version.head.at,
            "in_force_at": self._in_force_at,
            "error": self._error,
            "version": __version__,
            "filters": self._filters,
            "canary": self._judged,
        }

    def _is_newest(self, version: Version) -> bool:
        """Whether nobody has changed what is kept since; the hosts are looked at too. Raises StoreError."""
        prefix = self._address.prefix
        keys = f"{prefix}current", f"{epoch_prefix(prefix, version.epoch)}head"
        unchanged = [written_at(keys[0], version.current), written_at(keys[1], version.head.revision)]
        asking = [*self._reports.looking, get(canary.key(prefix))]
        done = self._looking.transaction(unchanged, asking, asking)
        self._reports.look(done)
        self._look_for_canary(found(done.answers[-1].get("response_range", {})).items)
        return done.succeeded

    def _look_for_canary(self, items: list[Item]) -> None:
        """Reads the policy that this host is to judge by beside the one in force, where that is a new one."""
        if not items:
            self._canary = None
            return
        address, found = self._address, items[0].value
        try:
            if self._canary is None or self._canary.id != canary.id_of(address.prefix, found):
                name = self._reports.name
                self._canary = canary.asked_of(self._looking, address.prefix, found, name, address.host)
        except UnreadableError as error:
            self._canary = None
            if found != self._unreadable:
                log.warning("%s: no other policy is tried by this host", error)
            self._unreadable = found

    def _read_anew(self, cluster: Cluster) -> None:
        """What is kept has arrived; where the members were set back to a copy of before, that is what is kept."""
        before = self._last
        found = self._read(cluster)
        # What was known before it was asked for is of no later revision, unless its history is another one.
        is_set_back = found.revision < before.revision
        if is_set_back:
            log.warning(
                "%s: etcd was set back, as to a copy of before: change %d is kept there, and change %d was known here",
                *(self.name, found.head.number, before.head.number),
            )
        with self._arriving:
            # Unless another thread has seen it before, and there is more by now.
            if is_set_back and self._last.revision >= before.revision:
                self._last = found
            self._arrive(found)

    def _notify_of_arrived(self) -> None:
        if self.arrived is not None:
            self._notify()

    def _is_away(self, error: Exception, until: str) -> None:
        why = str(error) or type(error).__name__
        if self._away is None or (isinstance(error, UnreadableError) and self._away[1] != why):
            log.warning("%s: the policy in force stays as it is until %s", why, until)
            self._away = time.time(), why

    def _copy(self) -> None:
        """Writes the last good copy whenever another policy is in force."""
        assert self._address.copy
        done: Head | None = None
        failed = ""
        while not self._ending.is_set():
            self._to_copy.wait(_COPY_PAUSE if failed else None)
            self._to_copy.clear()
            version = self._in_force
            if version.head == done or version.is_empty:
                continue
            try:
                copy.write(self._address.copy, version)
            except StoreError as error:
                if str(error) != failed:
                    log.warning("%s; that of before stays, and it is tried again", error)
                failed = str(error)
                continue
            if failed:
                log.info("%s: the copy of the policy is written again", self._address.copy)
            done, failed = version.head, ""


def _unknown(why: str) -> str:
    return (
        f"{why}: it is not known whether the change is kept: the policy in force stays meanwhile; look at it when it"
        " answers, before you ask again"
    )


def _refused(why: str) -> str:
    return f"{why}: the change is refused, and the policy in force stays: ask again when it answers"
