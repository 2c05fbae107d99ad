"""How many descriptors a firewall needs, and the limit that it has (RLIMIT_NOFILE)."""

from __future__ import annotations

import resource
from contextlib import suppress

from dataplane.control import rest, unix
from dataplane.live import metrics_server
from dataplane.live.replication import CONNECTIONS_MAX

#: Of an interface besides one for each worker: its claim, and what it takes to put its settings back.
_OF_A_PORT = 4
_OF_A_WORKER = 8
#: Standard streams, sockets that listen, the event loop, netlink, and files that are open for a moment.
_OF_ITS_OWN = 32


def allow() -> int:
    """Takes as many open files as this process may have; returns how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (1 << 63) - 1 if soft == resource.RLIM_INFINITY else soft


def needed(ports: int, workers: int, api_places: int = 0) -> int:
    """How many descriptors there may be with so many ports and workers, and with all clients that are served."""
    clients = unix.CLIENTS_MAX + metrics_server.CLIENTS_MAX + 2 + api_places * (rest.CLIENTS_MAX + 2)
    clients += CONNECTIONS_MAX + 2
    return ports * (workers + _OF_A_PORT) + workers * _OF_A_WORKER + clients + _OF_ITS_OWN
