"""The log as an audit trail: each change of a running firewall with what it was, who asked for it, and what it cut.

What a change was is told by comparing the policies before and after it (differences.py), so that a single change, a
reload and another policy are told in the same words.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataplane.control.differences import differences, shortened
from dataplane.policy import PolicyError

if TYPE_CHECKING:
    from dataplane.policy import Policy

log = logging.getLogger("dataplane")

#: Differences of one change that are told one by one; the others are counted.
SHOWN_MAX = 1000
_UCRED = struct.Struct("iII")


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asked for something: a process at the other end of a Unix socket, who has a key of the API, a signal, or the
    policy itself.

    Of the API: `access_key`, the `address` that the request came from, and the request's number, `request_id`.
    """

    uid: int | None = None
    pid: int | None = None
    signal: str | None = None
    cause: str | None = None
    access_key: str | None = None
    address: str | None = None
    request_id: str | None = None

    @classmethod
    def at(cls, connection: socket.socket) -> Asker:
        """The peer of a Unix socket, as it was when it connected (SO_PEERCRED)."""
        pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return cls(uid, pid)

    def extra(self) -> dict[str, Any]:
        """The asker as fields of a log record."""
        if self.cause:
            return {"cause": self.cause}
        told = {
            "signal": self.signal,
            "uid": self.uid,
            "pid": self.pid,
            "access_key": self.access_key,
            "address": self.address,
            "request_id": self.request_id,
        }
        return {name: value for name, value in told.items() if value is not None}


#: Who asks by the library, in this process.
NOBODY = Asker()
#: A rule, whose time is over.
EXPIRY = Asker(cause="expires_at")
#: Somebody else, who has changed the policy in the store.
STORE = Asker(cause="store")


def changed(before: Policy, after: Policy, asker: Asker, *, generation: int, disconnected: Mapping[str, Any]) -> None:
    """Logs every difference, and then that the policy is in force and what that disconnected."""
    told = 0
    for told, words in enumerate(differences(before, after), 1):
        if told <= SHOWN_MAX:
            log.info("%s", shortened(words), extra={"generation": generation, **asker.extra()})
    if told > SHOWN_MAX:
        log.info("and %d more differences", told - SHOWN_MAX, extra={"generation": generation, **asker.extra()})
    extra = {"generation": generation, "differences": told, "disconnected": dict(disconnected), **asker.extra()}
    log.info("policy in force", extra=extra)


def done(what: str, asker: Asker, **more: Any) -> None:
    """Logs something else that was asked for and done."""
    log.info("%s", shortened(what), extra={**more, **asker.extra()})


def refused(what: str, why: BaseException | str, asker: Asker) -> None:
    """Logs what was asked for and not done, and why."""
    log.warning("refused: %s: %s", shortened(what), shortened(str(why)), extra=asker.extra())


def refused_policy(what: str, error: Exception, asker: Asker) -> None:
    """Logs a policy that was not put in force, and why: of its mistakes each."""
    for reason in (error.mistakes if isinstance(error, PolicyError) else [error])[:SHOWN_MAX]:
        refused(what, str(reason), asker)
