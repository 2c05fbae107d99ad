"""Which store a firewall is started with."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dataplane.atomic import without_folder
from dataplane.installation import how_to_install
from dataplane.store import StoreChangedError, StoreError
from dataplane.store.file import PolicyFile
from dataplane.terminal import printable

if TYPE_CHECKING:
    from dataplane.store import KeepingStore, Store
    from dataplane.store.etcd.store import EtcdStore


def opened(policy: Path, url: str | None, copy: Path | None = None, kind: str = "") -> Store:
    """The store with this address, which a policy file fills when it is empty; without one the policy file itself.

    `copy` is where the last good copy of a shared store is kept, unless its address names a file; `kind` is told behind
    the name of this host, where there are several that share a store on one machine. It has that name alone from here
    on. Raises PolicyError, StoreError.
    """
    file = PolicyFile(policy)
    if url is None:
        return file
    if url.startswith("etcd://"):
        shared = _shared_at(url, copy, kind)
        try:
            shared.claim_name()
            return _filled(file, shared)
        except BaseException:
            shared.close()
            raise
    store = store_at(url)
    if store.is_empty:
        with store.keeping(file.load(), time.time()):
            pass
    return store


def store_at(url: str, *, make: bool = True) -> KeepingStore:
    """The store with this address, which may be empty; unless it is to be made, it must be there. Raises StoreError."""
    # Only who has one waits for its library.
    if url.startswith("etcd://"):
        return _shared_at(url)
    from dataplane.store.sqlite import SqliteStore, path_of

    return SqliteStore(path_of(url), make=make)


def _shared_at(url: str, copy: Path | None = None, kind: str = "") -> EtcdStore:
    """A policy in an etcd cluster."""
    from dataplane.store.etcd.address import parsed

    address = parsed(url)
    address = replace(address, copy=address.copy or copy, label=address.label + kind)
    if address.copy and (why := without_folder(address.copy)):
        raise StoreError(f"{address.name}: copy {printable(str(address.copy))}: {why}")
    try:
        from dataplane.store.etcd.store import EtcdStore
    except ModuleNotFoundError as error:
        raise StoreError(
            f"{error.name} is not installed: {how_to_install('etcd')} brings what a store in etcd needs"
        ) from None
    return EtcdStore(address, filters=not kind)


def _filled(file: PolicyFile, store: EtcdStore) -> EtcdStore:
    """A store that has the policy of a file where it had none."""
    if store.is_empty:
        try:
            with store.keeping(file.load(), time.time()):
                pass
        except StoreChangedError:
            # Another host has filled it meanwhile.
            store.read_again()
    return store
