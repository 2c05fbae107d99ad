"""The ports of a policy: which interface stands for which instance, balancer or uplink, and the descriptors of each.

An instance's interface that does not exist is made, as a TAP. A TAP that nobody holds is taken as it is. Everything
else (a veth end, a network card, a TAP that QEMU holds) is read by AF_PACKET sockets, and the host's own stack is kept
silent on it. Nothing here sees a frame: descriptors go to `dp_firewall_add_port`, which reads and writes them, and
must stay open until `dp_firewall_remove_port`. So what is removed here is closed by `release` only.

    opened ----> open ----------> removed ----> released
                  |  interface gone:              (closed; a TAP made here goes with it unless it is persistent)
                  |  `refresh` removes it
                  +-- and opens it anew once the interface is back
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from dataplane.live.bounded_log import BoundedLog
from dataplane.live.interfaces import links, locks, made_tap, packet_socket, tap, tunnel_tap
from dataplane.live.interfaces.ioctl import Access
from dataplane.live.interfaces.links import Link, PortError
from dataplane.live.interfaces.locks import Claim
from dataplane.live.interfaces.port import Changes, Port
from dataplane.live.interfaces.required import Required, not_there, required_by, shared_with_host, user_number
from dataplane.live.interfaces.settings import DAMAGED, Silence, is_damaged

if TYPE_CHECKING:
    from dataplane.policy import Policy

__all__ = ["PortError", "Ports"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Open:
    """A port with what it is there for, whose it is, and what it takes to set it and to undo what was set."""

    port: Port
    wanted: Required
    claim: Claim | None = None
    silence: Silence | None = None
    #: Of a TAP that was made here; None where its namespace could not be entered.
    access: Access | None = None
    #: Of the TAP by which super-packets of tunnels leave, once it was asked for; whether it was.
    tunnel: int | None = None
    tunnel_wanted: bool = False
    #: Which namespace had the name when the port was opened; None for this process's own.
    home: tuple[int, int] | None = None

    @property
    def is_astray(self) -> bool:
        """Whether its namespace has lost its name, or another one has it: what holds the old one keeps it alive."""
        return self.home is not None and links.identity(self.port.namespace) != self.home

    def refit(self, want: Required, *, dry_run: bool = False) -> Iterator[str]:
        """Gives a TAP made here what a changed policy says of it, unless `dry_run`; says what it cannot be given."""
        index = self.claim.index if self.claim else None
        return made_tap.refit(self.port, self.wanted, want, self.access, index, dry_run=dry_run)


class Ports:
    """The ports of a policy, each with a descriptor for each of `workers` (1 or more).

    All methods are for one thread. PortError tells, in a sentence, why an interface cannot be served.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._uplinks: tuple[str, ...] = ()
        self._wanted: dict[str, Required] = {}
        self._open: dict[str, _Open] = {}
        self._removed: dict[tuple[int, ...], _Open] = {}
        # Interfaces that went, and whether they are made anew: TAPs that were made here.
        self._lost: dict[str, bool] = {}
        self._told: dict[str, str] = {}
        self._log = BoundedLog(log)
        self._events: socket.socket | None = None

    @property
    def ports(self) -> tuple[Port, ...]:
        """The open ports, in the order of the policy."""
        return tuple(self._open[name].port for name in self._wanted if name in self._open)

    @property
    def missing(self) -> tuple[str, ...]:
        """Interfaces that are wanted and not there now; `refresh` opens them when they come back."""
        return tuple(name for name in self._wanted if name not in self._open)

    @property
    def watch_fd(self) -> int:
        """A descriptor that is readable when interfaces have changed, so that `refresh` may find something."""
        if self._events is None:
            raise ValueError("ports are watched once they are open")
        return self._events.fileno()

    def open(
        self, policy: Policy, uplinks: Iterable[str] = (), between: Callable[[], None] = lambda: None
    ) -> tuple[Port, ...]:
        """Opens the ports of a policy, and uplinks that it does not name itself. On any error none stays open.

        `between` is called before each: what it raises is such an error.
        """
        self._uplinks = tuple(uplinks)
        try:
            self._events = links.watch()
        except OSError as error:
            raise links.refusal("watching interfaces", error) from None
        try:
            return self.update(policy, between).added
        except BaseException:
            self.close()
            raise

    def update(self, policy: Policy, between: Callable[[], None] = lambda: None) -> Changes:
        """Makes the ports those of another policy; on an error all stay as they were.

        Removed ports are open still: `release` each once no worker uses it.
        """
        wanted = required_by(policy, self._uplinks)
        coming = [want for name, want in wanted.items() if self._is_new(want) and name not in self._lost]
        opened: list[_Open] = []
        claimed: dict[str, Claim | None] = {}
        try:
            # Whether an interface is another firewall's is found out before any is touched.
            for want in coming:
                claimed[want.name] = _claimed(want)
            for want in coming:
                between()
                opened.append(self._opened(want, claimed.pop(want.name)))
        except BaseException:
            for each in opened:
                self._close(each)
            for claim in claimed.values():
                _release(claim)
            raise
        removed = [o for name, o in self._open.items() if name not in wanted or self._is_new(wanted[name])]
        self._wanted = wanted
        self._lost = {name: ours for name, ours in self._lost.items() if name in wanted}
        for each in removed:
            self._remove(each)
        self._open.update((each.wanted.name, each) for each in opened)
        new = {each.wanted.name for each in opened}
        warnings: list[str] = []
        changed = []
        for each in self._open.values():
            if each.wanted.name not in new:
                warnings += each.refit(wanted[each.wanted.name])
                if self._adopt(each, wanted[each.wanted.name]):
                    changed.append(each)
        for text in warnings:
            log.warning("%s", text)
        return Changes(
            tuple(each.port for each in opened),
            tuple(o.port for o in removed),
            tuple(o.port for o in changed),
            tuple(warnings),
        )

    def rehearse(self, policy: Policy) -> tuple[str, ...]:
        """What `update` would warn of. Raises PortError for an interface that it would find missing, or another
        firewall's, or no place for; opens none.
        """
        warnings: list[str] = []
        for name, want in required_by(policy, self._uplinks).items():
            if not self._is_new(want):
                warnings += self._open[name].refit(want, dry_run=True)
            elif name not in self._lost:
                _look_for(want)
        return tuple(warnings)

    def refresh(self) -> Changes:
        """Takes out ports whose interface is gone, and opens those whose interface is back.

        For when `watch_fd` is readable, and now and then, since no event comes from other namespaces. A port whose
        namespace was deleted, or made anew under its name, is gone too. A TAP that was made here and is gone is made
        anew. What cannot be opened is logged, once, and tried again.
        """
        self._log.look()
        if self._events is not None:
            links.drain(self._events)
        gone = [o for o in self._open.values() if not o.port.is_attached or o.is_astray]
        for each in gone:
            name = each.wanted.name
            self.say(logging.WARNING, name, "is gone: its port is closed until it is back")
            self._remove(each)
            # It may be back under its number before this port is released.
            _release(each.claim)
            self._lost[each.wanted.name] = each.port.made
        back = []
        for name in self.missing:
            try:
                found = self._found_or_made(self._wanted[name], make=self._lost.get(name, True))
            except PortError as error:
                if self._told.get(name) != str(error):
                    self._told[name] = str(error)
                    self._log.say(logging.WARNING, f"interface {name}", str(error))
                continue
            if found is not None:
                self.say(logging.INFO, name, "is back")
                self._open[name] = found
                back.append(found.port)
                self._lost.pop(name, None)
                self._told.pop(name, None)
        return Changes(tuple(back), tuple(each.port for each in gone))

    def open_tunnel(self, port: Port) -> int | None:
        """A descriptor by which super-packets of tunnels leave a port that AF_PACKET reads, until it is released.

        None where there can be none; it is tried once, and the log says why.
        """
        found = self._open.get(port.name)
        if found is None or found.port.fds != port.fds or found.claim is None or found.tunnel_wanted:
            return found.tunnel if found else None
        found.tunnel_wanted = True
        index = found.claim.index
        try:
            found.tunnel = links.inside(port.namespace, lambda: tunnel_tap.open_beside(index))
        except PortError as error:
            self.say(logging.INFO, port.name, f"is sent super-packets of tunnels in pieces: {error}")
        return found.tunnel

    def say(self, level: int, interface: str, what: str) -> None:
        """Tells the log of an interface as it comes, goes or fails, not more often than people can read."""
        self._log.say(level, f"interface {interface}", f"interface {interface} {what}")

    def release(self, port: Port) -> None:
        """Closes a port that `update` or `refresh` has removed; what was set on its interface is put back."""
        found = self._removed.pop(port.fds, None)
        if found is not None:
            self._close(found)

    def close(self) -> None:
        """Closes all ports: TAPs made here go, unless they are persistent, and settings are put back."""
        for each in (*self._removed.values(), *self._open.values()):
            self._close(each)
        self._removed.clear()
        self._open.clear()
        self._wanted = {}
        if self._events is not None:
            self._events.close()
            self._events = None

    def put_back(self) -> None:
        """What `close` does to interfaces, for a process that ends now and whose workers may still use the ports."""
        for each in (*self._removed.values(), *self._open.values()):
            if each.silence is not None:
                each.silence.restore()
            _release(each.claim)

    def _is_new(self, want: Required) -> bool:
        """Whether an interface needs a port that it has not."""
        found = self._open.get(want.name)
        return found is None or (found.port.made and found.port.namespace != want.namespace)

    def _remove(self, which: _Open) -> None:
        del self._open[which.wanted.name]
        self._removed[which.port.fds] = which

    def _adopt(self, which: _Open, want: Required) -> bool:
        """Notes what a port is there for from now on; whether a worker must be told."""
        before, which.wanted = which.wanted, want
        which.port = replace(which.port, instance=want.instance, balancer=want.balancer)
        if which.silence is not None and before.is_deaf != want.is_deaf:
            which.silence.deafen(want.is_deaf)
        return before.facts != want.facts

    # ---- opening ----

    def _opened(self, want: Required, claim: Claim | None) -> _Open:
        """Opens an interface, or makes it where it is an instance's. The claim, if there is one, goes with it."""
        found = self._found_or_made(want, claim, make=True)
        if found is None:
            raise not_there(want)
        return found

    def _found_or_made(self, want: Required, claim: Claim | None = None, *, make: bool) -> _Open | None:
        """Opens an interface that exists, else makes it if that is wanted and possible."""
        home = links.identity(want.namespace)
        try:
            found = links.inside(
                want.namespace, lambda: self._taken(want, claim) or (self._made(want) if make else None)
            )
        except links.NoEntryError:
            if not make:
                raise
            found = links.inside(None, lambda: self._made(want, elsewhere=True))
        if found is not None:
            found.home = home
        return found

    def _taken(self, want: Required, claim: Claim | None) -> _Open | None:
        """Takes an interface that exists."""
        try:
            link = links.find(want.name)
            if claim is not None and (link is None or claim.index != link.index):
                _release(claim)
                claim = None
            if link is None:
                return None
            claim = claim or locks.claim(link.name, link.index)
            return self._taken_as(want, link, claim)
        except BaseException:
            _release(claim)
            raise

    def _taken_as(self, want: Required, link: Link, claim: Claim) -> _Open:
        if link.is_tap and not link.queues:
            fds = tap.attach(want.name, self._workers, multi_queue=link.multi_queue)
            if fds is not None:
                return _Open(_port(want, "tap", fds, made=False), want, claim)
        if is_damaged(claim):
            self.say(logging.WARNING, link.name, f"stays in the end as it is now: {DAMAGED}")
        silence = Silence(link, claim, deaf=want.is_deaf)
        for sentence in shared_with_host(link, is_deaf=silence.is_deaf):
            self.say(logging.WARNING, link.name, sentence)
        try:
            fds = packet_socket.open_sockets(link, self._workers)
            return _Open(_port(want, "packet", fds, made=False), want, claim, silence)
        except BaseException:
            silence.restore()
            raise

    def _made(self, want: Required, *, elsewhere: bool = False) -> _Open | None:
        """Makes a TAP for an instance, in this thread's namespace or from there in another one."""
        if want.instance is None:
            return None
        # On its way to another namespace it must not be in the way of an interface here.
        name = f"dp-{os.getpid()}" if elsewhere else want.name
        made = _Open(_port(want, "tap", tap.make(name, self._workers), made=True), want)
        try:
            index = made_tap.dress(made.port, want, on_its_way=name if elsewhere else None)
            if index is not None:
                made.claim = locks.claim(want.name, index, want.namespace)
            if not elsewhere:
                made.access = Access()
        except BaseException:
            self._close(made)
            raise
        return made

    def _close(self, which: _Open) -> None:
        tap.close(list(which.port.fds))
        if which.tunnel is not None:
            tap.close([which.tunnel])
        if which.silence is not None:
            which.silence.restore()
        if which.access is not None:
            which.access.close()
        _release(which.claim)


def _claimed(want: Required) -> Claim | None:
    """Claims an interface that exists; where nobody may look, there is nothing to claim yet."""

    def there() -> Claim | None:
        try:
            index = socket.if_nametoindex(want.name)
        except OSError:
            return None
        return locks.claim(want.name, index)

    with suppress(links.NoEntryError):
        return links.inside(want.namespace, there)
    return None


def _release(claim: Claim | None) -> None:
    if claim is not None:
        claim.release()


def _port(want: Required, kind: Literal["tap", "packet"], fds: list[int], *, made: bool) -> Port:
    return Port(want.name, kind, tuple(fds), made, want.instance, want.balancer, want.namespace)


def _look_for(want: Required) -> None:
    """Raises PortError when an interface neither exists nor can be made because of what the policy says of it."""
    if want.tap and want.tap.owner:
        user_number(want.tap.owner)
    # Where nobody may look, a TAP may still be made.
    with suppress(links.NoEntryError):
        if links.inside(want.namespace, lambda: links.find(want.name)) is None and want.instance is None:
            raise not_there(want)
    _release(_claimed(want))
