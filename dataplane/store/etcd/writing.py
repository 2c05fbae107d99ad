"""A change written into a cluster: as one transaction, or, where it is too much for one, as a new epoch."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dataplane.store import StoreChangedError, StoreError
from dataplane.store.etcd.cluster import delete, get, is_there, put, written_at
from dataplane.store.etcd.version import FORM, Head, Version, epoch_prefix, key_of, row_text

if TYPE_CHECKING:
    from dataplane.store.etcd.cluster import Cluster, Done
    from dataplane.store.rows import Writing

#: etcd takes 128 requests and 1.5 MB in one transaction, unless it is told otherwise.
_REQUESTS_MAX, _BYTES_MAX = 120, 1_000_000
#: How long an epoch may take to be written.
_WRITING_SECONDS = 300


def written(cluster: Cluster, prefix: str, seen: Version, made: Writing, now: float, by: str) -> Version:
    """The version that is kept now: that of `made`, upon the one that was seen.

    Raises StoreChangedError where another one is kept by now, and StoreError; nothing is changed then, but where the
    members are lost on the way: what is kept is then seen when they are back.
    """
    head = Head(seen.head.number + 1, now, by, secrets.token_hex(8), made.head)
    changed = {key: row for key, row in made.rows.items() if row is not seen.rows.get(key)}
    gone = [key for key in seen.rows if key not in made.rows]
    requests = [put(key_of(prefix, seen.epoch, key), row_text(row)) for key, row in changed.items()]
    requests += [delete(key_of(prefix, seen.epoch, key)) for key in gone]
    size = sum(len(json.dumps(request)) for request in requests) + len(head.text())
    if seen.is_empty or len(requests) >= _REQUESTS_MAX or size > _BYTES_MAX:
        return _new_epoch(cluster, prefix, seen, made, head)
    place = f"{epoch_prefix(prefix, seen.epoch)}head"
    compare = [written_at(f"{prefix}current", seen.current), written_at(place, seen.head.revision)]
    revision = _committed(cluster, compare, [put(place, head.text()), *requests], place, head, seen.name)
    return replace(seen, head=replace(head, revision=revision), rows=made.rows, revision=revision)


def _new_epoch(cluster: Cluster, prefix: str, seen: Version, made: Writing, head: Head) -> Version:
    epoch = secrets.token_hex(8)
    mark, place = f"{prefix}writing/{epoch}", epoch_prefix(prefix, epoch)
    lease = cluster.grant(_WRITING_SECONDS)
    try:
        cluster.transaction([], [put(mark, seen.name, lease)])
        for requests in _in_pieces([put(key_of(prefix, epoch, key), row_text(row)) for key, row in made.rows.items()]):
            # Who takes away what is left over of other writings leaves those alone that have a mark.
            if not cluster.transaction([is_there(mark)], requests).succeeded:
                raise StoreError(f"{seen.name}: the policy takes too long to be written")
        old = f"{epoch_prefix(prefix, seen.epoch)}head"
        compare = [is_there(mark), written_at(f"{prefix}current", seen.current)]
        requests = [
            put(f"{prefix}current", json.dumps({"form": FORM, "epoch": epoch})),
            put(f"{place}head", head.text()),
        ]
        if not seen.is_empty:
            # It tells those who watch the old epoch.
            compare.append(written_at(old, seen.head.revision))
            requests.append(delete(old))
        revision = _committed(cluster, compare, requests, f"{place}head", head, seen.name)
    except BaseException:
        with contextlib.suppress(StoreError):
            cluster.transaction([written_at(f"{place}head", 0)], [delete(place, prefix=True), delete(mark)])
        raise
    with contextlib.suppress(StoreError):
        cluster.revoke(lease)
        _without_leftovers(cluster, prefix, epoch)
    return Version(seen.name, epoch, revision, replace(head, revision=revision), made.rows, revision, seen.host)


def _committed(
    cluster: Cluster, compare: list[dict[str, Any]], requests: list[dict[str, Any]], place: str, head: Head, name: str
) -> int:
    """The revision of a change that is made. Raises StoreChangedError."""
    done = cluster.transaction(compare, requests, [get(place)])
    if done.succeeded:
        return done.revision
    # A member that was lost may have made it before another one was asked again.
    for found in _found(done):
        if Head.of(found[0], found[1]).token == head.token:
            return found[1]
    raise StoreChangedError(f"{name}: somebody else has changed the policy meanwhile: ask again")


def _found(done: Done) -> Iterator[tuple[str, int]]:
    from dataplane.store.etcd.cluster import found

    for answer in done.answers:
        for item in found(answer.get("response_range", {})).items:
            yield item.value, item.revision


def _without_leftovers(cluster: Cluster, prefix: str, epoch: str) -> None:
    """Takes away the epochs that are neither in force nor being written."""
    after, place = "", f"{prefix}epochs/"
    while items := cluster.range(place, prefix=True, after=after, limit=1).items:
        found = items[0].key.removeprefix(place).partition("/")[0]
        # Behind all of this epoch.
        after = f"{place}{found}0"
        if found != epoch:
            mark = f"{prefix}writing/{found}"
            cluster.transaction(
                [written_at(mark, 0), is_there(f"{epoch_prefix(prefix, epoch)}head")],
                [delete(epoch_prefix(prefix, found), prefix=True)],
            )


def _in_pieces(requests: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    piece: list[dict[str, Any]] = []
    size = 0
    for request in requests:
        length = len(json.dumps(request))
        if piece and (len(piece) >= _REQUESTS_MAX or size + length > _BYTES_MAX):
            yield piece
            piece, size = [], 0
        piece.append(request)
        size += length
    if piece:
        yield piece
