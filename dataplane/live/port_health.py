"""Which ports of a running firewall do not work, and what the log says when that begins and when it is over."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataplane.live.firewall import Firewall
    from dataplane.live.interfaces.ports import Ports

_NO_CARRIER = "no carrier (nobody holds the TAP, or its other end is down)"


class PortHealth:
    """The ports of a firewall as they were found when they were looked at last."""

    def __init__(self, firewall: Firewall, ports: Ports) -> None:
        self._firewall = firewall
        self._ports = ports
        # Of each port, by its descriptors: the errno with which it fails, and how many times it began to.
        self._failures: dict[tuple[int, ...], tuple[int, int]] = {}
        self._without_carrier: dict[tuple[int, ...], str] = {}

    def look(self) -> None:
        """Looks at all ports, and logs those that have begun to fail, or work again; in the control thread."""
        self._tell_failures()
        self._tell_carriers()

    def _tell_failures(self) -> None:
        """Logs each port that began to fail since this was looked at last, and each that is well again."""
        now, found = {}, self._firewall.port_failures()
        for number, port in self._firewall.ports.items():
            error, failed = found[number].error, found[number].failures
            failing, failures = self._failures.get(port.fds, (0, 0))
            now[port.fds] = (error, failed)
            if failed != failures and not failing:
                why = os.strerror(error) if error else "for a moment"
                self._ports.say(logging.WARNING, port.name, f"fails ({why}): it is tried again until it works")
            if not error and (failing or failed != failures):
                self._ports.say(logging.INFO, port.name, "works again")
        self._failures = now

    def _tell_carriers(self) -> None:
        """Logs each port whose other end nobody holds any more since this was looked at last, and each that is held."""
        now = {port.fds: port.name for port in self._firewall.ports.values() if not port.has_carrier}
        open_ports = {port.fds for port in self._firewall.ports.values()}
        for fds in now.keys() - self._without_carrier.keys():
            self._ports.say(logging.WARNING, now[fds], f"has {_NO_CARRIER}: it is served as soon as there is one")
        for fds in self._without_carrier.keys() - now.keys() & open_ports:
            self._ports.say(logging.INFO, self._without_carrier[fds], "has a carrier again")
        self._without_carrier = now

    def troubles(self) -> dict[int, str]:
        """Why ports do not work now, by number; those that work are not there."""
        found, troubles = self._firewall.port_failures(), {}
        for number, port in self._firewall.ports.items():
            if found[number].error:
                troubles[number] = os.strerror(found[number].error)
            elif port.fds in self._without_carrier:
                troubles[number] = _NO_CARRIER
        return troubles
