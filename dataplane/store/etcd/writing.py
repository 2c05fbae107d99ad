"""A change written into a cluster: as one transaction, or, where it is too much for one, as a new epoch."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dataplane.store import StoreAwayError, StoreChangedError, StoreError
from dataplane.store.etcd.cluster import delete, get, is_there, put, written_at
from dataplane.store.etcd.version import FORM, Head, Version, epoch_prefix, key_of, row_text

if TYPE_CHECKING:
    from dataplane.store.etcd.cluster import Cluster, Done
    from dataplane.store.rows import Key, Row, Writing

#: etcd takes 128 requests and 1.5 MB in one transaction, unless it is told otherwise.
_REQUESTS_MAX, _BYTES_MAX = 120, 1_000_000
#: How long an epoch may take to be written.
_WRITING_SECONDS = 300


def written(cluster: Cluster, prefix: str, seen: Version, made: Writing, now: float, by: str) -> Version:
    """The version that is kept now: that of `made`, upon the one that was seen.

    Raises StoreChangedError where another one is kept by now, and StoreError; nothing is changed then, but where the
    members are lost on the way: what is kept is then seen when they are back.
    """
    head = next_head(seen, made, now, by)
    requests = [put(key_of(prefix, seen.epoch, key), row_text(row)) for key, row in made.changed.items()]
    requests += [delete(key_of(prefix, seen.epoch, key)) for key in made.gone]
    size = sum(len(json.dumps(request)) for request in requests) + len(head.text())
    if seen.is_empty or len(requests) >= _REQUESTS_MAX or size > _BYTES_MAX:
        return _new_epoch(cluster, prefix, seen, made, head)
    place = f"{epoch_prefix(prefix, seen.epoch)}head"
    compare = [written_at(f"{prefix}current", seen.current), written_at(place, seen.head.revision)]
    revision = _committed(cluster, compare, [put(place, head.text()), *requests], place, head, seen.name)
    return replace(seen, head=replace(head, revision=revision), rows=made.rows, revision=revision)


def next_head(seen: Version, made: Writing, now: float, by: str) -> Head:
    """The head of the change behind a version."""
    return Head(seen.head.number + 1, now, by, secrets.token_hex(8), made.head, upon=seen.head.token)


def _new_epoch(cluster: Cluster, prefix: str, seen: Version, made: Writing, head: Head) -> Version:
    try:
        staged = stage(cluster, prefix, seen, made, head)
    except StoreAwayError as error:
        # Whatever of it is written, nobody looks at.
        raise StoreAwayError(str(error)) from None
    try:
        return put_in_place(cluster, prefix, staged)
    except BaseException:
        with contextlib.suppress(StoreError):
            discard(cluster, prefix, staged)
        raise


@dataclass(frozen=True, slots=True)
class Staged:
    """A policy that is written as an epoch and not yet the current one; it lasts as long as its lease."""

    seen: Version
    rows: Mapping[Key, Row]
    head: Head
    epoch: str
    lease: int


def stage(cluster: Cluster, prefix: str, seen: Version, made: Writing, head: Head) -> Staged:
    """Writes a policy as an epoch that nobody looks at. Raises StoreError."""
    # Of who was killed before its epoch was in place.
    with contextlib.suppress(StoreError):
        _without_leftovers(cluster, prefix, seen.epoch)
    lease = cluster.grant(_WRITING_SECONDS)
    all_rows = made.rows
    staged = Staged(seen, all_rows, head, secrets.token_hex(8), lease)
    mark = f"{prefix}writing/{staged.epoch}"
    try:
        cluster.transaction([], [put(mark, seen.name, lease)])
        rows = [put(key_of(prefix, staged.epoch, key), row_text(row)) for key, row in all_rows.items()]
        for requests in _in_pieces(rows):
            # Who takes away what is left over of other writings leaves those alone that have a mark.
            if not cluster.transaction([is_there(mark)], requests).succeeded:
                raise StoreError(f"{seen.name}: the policy takes too long to be written: do it again")
    except BaseException:
        with contextlib.suppress(StoreError):
            discard(cluster, prefix, staged)
        raise
    return staged


def put_in_place(cluster: Cluster, prefix: str, staged: Staged) -> Version:
    """Makes an epoch the current one. Raises StoreChangedError where another policy is kept than was seen."""
    seen, head = staged.seen, staged.head
    place = f"{epoch_prefix(prefix, staged.epoch)}head"
    old = f"{epoch_prefix(prefix, seen.epoch)}head"
    compare = [is_there(f"{prefix}writing/{staged.epoch}"), written_at(f"{prefix}current", seen.current)]
    requests = [put(f"{prefix}current", json.dumps({"form": FORM, "epoch": staged.epoch})), put(place, head.text())]
    if not seen.is_empty:
        # It tells those who watch the old epoch.
        compare.append(written_at(old, seen.head.revision))
        requests.append(delete(old))
    revision = _committed(cluster, compare, requests, place, head, seen.name)
    with contextlib.suppress(StoreError):
        cluster.revoke(staged.lease)
        _without_leftovers(cluster, prefix, staged.epoch)
    made = replace(head, revision=revision)
    return Version(seen.name, staged.epoch, revision, made, staged.rows, revision, seen.host)


def discard(cluster: Cluster, prefix: str, staged: Staged) -> None:
    """Takes away an epoch that has not become the current one. Raises StoreError."""
    place = epoch_prefix(prefix, staged.epoch)
    mark = f"{prefix}writing/{staged.epoch}"
    cluster.transaction([written_at(f"{place}head", 0)], [delete(place, prefix=True), delete(mark)])
    cluster.revoke(staged.lease)


def _committed(
    cluster: Cluster, compare: list[dict[str, Any]], requests: list[dict[str, Any]], place: str, head: Head, name: str
) -> int:
    """The revision of a change that is made. Raises StoreChangedError."""
    done = cluster.transaction(compare, requests, [get(place)])
    if done.succeeded:
        return done.revision
    # A member that was lost may have made it before another one was asked again.
    for found in _found(done):
        if Head.of(place, found[0], found[1]).token == head.token:
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
