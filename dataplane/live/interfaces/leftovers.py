"""What a firewall that was killed has left of interfaces, put back as it was before (settings.py says what that is).

The claims that nobody has locked tell of it (locks.py): of interfaces in this thread's network namespace, and in those
that have a name. A namespace where nothing was left is not entered.
"""

from __future__ import annotations

import contextlib
import os
import socket
from functools import partial

from dataplane.live.interfaces import links, locks
from dataplane.live.interfaces.links import PortError
from dataplane.live.interfaces.settings import DAMAGED, is_damaged, put_back_left


def put_back() -> list[str]:
    """Puts back all interfaces that no firewall serves any more; their names.

    Raises PortError for what cannot be put back, a line each, once the others have been.
    """
    done: list[str] = []
    failed: list[str] = []
    for namespace, indexes in _namespaces().items():
        try:
            done += links.inside(namespace, partial(_put_back_here, indexes, failed))
        except PortError as error:
            failed.append(str(error))
    if failed:
        raise PortError("\n".join(failed))
    return done


def _namespaces() -> dict[str | None, list[int]]:
    """The claims by the name of their network namespace, None for this thread's own."""
    known = locks.abandoned()
    here = os.stat("/proc/thread-self/ns/net")
    found: dict[str | None, list[int]] = {None: known.pop((here.st_dev, here.st_ino), [])}
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = sorted(os.listdir("/run/netns"))
    for name in names:
        place = links.identity(name)
        if place in known:
            found[name] = known.pop(place)
    return found


def _put_back_here(indexes: list[int], failed: list[str]) -> list[str]:
    """Those of this thread's network namespace; their names. What cannot be put back gets a sentence in `failed`."""
    done: list[str] = []
    for index in indexes:
        claim = None
        try:
            claim = locks.left_behind(index)
            if claim is None:
                continue
            name = _name(index)
            link = links.find(name) if name else None
            if link is not None and link.index == index:
                if is_damaged(claim):
                    failed.append(f"interface {name} cannot be put back: {DAMAGED}")
                elif put_back_left(link, claim):
                    done.append(link.name)
            claim.release()
        except (OSError, PortError) as error:
            if claim is not None:
                claim.abandon()
            failed.append(f"interface {_name(index)} cannot be put back: {error}")
    return done


def _name(index: int) -> str | None:
    """Of an interface of this thread's network namespace; None where it is gone."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None
