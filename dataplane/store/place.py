"""Which store a firewall is started with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from dataplane.store.file import PolicyFile

if TYPE_CHECKING:
    from dataplane.store import KeepingStore, Store


def opened(policy: Path, url: str | None) -> Store:
    """The store with this address, which a policy file fills when it is empty; without one the policy file itself.

    Raises PolicyError, StoreError.
    """
    file = PolicyFile(policy)
    if url is None:
        return file
    store = store_at(url)
    if store.is_empty:
        with store.keeping(file.load(), time.time()):
            pass
    return store


def store_at(url: str) -> KeepingStore:
    """The store with this address, which may be empty. Raises StoreError."""
    # Only who has one waits for its library.
    from dataplane.store.sqlite import SqliteStore, path_of

    return SqliteStore(path_of(url))
